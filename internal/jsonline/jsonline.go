// Package jsonline appends the parts of a JSON object to a line, for records that are written for every call: relay's
// access log and the agent's audit record. encoding/json would take most of the time that a record may cost.
//
// It is not for anything that is read by people or written seldom: use encoding/json there.
//
//	b = append(b, `{"v":1`...)
//	b = jsonline.AppendText(b, "path", path)
//	b = append(b, '}', '\n')
package jsonline

import (
	"strconv"
	"unicode/utf16"
)

// AppendName appends the name of a further member, which must need no escape.
func AppendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// AppendInt appends a further member with a number.
func AppendInt(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(AppendName(b, name), n, 10)
}

// AppendText appends a further member with a string.
func AppendText(b []byte, name, value string) []byte {
	return AppendString(AppendName(b, name), value)
}

// AppendString appends a string in quotes. It leaves printable ASCII alone and escapes the rest, so that whatever a stranger
// chose begins no line of its own and means nothing to a terminal: encoding/json lets DEL and the C1 controls pass. What is
// not UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	plain := 0
	for plain < len(s) && s[plain] >= ' ' && s[plain] < 0x7f && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	b = append(b, s[:plain]...)
	for _, r := range s[plain:] {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ' && r < 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = appendEscape(appendEscape(b, high), low)
		default:
			b = appendEscape(b, r)
		}
	}
	return append(b, '"')
}

func appendEscape(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
