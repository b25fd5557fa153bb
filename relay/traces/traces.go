// Package traces exports calls to an OpenTelemetry collector: a span for the call, one for what happens inside, and below it
// the sign-on at the API and the exchange with it.
//
// The relay alone exports. The agent measures where the time goes and sends that along with the answer, so that it needs no
// way out but its link; when its part began is worked out from that, as if the way there took as long as the way back. The
// API sees the span of the exchange as its parent (traceparent), so that its own spans find their place.
//
//	t, err := traces.New(ctx, traces.Config{Endpoint: "https://collector:4318", Ratio: 0.1, Version: v, Log: log})
//	options.Trace = t.Begin              // of connector.Options: each call that is let in
//	t.End(event)                         // when it has ended
//	t.Close(ctx)
//
// Neither waits: spans gather in a bounded queue and are dropped where the collector is too slow. They hold no path, no
// query, no header and no address.
package traces

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"sallyport/relay/connector"
)

const (
	// queue is how many spans wait for the collector; a call has two to four.
	queue = 8192
	// exportTimeout is how long the collector may take for one batch.
	exportTimeout = 10 * time.Second
)

// Config says where traces go.
type Config struct {
	// Endpoint is the collector's URL for OTLP over HTTP, without /v1/traces.
	Endpoint string
	// Headers go with each request to the collector: its API key. They are secret.
	Headers map[string]string
	// Ratio is the share of calls that are traced where the caller has not decided: 0 to 1.
	Ratio float64
	// Version is what the program calls itself.
	Version string
	Log     *slog.Logger
}

// A Tracer exports calls. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	below    uint64 // trace IDs whose first half lies below are kept
}

// New makes a Tracer. It does not call the collector yet.
func New(ctx context.Context, c Config) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.Endpoint+"/v1/traces"), otlptracehttp.WithHeaders(c.Headers),
		otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("prepare the export of traces to %s: %w", c.Endpoint, err)
	}
	r := resource.NewSchemaless(attribute.String("service.name", "sallyport-relay"), attribute.String("service.version", c.Version))
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(logged{exporter, c.Log}, sdktrace.WithMaxQueueSize(queue), sdktrace.WithExportTimeout(exportTimeout)),
		sdktrace.WithResource(r), sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(known{}),
	)
	t := &Tracer{provider: provider, tracer: provider.Tracer("sallyport/relay")}
	if t.below = uint64(c.Ratio * math.MaxUint64); c.Ratio >= 1 {
		t.below = math.MaxUint64
	}
	return t, nil
}

// logged tells the log of batches that the collector did not take, which OpenTelemetry would tell standard error.
type logged struct {
	sdktrace.SpanExporter
	log *slog.Logger
}

func (l logged) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := l.SpanExporter.ExportSpans(ctx, spans); err != nil {
		l.log.Warn("traces were not exported", "spans", len(spans), "cause", err)
	}
	return nil
}

// Begin gives a call its place: below the caller's span, whose word about keeping the trace counts, or in a new trace.
func (t *Tracer) Begin(of connector.Trace) connector.Trace {
	if of.IsZero() {
		_, _ = rand.Read(of.ID[:])
		of.Sampled = binary.BigEndian.Uint64(of.ID[:8]) <= t.below && t.below > 0
	}
	of.Span, of.Upstream = newSpanID(), newSpanID()
	return of
}

func newSpanID() (id [8]byte) {
	for id == [8]byte{} {
		binary.BigEndian.PutUint64(id[:], mathrand.Uint64())
	}
	return id
}

// End exports a call that has ended, if its trace is kept. It keeps nothing of the event.
func (t *Tracer) End(e *connector.Event) {
	if !e.Trace.Sampled || e.Trace.Span == [8]byte{} {
		return
	}
	ctx := context.Background()
	if e.Trace.Parent != [8]byte{} {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: e.Trace.ID, SpanID: e.Trace.Parent, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	call := span{name: e.Method + " " + e.Gateway + "/" + e.Connector, kind: trace.SpanKindServer, id: e.Trace.Span, from: e.Time, took: e.Took.Total}
	ctx, end := t.start(withTrace(ctx, e.Trace.ID), call, attributes(e)...)
	if e.Agent != "" {
		t.inside(ctx, e)
	}
	end(e.Status >= 500 || e.Broken, e.Code)
}

// inside exports what the agent has measured.
func (t *Tracer) inside(ctx context.Context, e *connector.Event) {
	from := e.Time.Add(e.Took.Relay + e.Took.Link/2)
	agent := span{name: "agent", kind: trace.SpanKindInternal, from: from, took: e.Took.Agent + e.Took.Auth + e.Took.Upstream}
	ctx, end := t.start(ctx, agent, attribute.String("sallyport.agent", e.Agent))
	defer end(false, "")
	from = from.Add(e.Took.Agent)
	if e.Took.Auth > 0 {
		_, end := t.start(ctx, span{name: "sign-on", kind: trace.SpanKindClient, from: from, took: e.Took.Auth})
		end(false, "")
		from = from.Add(e.Took.Auth)
	}
	if e.Took.Upstream > 0 {
		up := span{name: "upstream", kind: trace.SpanKindClient, id: e.Trace.Upstream, from: from, took: e.Took.Upstream}
		_, end := t.start(ctx, up, attribute.Int("http.response.status_code", e.Status))
		end(e.Status >= 500, "")
	}
}

func attributes(e *connector.Event) []attribute.KeyValue {
	list := []attribute.KeyValue{
		attribute.String("http.request.method", e.Method), attribute.Int("http.response.status_code", e.Status),
		attribute.String("sallyport.gateway", e.Gateway), attribute.String("sallyport.connector", e.Connector),
		attribute.String("sallyport.request_id", e.ID),
	}
	if e.Code != "" {
		list = append(list, attribute.String("sallyport.problem", e.Code), attribute.String("sallyport.origin", e.Origin))
	}
	if e.FlowRun != "" {
		list = append(list, attribute.String("sallyport.flow_run", e.FlowRun))
	}
	return list
}

// A span is one that has ended already.
type span struct {
	name string
	kind trace.SpanKind
	id   [8]byte // zero: any
	from time.Time
	took time.Duration
}

// start begins a span as of s.from; end ends it as of s.took later.
func (t *Tracer) start(ctx context.Context, s span, more ...attribute.KeyValue) (_ context.Context, end func(failed bool, why string)) {
	ctx, sp := t.tracer.Start(context.WithValue(ctx, spanKey{}, s.id), s.name, trace.WithTimestamp(s.from), trace.WithSpanKind(s.kind),
		trace.WithAttributes(more...))
	return ctx, func(failed bool, why string) {
		if failed {
			sp.SetStatus(codes.Error, why)
		}
		sp.End(trace.WithTimestamp(s.from.Add(s.took)))
	}
}

// known gives spans the IDs that were told to others before the spans were made. They come by the context.
type (
	known    struct{}
	traceKey struct{}
	spanKey  struct{}
)

func withTrace(ctx context.Context, id [16]byte) context.Context {
	return context.WithValue(ctx, traceKey{}, id)
}

func (known) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := ctx.Value(traceKey{}).([16]byte)
	return id, known{}.NewSpanID(ctx, id)
}

func (known) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if id, _ := ctx.Value(spanKey{}).([8]byte); id != [8]byte{} {
		return id
	}
	return newSpanID()
}

// Close sends what still waits, until ctx ends.
func (t *Tracer) Close(ctx context.Context) {
	_ = t.provider.Shutdown(ctx) // what the exporter could not do it has told the log
}
