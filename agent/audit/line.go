package audit

import (
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
)

// appendLine appends e as one line of JSON. By hand, because it runs for each call; TestLinesAreWhatTheTagsSay holds it
// against the tags of Event. Whatever a caller chose is escaped, so that nobody can begin a line of his own, and nothing
// in the file means anything to a terminal.
func appendLine(b []byte, e Event) []byte {
	e = e.bounded()
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, formatVersion, 10)
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","event":`...)
	b = appendString(b, string(e.Kind))
	for _, f := range [...]struct{ name, value string }{
		{"request", e.Request},
		{"api", e.API},
		{"method", e.Method},
		{"path", e.Path},
		{"caller", e.Caller},
		{"verdict", e.Verdict},
		{"rule", e.Rule},
	} {
		b = appendText(b, f.name, f.value)
	}
	b = appendFlow(b, e.Flow)
	b = appendInt(b, "status", int64(e.Status))
	b = appendInt(b, "bytes_in", e.In)
	b = appendInt(b, "bytes_out", e.Out)
	if e.Millis != 0 {
		b = strconv.AppendFloat(appendName(b, "ms"), e.Millis, 'f', -1, 64)
	}
	for _, f := range [...]struct{ name, value string }{
		{"auth", e.Auth},
		{"problem", e.Problem},
		{"detail", e.Detail},
		{"gateway", e.Gateway},
		{"agent", e.Agent},
		{"relay", e.Relay},
		{"version", e.Version},
		{"hash", e.Hash},
		{"key", e.Key},
	} {
		b = appendText(b, f.name, f.value)
	}
	if e.Lost != 0 {
		b = strconv.AppendUint(appendName(b, "lost"), e.Lost, 10)
	}
	return append(b, '}', '\n')
}

// appendFlow writes the flow's IDs in their order, so that equal events are equal lines.
func appendFlow(b []byte, flow map[string]string) []byte {
	if len(flow) == 0 {
		return b
	}
	b = append(appendName(b, "flow"), '{')
	for i, name := range slices.Sorted(maps.Keys(flow)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		b = appendString(b, flow[name])
	}
	return append(b, '}')
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendInt(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(appendName(b, name), n, 10)
}

func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(appendName(b, name), value)
}

// appendString leaves printable ASCII alone and escapes the rest; what is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
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
