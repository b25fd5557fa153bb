package policy

import (
	"net/url"
	"slices"
	"strings"
)

// sampleValue stands for a value in a template. It is no word that a rule would have, and nothing in it needs encoding.
const sampleValue = "0sallyport0"

// sampleMethod is one that only the methods * admit.
const sampleMethod = "0METHOD"

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

// Wider gives a rule without conditions that admits what the rule of this index, which has some, admits, "" if there is none:
// then the conditions bind nobody.
func (p *Policy) Wider(index int) string {
	r := p.rules[index]
	if r.when == nil {
		return ""
	}
	path := strings.TrimLeft(strings.SplitN(r.text, " ", 2)[1], " ")
	path = strings.ReplaceAll(strings.ReplaceAll(path, ":encoded}", "}"), "/**", "/"+sampleValue)
	methods := r.methods
	if methods == nil {
		methods = []string{sampleMethod}
	}
	for _, other := range p.rules {
		alone := &Policy{rules: []*rule{other}}
		alone.root.add(other)
		admits := func(m string) bool { return alone.DecideTemplate(m, path).Allowed }
		if other.when == nil && !slices.ContainsFunc(methods, func(m string) bool { return !admits(m) }) {
			return other.text
		}
	}
	return ""
}
