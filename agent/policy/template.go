package policy

import (
	"net/url"
	"strings"
)

// sampleValue stands for a value in a template. It is no word that a rule would have, and nothing in it needs encoding.
const sampleValue = "0sallyport0"

// DecideTemplate decides about an operation of an API's description, whose path has placeholders: "/orders/{id}". It is
// allowed if an ordinary value in each of them is; a rule that admits certain values alone (GET /orders/4711) is not enough.
func (p *Policy) DecideTemplate(method, template string) Verdict {
	return p.Decide(method, fillTemplate(template))
}

// fillTemplate puts values in, and encodes what a target cannot have as such.
func fillTemplate(template string) string {
	var b strings.Builder
	rest := template
	for rest != "" {
		text, after, open := strings.Cut(rest, "{")
		b.WriteString(encodePath(text))
		if !open {
			break
		}
		_, end, closed := strings.Cut(after, "}")
		if !closed {
			b.WriteString("%7B")
			b.WriteString(encodePath(after))
			break
		}
		b.WriteString(sampleValue)
		rest = end
	}
	return b.String()
}

// encodePath encodes what stands in descriptions without its encoding: blanks, quotes, letters beyond ASCII. What is encoded
// stays so.
func encodePath(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>\^`+"`"+`{}|?#`, c) >= 0:
			b.WriteString(strings.ReplaceAll(url.QueryEscape(string([]byte{c})), "+", "%20"))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
