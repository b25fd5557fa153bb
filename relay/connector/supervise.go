package connector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"sallyport/relay/operation"
	"sallyport/tunnel"
)

// A plan says what is to become of a call that may outlive its caller.
type plan struct {
	defers  bool          // it may be answered 202
	after   time.Duration // when
	applied bool          // because the caller prefers it
	repeat  string        // the token by which repeats are known; "": they are not
}

// carry carries the call over a link, in one of three ways: plainly, so that it can be deferred, or once for all its
// repeats.
func (c *call) carry(pub *Published) error {
	p := c.plan(pub)
	switch {
	case p.repeat != "":
		return c.once(pub, p)
	case p.defers:
		return c.supervise(pub, p, nil)
	}
	return c.exchange(pub)
}

// plan reads what connector and caller want. An upgraded exchange has nothing that could be kept.
func (c *call) plan(pub *Published) (p plan) {
	if c.p.o.Operations == nil || c.hooked || asksWebSocket(c.r.Header) {
		return p
	}
	if !pub.Async.Off {
		p.defers, p.after = pub.Async.After > 0, pub.Async.After
		if wait, prefers := takePreference(c.r.Header); prefers {
			if !p.defers || wait < p.after {
				p.after = wait
			}
			p.defers, p.applied = true, true
		}
	}
	p.repeat = c.repeatToken(pub)
	return p
}

// A supervised is a call in a goroutine of its own, while the one that net/http gave waits for it or lets it go.
type supervised struct {
	outer, inner *call
	pub          *Published
	plan         plan
	h            *handover
	body         *bodyTap
	cancel       context.CancelCauseFunc
	done         chan struct{}
	aborted      bool // set before done is closed
}

// supervise runs the exchange and answers with what comes first: its answer, or 202.
func (c *call) supervise(pub *Published, p plan, run *operation.Run) error {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.r.Context()))
	s := &supervised{outer: c, pub: pub, plan: p, cancel: cancel, done: make(chan struct{})}
	s.h = &handover{w: c.w, rc: c.rc, header: http.Header{}, run: run}
	s.body = newBodyTap(c.r, func(sum []byte) {
		if run != nil {
			run.SetBody(sum)
		}
	})
	r := c.r.WithContext(ctx)
	r.Body = s.body
	s.inner = &call{
		p: c.p, w: s.h, r: r, rc: http.NewResponseController(s.h), place: c.place, event: c.event, from: c.from,
		platform: c.platform, cors: c.cors, expects: c.expects,
	}
	if p.defers {
		s.inner.limit = pub.Async.limit()
	}
	s.h.inner = s.inner
	if run != nil {
		run.SetCancel(s.stop)
	}
	c.p.calls.Add(1)
	go s.run() // wait waits for it; or, once the caller was let go, Proxy.Wait does
	return s.wait()
}

// stop ends the call on demand or because the relay stops.
func (s *supervised) stop(cause error) {
	if errors.Is(cause, operation.ErrCancelled) {
		cause = unknown("cancelled", tunnel.OriginRelay, "The call was cancelled on demand. It may have been run.", cause)
	}
	s.cancel(cause)
}

// run is the life of the call proper.
func (s *supervised) run() {
	c := s.inner
	defer c.p.calls.Done()
	defer close(s.done)
	defer s.cancel(nil)
	s.protect(func() {
		if err := c.exchange(s.pub); err != nil {
			c.fail(err)
		}
	})
	if c.upload != nil {
		c.upload.stop()
	}
	s.settle()
	if s.h.isDetached() {
		c.event.Took.Total = time.Since(c.event.Time)
		c.p.o.Record(&c.event)
	}
}

// protect catches the panic by which a call breaks off, and those that are faults of ours.
func (s *supervised) protect(do func()) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		s.aborted = true
		if cause != http.ErrAbortHandler {
			e := &s.inner.event
			s.inner.p.o.Log.Error("a call failed with a panic", "request", e.ID, "panic", cause, "stack", string(debug.Stack()))
			e.Code, e.Origin, e.Executed = "internal", tunnel.OriginRelay, tunnel.ExecutedUnknown
		}
	}()
	do()
}

// settle completes the record, if there is one.
func (s *supervised) settle() {
	_, run := s.h.now()
	if run == nil {
		return
	}
	ctx, e := s.inner.r.Context(), &s.inner.event
	var err error
	switch {
	case s.aborted && e.Executed == tunnel.ExecutedNo, !s.aborted && s.h.again && !run.Deferred():
		run.Release(ctx)
	case s.aborted:
		// Half an answer is none. Whoever comes for it reads why.
		p := unknown("outcome-unknown", tunnel.OriginRelay, "The answer was lost before its end ("+e.Code+"). "+
			"The request may have been run, so do not repeat it unseen.", nil)
		w := &memoryWriter{header: http.Header{}}
		_ = p.write(w, s.inner.r, e.ID)
		err = run.Replace(ctx, w.status, w.header, w.body.Bytes(), false)
	default:
		err = run.Keep(ctx)
	}
	if err != nil {
		s.inner.p.o.Log.Warn("the answer of a call cannot be kept", "request", e.ID, "gateway", e.Gateway, "connector", e.Connector, "cause", err)
	}
}

