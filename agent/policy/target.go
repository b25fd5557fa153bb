package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A target is a request target as read once, strictly.
type target struct {
	segments []segment
	lastRisk int // index of the last segment with a risk, -1 if there is none
}

// A segment is what stands between two slashes. The one after a final slash has no text.
type segment struct {
	text string // percent-decoded once
	risk risk   // what could make two programs read it differently, none: it matches any placeholder
}

// risk is a set of things that only a rule which spells them out, or asks for them, may admit.
type risk uint8

const (
	rawParameter     risk = 1 << iota // a ";" as such: path parameters, which some programs cut off
	encodedSeparator                  // %2F %5C %3B %3F %23: structure, for a program that decodes first and splits then
	doubleEncoding                    // %25 and two hex digits: something else after a second decoding
	lookalike                         // a character that some programs turn into "/", "\" or "%"
)

func (r risk) reason() string {
	switch {
	case r&doubleEncoding != 0:
		return "the path has a part that is percent-encoded twice, which programs read differently"
	case r&encodedSeparator != 0:
		return "the path has an encoded separator (one of / \\ ; ? #), which programs read differently"
	case r&lookalike != 0:
		return "the path has a character that some programs take for a separator"
	default:
		return "the path has a \";\", which programs read differently"
	}
}

// readTarget reads a request target, appending its segments to room. The fault is why the target is refused whatever the
// rules are, "" if it is not; it is not a field of target, since then room could not be on the stack.
func readTarget(raw string, room []segment) (t target, fault string) {
	path, query, _ := strings.Cut(raw, "?")
	if path == "" || path[0] != '/' {
		return t, "the request target does not begin with \"/\""
	}
	if fault := badQuery(query); fault != "" {
		return t, fault
	}
	return readPath(path[1:], room)
}

func readPath(path string, room []segment) (t target, fault string) {
	t = target{segments: room, lastRisk: -1}
	for more := true; more; {
		var raw string
		raw, path, more = strings.Cut(path, "/")
		if raw == "" && more {
			return t, "the path has an empty segment (//)"
		}
		s, fault := readSegment(raw)
		if fault != "" {
			return t, fault
		}
		if len(t.segments) == MaxSegments {
			return t, "the path has more than 256 segments"
		}
		if s.risk != 0 {
			t.lastRisk = len(t.segments)
		}
		t.segments = append(t.segments, s)
	}
	return t, ""
}

// readSegment decodes a segment. The fault is what no rule admits.
func readSegment(raw string) (s segment, fault string) {
	encoded := false
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == '%':
			encoded = true
		case c == ';':
			s.risk |= rawParameter
		case c <= ' ' || c == 0x7f:
			return s, "the path has a control byte or a space (it must be percent-encoded)"
		case c >= 0x80:
			return s, "the path has a byte beyond ASCII (it must be percent-encoded)"
		case c == '\\':
			return s, "the path has a \"\\\", which programs read differently"
		case c == '#':
			return s, "the request target has a \"#\" (it must be percent-encoded)"
		}
	}
	s.text = raw
	if encoded {
		var ok bool
		if s.text, ok = unescape(raw); !ok {
			return s, "the path has a \"%\" that is not followed by two hex digits"
		}
		more, fault := inspect(s.text)
		if fault != "" {
			return s, fault
		}
		if s.risk |= more &^ rawParameter; strings.Count(s.text, ";") > strings.Count(raw, ";") {
			s.risk |= encodedSeparator
		}
	}
	if hasDotSegment(s.text) {
		return s, "the path has a dot segment (. or ..)"
	}
	if s.text != "" && isBlank(s.text) {
		return s, "the path has a segment that is blank"
	}
	return s, ""
}

// inspect looks for what a decoded text must not have (fault) and what only some rules admit.
func inspect(text string) (r risk, fault string) {
	if !utf8.ValidString(text) {
		return 0, "the path has an encoded part that is not UTF-8"
	}
	for i, c := range text {
		switch {
		case unicode.IsControl(c):
			return 0, "the path has an encoded control character"
		case c == ';':
			r |= rawParameter
		case c == '%':
			if isEscape(text[i:]) {
				r |= doubleEncoding
			}
		case c == '/' || c == '\\' || c == '?' || c == '#':
			r |= encodedSeparator
		case c >= 0x80 && plainOf(c) != c && plainOf(c) != '.':
			r |= lookalike
		}
	}
	return r, ""
}

