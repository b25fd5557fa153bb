package policy

import "strings"

// maxAdmit bounds a proposed rule, in bytes: it is there to be read.
const maxAdmit = 300

// admit proposes the narrowest sensible rule for a request, "" if there is none.
func admit(method string, t *target) string {
	if method != strings.ToUpper(method) || strings.Contains(method, "*") || !(&rule{}).admitsMethod(method) {
		return ""
	}
	var b strings.Builder
	b.WriteString(method)
	b.WriteByte(' ')
	for _, s := range t.segments {
		b.WriteByte('/')
		switch {
		case s.risk&^rawParameter != 0:
			if !encodedIsSafe(s.text) {
				return ""
			}
			b.WriteString("{value:encoded}")
		case isKey(s.text):
			b.WriteString("{id}")
		default:
			b.WriteString(escape(s.text))
		}
		if b.Len() > maxAdmit {
			return ""
		}
	}
	return b.String()
}

// isKey reports whether a segment looks like the key of one of many: a number or a GUID.
func isKey(s string) bool {
	digits := strings.Trim(s, "0123456789") == ""
	guid := len(s) == 36 && strings.Count(s, "-") == 4 && strings.Trim(s, "0123456789abcdefABCDEF-") == ""
	return s != "" && (digits || guid)
}

// escape writes decoded text as a rule or a target has it: percent-encoded where it is not a plain character of a path
// (RFC 3986 section 3.3) or has a meaning in rules.
func escape(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c > ' ' && c < 0x7f && strings.IndexByte("\"#%*/<>?[\\]^`{|}", c) < 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&0xf]})
	}
	return b.String()
}
