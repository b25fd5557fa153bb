package traces_test

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"sallyport/relay/connector"
	"sallyport/relay/traces"
)

// collect is a collector that gives what it was sent, and a Tracer that exports to it.
func collect(t *testing.T, ratio float64) (*traces.Tracer, func() map[string]*otlp.Span) {
	t.Helper()
	spans := map[string]*otlp.Span{}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var q collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &q); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Key") != "hush" {
			t.Errorf("%s: %v", r.URL, err)
		}
		if err != nil {
			t.Error(err)
		}
		for _, rs := range q.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					spans[s.GetName()] = s
				}
			}
		}
	}))
	t.Cleanup(srv.Close)
	tr, err := traces.New(t.Context(), traces.Config{
		Endpoint: srv.URL, Headers: map[string]string{"X-Key": "hush"}, Ratio: ratio, Version: "1", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr, func() map[string]*otlp.Span {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		tr.Close(ctx)
		return spans
	}
}

func TestSpansOfACall(t *testing.T) {
	t.Parallel()
	tr, end := collect(t, 0)
	parent, ok := connector.ParseTrace(http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}})
	if !ok {
		t.Fatal("no trace")
	}
	from := time.Unix(1_700_000_000, 0)
	const ms = time.Millisecond
	e := &connector.Event{
		Time: from, ID: "r1", Gateway: "plant1", Connector: "orders", Method: "GET", Path: "/secret", Status: 502, Code: "upstream-broken",
		Origin: "agent", Agent: "a1", Remote: "192.0.2.1", Trace: tr.Begin(parent),
		Took: connector.Took{Total: 100 * ms, Relay: 10 * ms, Link: 20 * ms, Agent: 5 * ms, Auth: 15 * ms, Upstream: 40 * ms, Answer: 10 * ms},
	}
	tr.End(e)
	spans := end()
	for name, want := range map[string]struct {
		below    string
		from, to time.Duration
	}{
		"GET plant1/orders": {"", 0, 100 * ms}, "agent": {"GET plant1/orders", 20 * ms, 80 * ms},
		"sign-on": {"agent", 25 * ms, 40 * ms}, "upstream": {"agent", 40 * ms, 80 * ms},
	} {
		s := spans[name]
		if s == nil {
			t.Fatalf("no span %q in %v", name, spans)
		}
		parent := "b7ad6b7169203331"
		if want.below != "" {
			parent = hex.EncodeToString(spans[want.below].GetSpanId())
		}
		if got := hex.EncodeToString(s.GetParentSpanId()); got != parent {
			t.Errorf("%s lies below %s, want %s", name, got, parent)
		}
		if hex.EncodeToString(s.GetTraceId()) != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s is in another trace", name)
		}
		if s.GetStartTimeUnixNano() != uint64(from.Add(want.from).UnixNano()) || s.GetEndTimeUnixNano() != uint64(from.Add(want.to).UnixNano()) {
			t.Errorf("%s lasts from %d to %d", name, s.GetStartTimeUnixNano(), s.GetEndTimeUnixNano())
		}
	}
	if [8]byte(spans["upstream"].GetSpanId()) != e.Trace.Upstream || [8]byte(spans["GET plant1/orders"].GetSpanId()) != e.Trace.Span {
		t.Error("spans have other IDs than others were told")
	}
	if s := spans["GET plant1/orders"]; s.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR || s.GetStatus().GetMessage() != "upstream-broken" {
		t.Errorf("the call's status is %v", s.GetStatus())
	}
	for name, s := range spans {
		if text := s.String(); strings.Contains(text, "secret") || strings.Contains(text, "192.0.2.1") {
			t.Errorf("%s tells too much: %s", name, text)
		}
	}
}

func TestWhatIsKept(t *testing.T) {
	t.Parallel()
	unsampled := connector.Trace{ID: [16]byte{1}, Parent: [8]byte{1}}
	for ratio, want := range map[float64]bool{0: false, 1: true} {
		tr, end := collect(t, ratio)
		if got := tr.Begin(connector.Trace{}); got.Sampled != want || got.IsZero() || got.Parent != [8]byte{} {
			t.Errorf("ratio %v: %+v", ratio, got)
		}
		if got := tr.Begin(unsampled); got.Sampled {
			t.Error("a trace that the caller does not keep is kept")
		}
		tr.End(&connector.Event{Trace: tr.Begin(unsampled)})
		tr.End(&connector.Event{})
		if spans := end(); len(spans) > 0 {
			t.Errorf("exported %v", spans)
		}
	}
	tr, end := collect(t, 0.5)
	defer end()
	kept := 0
	for range 1000 {
		if tr.Begin(connector.Trace{}).Sampled {
			kept++
		}
	}
	if kept < 350 || kept > 650 {
		t.Errorf("of 1000 calls %d are kept, at a ratio of one half", kept)
	}
}
