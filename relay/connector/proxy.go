// Package connector is what the relay publishes: the directory of connectors, and the Proxy that takes a caller's
// request for one of them, authenticates the caller, applies the connector's limits, carries the exchange over a link
// and words every failure.
//
// It does not decide which connector a request is for (the route table in package relay does), knows no internal
// address and no rule of the agent's. It parses no HTTP: net/http faces the callers, and only structured heads travel on
// a link.
//
// The order of reading: directory.go, key.go and user.go (what is published, for whom), proxy.go and call.go (one call from
// begin to end), auth.go, token.go, guard.go, rate.go, cors.go, header.go, forward.go, query.go (what is checked and removed),
// exchange.go, upload.go, answer.go, upgrade.go (over the link), problem.go and codes.go (what a caller reads when it
// fails). Calls that outlive their callers are beside that: outlive.go (settings), supervise.go and handover.go (a call of
// its own goroutine), operations.go (its answer), once.go, hook.go, share.go; reserved.go is what lies at "/_/".
//
//	p := connector.NewProxy(connector.Options{Links: registry, PublicURL: u, Log: log})
//	p.Serve(w, r, connector.Place{Published: pub, Target: "/orders/7?full=1"})
package connector

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/gateway"
	"sallyport/relay/operation"
)

// Links picks the link that a request travels on; gateway.Registry does.
type Links interface {
	Pick(gateway, api string, exclude ...*gateway.Link) (*gateway.Link, error)
	// PickSoon is Pick for a request; it waits for agents that should be back soon.
	PickSoon(ctx context.Context, gateway, api string, exclude ...*gateway.Link) (*gateway.Link, error)
}