// plainOf gives the ASCII separator, dot or percent sign that Unicode's compatibility forms (NFKC) or Windows' best-fit
// conversion make of a character, and other characters as they are. ／ (U+FF0F) becomes "/" in many programs, and so
// does ⁄ (U+2044) in code page 1252; ¥ becomes "\" in code page 932.
func plainOf(c rune) rune {
	switch c {
	case 0xff0f, 0x2044, 0x2215, 0x2100, 0x2101, 0x2105, 0x2106:
		return '/'
	case 0xff3c, 0xfe68, 0x2216, 0xa5, 0x20a9:
		return '\\'
	case 0xff05, 0xfe6a:
		return '%'
	case 0xff0e, 0xfe52, 0x2024, 0x2025, 0xfe30, 0x2026, 0xfe19:
		return '.'
	}
	return c
}

// isEscape reports whether s begins with %XX, or with the %uXXXX that IIS once knew.
func isEscape(s string) bool {
	if len(s) >= 6 && (s[1] == 'u' || s[1] == 'U') {
		return isHex(s[2]) && isHex(s[3]) && isHex(s[4]) && isHex(s[5])
	}
	return len(s) >= 3 && isHex(s[1]) && isHex(s[2])
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&0xf + 9
}

// unescape undoes percent-encoding once. ok is false if a "%" is not followed by two hex digits.
func unescape(s string) (text string, ok bool) {
	var b strings.Builder
	b.Grow(len(s))
	ok = true
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '%':
			b.WriteByte(s[i])
		case len(s)-i >= 3 && isHex(s[i+1]) && isHex(s[i+2]):
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
		default:
			b.WriteByte('%')
			ok = false
		}
	}
	return b.String(), ok
}

// hasDotSegment reports whether a program that splits text at any separator could find a part which means "here" or
// "up": dots alone, or dots with what some programs drop (Windows drops final dots and spaces, so "..." and ".. " are
// suspect too; others drop characters without width).
func hasDotSegment(text string) bool {
	dots, other := 0, 0
	for _, c := range text {
		switch c = plainOf(c); {
		case c == '/' || c == '\\' || c == ';' || c == '?' || c == '#':
			if dots > 0 && other == 0 {
				return true
			}
			dots, other = 0, 0
		case c == '.':
			dots++
		case !isDropped(c):
			other++
		}
	}
	return dots > 0 && other == 0
}

// isBlank reports whether text has nothing in it but separators and what some programs drop.
func isBlank(text string) bool {
	for _, c := range text {
		c = plainOf(c)
		if c != '/' && c != '\\' && c != ';' && c != '?' && c != '#' && c != '.' && !isDropped(c) {
			return false
		}
	}
	return true
}

func isDropped(c rune) bool {
	return c == '+' || unicode.IsSpace(c) || unicode.Is(unicode.Cf, c)
}

// encodedIsSafe reports whether the text of a segment for {path:encoded}, decoded once, holds nothing dangerous after a
// second decoding either, and nothing that is encoded a third time.
func encodedIsSafe(text string) bool {
	if hasDotSegment(text) {
		return false
	}
	again, _ := unescape(text)
	if again == text {
		return !strings.Contains(text, "%u") && !strings.Contains(text, "%U")
	}
	more, fault := inspect(again)
	return fault == "" && more&doubleEncoding == 0 && !hasDotSegment(again) && !isBlank(again)
}

func badQuery(query string) string {
	for i := 0; i < len(query); i++ {
		switch c := query[i]; {
		case c <= ' ' || c == 0x7f:
			return "the query has a control byte or a space (it must be percent-encoded)"
		case c == '#':
			return "the request target has a \"#\" (it must be percent-encoded)"
		case c == '%':
			if len(query)-i < 3 || !isHex(query[i+1]) || !isHex(query[i+2]) {
				return "the query has a \"%\" that is not followed by two hex digits"
			}
			if query[i+1] == '0' && query[i+2] == '0' {
				return "the query has an encoded NUL (%00)"
			}
		}
	}
	return ""
}
