package audit

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/jsonline"
)

// appendLine appends e as record n, as one line of JSON without its end: the chain adds that. By hand, because it runs for
// each call; TestLinesAreWhatTheTagsSay holds it against the tags of Event. Members that are zero are left out.
func appendLine(b []byte, n uint64, e Event) []byte {
	e = e.bounded()
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, formatVersion, 10)
	b = strconv.AppendUint(jsonline.AppendName(b, "n"), n, 10)
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","event":`...)
	b = jsonline.AppendString(b, string(e.Kind))
	for _, f := range [...]struct{ name, value string }{
		{"request", e.Request},
		{"api", e.API},
		{"method", e.Method},
		{"path", e.Path},
		{"caller", e.Caller},
		{"principal", e.Principal},
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
		b = strconv.AppendFloat(jsonline.AppendName(b, "ms"), e.Millis, 'f', -1, 64)
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
		{"was", e.Was},
		{"key", e.Key},
		{"public", e.Public},
		{"file", e.File},
		{"head", e.Head},
	} {
		b = appendText(b, f.name, f.value)
	}
	if e.Lost != 0 {
		b = strconv.AppendUint(jsonline.AppendName(b, "lost"), e.Lost, 10)
	}
	if e.Last != 0 {
		b = strconv.AppendUint(jsonline.AppendName(b, "last"), e.Last, 10)
	}
	return b
}

// appendFlow writes the flow's IDs in their order, so that equal events are equal lines.
func appendFlow(b []byte, flow map[string]string) []byte {
	if len(flow) == 0 {
		return b
	}
	b = append(jsonline.AppendName(b, "flow"), '{')
	for i, name := range slices.Sorted(maps.Keys(flow)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonline.AppendString(b, name), ':')
		b = jsonline.AppendString(b, flow[name])
	}
	return append(b, '}')
}

func appendInt(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	return jsonline.AppendInt(b, name, n)
}

func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return jsonline.AppendText(b, name, value)
}
