package upstream

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// An edit replaces text[from:to].
type edit struct {
	from, to int
	with     string
}

// replace appends a JSON string, quotes included, with its links public. All that is not the address stays as it is spelled.
func (s *linkScanner) replace(out, quoted []byte) []byte {
	raw := string(quoted[1 : len(quoted)-1])
	text, places := spelled(raw)
	edits := s.links.edits(text, s.public)
	if len(edits) == 0 {
		return append(out, quoted...)
	}
	out = append(out, '"')
	done := 0
	for _, e := range edits {
		from, to := places(e.from), places(e.to)
		with := e.with
		if strings.Contains(raw[from:to], `\/`) || strings.Contains(strings.ToLower(raw[from:to]), `\u002f`) {
			with = strings.ReplaceAll(with, "/", `\/`)
		}
		out = append(append(out, raw[done:from]...), with...)
		done = to
	}
	return append(append(out, raw[done:]...), '"')
}

// spelled undoes the escapes of a JSON string, and gives a function from places in the text to those in what it was.
func spelled(raw string) (text string, places func(int) int) {
	if !strings.Contains(raw, `\`) {
		return raw, func(i int) int { return i }
	}
	var b strings.Builder
	at := make([]int, 0, len(raw)+1)
	add := func(s string, from int) {
		for range len(s) {
			at = append(at, from)
		}
		b.WriteString(s)
	}
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			add(raw[i:i+1], i)
			i++
			continue
		}
		if raw[i+1] != 'u' {
			add(string(map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\', '/': '/'}[raw[i+1]]), i)
			i += 2
			continue
		}
		r, n := hex4(raw[i+2:]), 6
		if utf16.IsSurrogate(r) {
			low := rune(utf8.RuneError)
			if len(raw) >= i+12 && raw[i+6] == '\\' && raw[i+7] == 'u' {
				low = hex4(raw[i+8:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				n = 12
			}
		}
		add(string(r), i)
		i += n
	}
	at = append(at, len(raw))
	return b.String(), func(i int) int { return at[i] }
}

func hex4(s string) (r rune) {
	for i := range 4 {
		r = r<<4 | rune(unhex(s[i]))
	}
	return r
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// edits finds in a value the address of the API where it begins, and where it stands percent-encoded in the query.
func (l *links) edits(text, public string) (list []edit) {
	if n := l.address(text); n >= 0 {
		list = append(list, edit{0, n, public})
	}
	path, _, _ := strings.Cut(text, "#")
	start := strings.IndexByte(path, '?')
	if start < 0 {
		return list
	}
	for at := start + 1; at <= len(path); {
		end := len(path)
		if i := strings.IndexByte(path[at:], '&'); i >= 0 {
			end = at + i
		}
		if i := strings.IndexByte(path[at:end], '='); i >= 0 {
			if e, ok := l.encodedEdit(path[at+i+1:end], public); ok {
				e.from, e.to = e.from+at+i+1, e.to+at+i+1
				list = append(list, e)
			}
		}
		at = end + 1
	}
	return list
}

// address is how many bytes at the beginning of a link are the API's address and base path; -1 if it does not lead there.
func (l *links) address(ref string) int {
	const mark = "\x00"
	if ref != strings.TrimSpace(ref) || strings.HasPrefix(ref, mark) {
		return -1
	}
	out, ok := l.public(ref, mark)
	below, changed := strings.CutPrefix(out, mark)
	if !ok || !changed {
		return -1
	}
	return len(ref) - len(below)
}

// encodedEdit looks at a value of a query: a whole URL, percent-encoded.
func (l *links) encodedEdit(value, public string) (edit, bool) {
	lower := strings.ToLower(value)
	if !strings.HasPrefix(lower, "http%3a%2f%2f") && !strings.HasPrefix(lower, "https%3a%2f%2f") {
		return edit{}, false
	}
	text, at := make([]byte, 0, len(value)), make([]int, 0, len(value)+1)
	for i := 0; i < len(value); {
		at = append(at, i)
		if value[i] == '%' && i+2 < len(value) && isHex(value[i+1]) && isHex(value[i+2]) {
			text = append(text, unhex(value[i+1])<<4|unhex(value[i+2]))
			i += 3
			continue
		}
		text = append(text, value[i])
		i++
	}
	at = append(at, len(value))
	n := l.address(string(text))
	if n <= 0 {
		return edit{}, false
	}
	return edit{0, at[n], percentEncode(public, strings.Contains(value[:at[n]], "%3a"))}, true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// percentEncode leaves letters, digits and "-._~" (RFC 3986 section 2.3).
func percentEncode(s string, lower bool) string {
	digits := "0123456789ABCDEF"
	if lower {
		digits = "0123456789abcdef"
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', digits[c>>4], digits[c&15]})
	}
	return b.String()
}
