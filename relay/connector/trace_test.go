package connector_test

import (
	"net/http"
	"testing"

	"sallyport/relay/connector"
	"sallyport/tunnel"
)

func TestParseTrace(t *testing.T) {
	t.Parallel()
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for field, sampled := range map[string]bool{
		"00-" + id + "-" + span + "-01": true, "00-" + id + "-" + span + "-00": false, "00-" + id + "-" + span + "-03": true,
		"cc-" + id + "-" + span + "-01": true, "cc-" + id + "-" + span + "-01-what-comes": true,
	} {
		got, ok := connector.ParseTrace(http.Header{"Traceparent": {field}})
		if !ok || got.Sampled != sampled || got.ID[0] != 0x0a || got.ID[15] != 0x9c || got.Parent[7] != 0x31 {
			t.Errorf("%s: %+v %v", field, got, ok)
		}
	}
	for _, fields := range [][]string{
		nil,
		{""},
		{"00"},
		{"ff-" + id + "-" + span + "-01"},
		{"00-" + id + "-" + span + "-01-x"},
		{"cc-" + id + "-" + span + "-01x"},
		{"00-0AF7651916cd43dd8448eb211c80319c-" + span + "-01"},
		{"00-00000000000000000000000000000000-" + span + "-01"},
		{"00-" + id + "-0000000000000000-01"},
		{"00-" + id + "-" + span + "-0x"},
		{"00_" + id + "-" + span + "-01"},
		{"00-" + id + "-" + span + "-01", "00-" + id + "-" + span + "-01"},
	} {
		if got, ok := connector.ParseTrace(http.Header{"Traceparent": fields}); ok {
			t.Errorf("%q is taken for %+v", fields, got)
		}
	}
}

// TestTraceReachesTheAPI: a relay that exports traces puts its own span between the caller's and the API's, and passes on no
// field that is broken; without, the fields pass as they are (TestExchange).
func TestTraceReachesTheAPI(t *testing.T) {
	t.Parallel()
	const field, state = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b"
	var seen http.Header
	r := start(t, func(s *tunnel.Stream) {
		seen = s.Request().Header
		_ = s.Answer(&tunnel.Response{Status: 204}, nil)
	}, settings{options: func(o *connector.Options) {
		o.Trace = func(of connector.Trace) connector.Trace {
			of.ID[15] |= 1
			of.Span, of.Upstream = [8]byte{1}, [8]byte{0xfe}
			return of
		}
	}})
	r.do(t, http.DefaultClient, "GET", "/plant1/orders/", nil, "Traceparent", field, "Tracestate", state)
	if got := seen.Get("Traceparent"); got != "00-0af7651916cd43dd8448eb211c80319d-fe00000000000000-01" || seen.Get("Tracestate") != state {
		t.Errorf("the API sees %s, %s", got, seen.Get("Tracestate"))
	}
	if e := r.event(); e.Trace.ID[0] != 0x0a || e.Trace.Parent[0] != 0xb7 {
		t.Errorf("recorded %+v", e.Trace)
	}
	r.do(t, http.DefaultClient, "GET", "/plant1/orders/", nil, "Traceparent", "broken", "Tracestate", state)
	if got := seen.Get("Traceparent"); got != "00-00000000000000000000000000000001-fe00000000000000-00" || seen.Get("Tracestate") != "" {
		t.Errorf("with a broken field the API sees %s, %q", got, seen.Get("Tracestate"))
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x")
	f.Fuzz(func(t *testing.T, field string) {
		got, ok := connector.ParseTrace(http.Header{"Traceparent": {field}})
		if ok && (got.IsZero() || got.Parent == [8]byte{} || len(field) < 55) {
			t.Errorf("%q is taken for %+v", field, got)
		}
	})
}