// Options of a Proxy. Where nothing else is said, zero means the default.
type Options struct {
	// Links is required.
	Links Links
	// PublicURL is where callers reach the relay: scheme and host, and a port if need be. Required.
	PublicURL *url.URL
	// Log takes the causes of failed calls; nil discards them.
	Log *slog.Logger
	// Record takes each call's event when it has ended. It must not block and must not keep the event. Nil: no record.
	Record func(*Event)
	// Trace gives a call that is let in its place in a trace, below the one that the caller named, or zero. It must not
	// block. Nil: the relay exports none, and passes on what the caller sent.
	Trace func(Trace) Trace
	// Trusted are the proxies in front of the relay.
	Trusted Trusted

	// Operations keeps what outlives its caller. Nil: no call is deferred, no repeat known, no webhook's address signed.
	Operations *operation.Ledger
	// Shared makes what a link to a connector's definition gives out; the error is a *Problem, or is logged. Nil: there are
	// no such links.
	Shared func(context.Context, *Published, Share) ([]byte, error)

	// HeaderLimit bounds a request's header fields, in bytes. Default 128 kB.
	HeaderLimit int
	// BodyLimit bounds a request's body, in bytes, for connectors that say nothing else. Default 100 MB.
	BodyLimit int64
	// Concurrent is how many calls may be under way, ConcurrentEach how many of one connector. Default 8192 and 2048.
	Concurrent, ConcurrentEach int

	// AnswerTimeout is how long a caller is held until the head of the answer, and through each silence after it.
	// Default 230 s, just below what Azure's front ends wait.
	AnswerTimeout time.Duration
	// PlatformTimeout is the same for Power Platform, from the request's arrival. Default 110 s: it hangs up at 120 s.
	PlatformTimeout time.Duration
	// CallerTimeout is how long a caller may send or take nothing while it should. Default 75 s.
	CallerTimeout time.Duration
	// IdleTimeout ends upgraded exchanges and event streams in which nothing moves. Default 15 min.
	IdleTimeout time.Duration
	// Linger is how long one direction of an upgraded exchange may go on after the other has ended. Default 10 s.
	Linger time.Duration
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Record == nil {
		o.Record = func(*Event) {}
	}
	setDefault(&o.HeaderLimit, 128<<10)
	setDefault(&o.BodyLimit, 100_000_000)
	setDefault(&o.Concurrent, 8192)
	setDefault(&o.ConcurrentEach, 2048)
	setDefault(&o.AnswerTimeout, 230*time.Second)
	setDefault(&o.PlatformTimeout, 110*time.Second)
	setDefault(&o.CallerTimeout, 75*time.Second)
	setDefault(&o.IdleTimeout, 15*time.Minute)
	setDefault(&o.Linger, 10*time.Second)
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// A Proxy serves the calls of all connectors. It is safe for concurrent use.
type Proxy struct {
	o Options
	// bounds go before those of o, which are where they began.
	bounds atomic.Pointer[Bounds]
	port   string // ":8443" if the public URL has one

	active atomic.Int64
	calls  sync.WaitGroup
	leaves atomic.Bool // connections end with their next answer
	each   gauges
	guard  guard
	logons logons
	// hostCookies has the IDs of connectors that were warned about; like gauges, never more than were published.
	hostCookies sync.Map
}

// NewProxy makes a Proxy.
func NewProxy(o Options) *Proxy {
	o.defaults()
	p := &Proxy{o: o, guard: guard{log: o.Log}, logons: newLogons()}
	p.bounds.Store(o.bounds())
	if port := o.PublicURL.Port(); port != "" {
		p.port = ":" + port
	}
	return p
}

// Active is the number of calls under way.
func (p *Proxy) Active() int { return int(p.active.Load()) }

// Leave has each connection end with its next answer, which says so: its caller goes elsewhere by itself, and finds no
// connection closed on which it has just sent a request.
func (p *Proxy) Leave() { p.leaves.Store(true) }

// Wait returns when no call is under way, or with the cause when ctx ends. It is for the time after the listeners were
// closed: upgraded exchanges, which http.Server.Shutdown does not know, are waited for too.
func (p *Proxy) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		// Left behind only if ctx ends first; it ends with the last call, which the closing of the server forces.
		p.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A Place is where the route table found a request to belong.
type Place struct {
	// Published is the connector; nil if there is none, and Problem says what to answer.
	Published *Published
	// Problem, if set, is the answer.
	Problem *Problem
	// Target is what follows the connector's base path, origin-form, byte for byte.
	Target string
	// Host is set if the connector was reached by a host name of its own, which is this.
	Host string
}

// NotFound is the place of everything that is not published.
func NotFound() Place { return Place{Problem: notFound()} }

// Serve answers one request. It panics with http.ErrAbortHandler where an answer that has begun cannot be completed.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, place Place) {
	c := p.begin(w, r, place)
	p.calls.Add(1)
	defer c.end()
	if p.active.Add(1) > int64(p.bounds.Load().Concurrent) {
		c.fail(NewProblem("relay-busy", "The relay has as many requests under way as it may.").after(retryBusy))
		return
	}
	if err := c.run(); err != nil {
		c.fail(err)
	}
}

// end records the call. A panic that is not the wanted abort is a fault of ours: it is logged with its stack, and the
// caller gets an answer or, if one has begun, a broken one.
func (c *call) end() {
	cause := recover()
	if cause != nil && cause != http.ErrAbortHandler {
		c.p.o.Log.Error("a call failed with a panic", "request", c.event.ID, "panic", cause, "stack", string(debug.Stack()))
		c.event.Code, c.event.Origin = "internal", "relay"
		if !c.started {
			c.event.Status = http.StatusInternalServerError
			_ = unknown("internal", "relay", "The relay failed. Its log has the reason under this request ID.", nil).
				write(c.w, c.r, c.event.ID)
			cause = nil
		} else {
			cause = http.ErrAbortHandler
		}
	}
	if c.upload != nil {
		c.upload.stop()
	}
	c.event.Took.Total = time.Since(c.event.Time)
	for _, n := range c.counters {
		n.Add(-1)
	}
	c.p.active.Add(-1)
	c.p.o.Record(&c.event)
	c.p.calls.Done()
	if cause != nil {
		panic(cause)
	}
}
