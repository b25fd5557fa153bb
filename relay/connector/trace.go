package connector

import (
	"encoding/hex"
	"net/http"
	"strings"
)

// A Trace places a call in a distributed trace (W3C Trace Context, https://www.w3.org/TR/trace-context).
type Trace struct {
	// ID is the trace's; zero: the call belongs to none.
	ID [16]byte
	// Parent is the caller's span; zero if the trace begins here.
	Parent [8]byte
	// Span is the call's own, Upstream that of the exchange with the API, which the API sees as its parent. Both are zero
	// unless the relay exports the trace.
	Span, Upstream [8]byte
	// Sampled says that the trace is kept.
	Sampled bool
}

// IsZero says whether the call belongs to no trace.
func (t Trace) IsZero() bool { return t.ID == [16]byte{} }

// ParseTrace reads the caller's traceparent. Versions that we do not know are read as far as version 0 goes, as the standard
// wants; several fields or a broken one are no trace.
func ParseTrace(h http.Header) (t Trace, ok bool) {
	fields := h["Traceparent"]
	if len(fields) != 1 {
		return Trace{}, false
	}
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	s := fields[0]
	if len(s) < length || s[:2] == "ff" || s[:2] == "00" && len(s) != length || len(s) > length && s[length] != '-' {
		return Trace{}, false
	}
	if s[2] != '-' || s[35] != '-' || s[52] != '-' || strings.ToLower(s[:length]) != s[:length] {
		return Trace{}, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		into []byte
		text string
	}{{version[:], s[:2]}, {t.ID[:], s[3:35]}, {t.Parent[:], s[36:52]}, {flags[:], s[53:55]}} {
		if _, err := hex.Decode(part.into, []byte(part.text)); err != nil {
			return Trace{}, false
		}
	}
	t.Sampled = flags[0]&1 != 0
	return t, !t.IsZero() && t.Parent != [8]byte{}
}

// header is the traceparent field for the API: its parent is the exchange with it.
func (t Trace) header() string {
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.ID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.Upstream[:])
	if t.Sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}

// trace gives the call its place in a trace. A relay that exports none passes on what the caller sent.
func (c *call) trace(h http.Header) {
	t, ok := ParseTrace(h)
	if c.p.o.Trace == nil {
		c.event.Trace = t
		return
	}
	if !ok { // what is broken is not passed on, and its state belongs to it
		delete(h, "Traceparent")
		delete(h, "Tracestate")
	}
	c.event.Trace = c.p.o.Trace(t)
	if !c.event.Trace.IsZero() {
		h["Traceparent"] = []string{c.event.Trace.header()}
	}
}