// A memoryWriter takes a problem in memory.
type memoryWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *memoryWriter) Header() http.Header         { return w.header }
func (w *memoryWriter) WriteHeader(status int)      { w.status = status }
func (w *memoryWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

// wait is with the caller until the call has ended, or the caller can be let go.
func (s *supervised) wait() error {
	c := s.outer
	hold := c.hold()
	due := time.NewTimer(max(0, min(s.plan.after, hold*9/10)-time.Since(c.event.Time)))
	defer due.Stop()
	late := time.NewTimer(max(0, hold-time.Since(c.event.Time)))
	defer late.Stop()
	body, gone, isDue, moved := s.body.done, c.r.Context().Done(), false, int64(0)
	for {
		select {
		case <-s.done:
			return s.finish()
		case <-due.C:
			isDue = s.plan.defers
		case <-body:
			body = nil
			if !c.platform {
				late.Reset(hold) // as the clock of a plain exchange goes on while a body moves
			}
		case <-late.C:
			if read := s.body.read.Load(); body != nil && !c.platform && read > moved {
				moved = read
				late.Reset(hold)
				continue
			}
			if s.plan.defers && s.h.isWaiting() {
				s.cancel(unknown("timeout", tunnel.OriginRelay, "The API did not answer in the time the relay waits, and the call could not be deferred.", nil))
			}
		case <-gone:
			gone = nil
			if _, run := s.h.now(); run != nil && s.body.whole() { // of which the turn to be told may not have come
				if s.h.detach(run) {
					s.countOn()
					return errCallerGone // the call goes on for its record
				}
			} else {
				s.cancel(context.Cause(c.r.Context()))
			}
		}
		if isDue && body == nil && gone != nil {
			isDue = false
			if run := s.letGo(); run != nil {
				c.event.Operation = c.event.ID
				return c.accepted(s.pub, run.Token(), run.Record(), s.plan.applied)
			}
		}
	}
}

// countOn has the call count as under way after its caller has gone: nobody gets room by hanging up.
func (s *supervised) countOn() {
	p := s.outer.p
	counters := append(slices.Clone(s.outer.counters), &p.active)
	for _, n := range counters {
		n.Add(1)
	}
	context.AfterFunc(s.inner.r.Context(), func() { // run ends it
		for _, n := range counters {
			n.Add(-1)
		}
	})
}

// letGo detaches the call from its caller. It gives nil if an answer has begun or a bound is reached; then the caller is
// held as if there were no deferring.
func (s *supervised) letGo() *operation.Run {
	c := s.outer
	_, run := s.h.now()
	fresh := run == nil
	if fresh {
		var err error
		l := c.p.o.Operations
		run, err = l.Begin(c.r.Context(), s.pub.ID, l.NewToken(), operation.Record{Request: c.event.ID}, false)
		if err != nil {
			c.p.o.Log.Warn("a call cannot be deferred", "request", c.event.ID, "gateway", c.event.Gateway, "connector", c.event.Connector, "cause", err)
			return nil
		}
		run.SetCancel(s.stop)
	}
	err := run.Defer()
	if err == nil {
		s.inner.p.o.Log.Debug("a call is deferred", "request", c.event.ID)
		limit := time.AfterFunc(max(0, s.pub.Async.limit()-time.Since(c.event.Time)), func() {
			s.cancel(unknown("timeout", tunnel.OriginRelay, fmt.Sprintf("The API did not answer within %s, the connector's limit for deferred calls.", s.pub.Async.limit()), nil))
		})
		context.AfterFunc(s.inner.r.Context(), func() { limit.Stop() })
		if s.h.detach(run) {
			return run
		}
		limit.Stop()
	}
	if fresh {
		run.Release(c.r.Context())
	}
	return nil
}

// finish takes over what the call has become, for the caller's own record.
func (s *supervised) finish() error {
	c := s.outer
	c.event, c.started, c.writeBy = s.inner.event, s.inner.started, s.inner.writeBy
	if s.aborted {
		if c.started {
			c.abort()
		}
		panic(http.ErrAbortHandler)
	}
	h := c.w.Header()
	for name, values := range s.h.header { // trailers come after the head
		if _, sent := h[name]; !sent {
			h[name] = values
		}
	}
	return nil
}

// accepted answers 202 as the asynchronous pattern of Logic Apps has it: where to ask, and when.
func (c *call) accepted(pub *Published, token string, rec operation.Record, applied bool) error {
	h := c.w.Header()
	h.Set("Location", c.publicBase(pub)+operationsPath+token)
	h.Set("Retry-After", strconv.Itoa(pollAfter(time.Since(rec.Started))))
	if applied {
		h.Set("Preference-Applied", "respond-async")
	}
	return c.sendJSON(http.StatusAccepted, struct {
		State     operation.State `json:"state"`
		Operation string          `json:"operation"`
		Started   time.Time       `json:"started"`
	}{operation.Running, rec.Request, rec.Started})
}

// pollAfter is how many seconds a caller should wait before it asks again: longer, the longer it has taken already.
func pollAfter(taken time.Duration) int {
	return int(min(max(taken/6, 5*time.Second), time.Minute) / time.Second)
}
