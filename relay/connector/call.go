package connector

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/tunnel"
)

// A call is one request from its arrival to its record.
type call struct {
	p     *Proxy
	w     http.ResponseWriter
	r     *http.Request
	rc    *http.ResponseController
	conn  *tunnel.Conn // of a caller that has it for itself and speaks TLS on it; nil for others
	place Place
	event Event

	from     forwarded
	platform bool // the caller is Power Platform
	cors     string
	counters []*atomic.Int64 // to be taken back at the end
	counted  [3]*atomic.Int64
	started  bool // the head of a final answer has been handed to net/http
	writeBy  time.Time
	upload   *upload
	upgrade  bool          // the caller asked for a WebSocket
	expects  bool          // the caller waits for 100 Continue
	lost     error         // a link died under the request, which then went over another; nil: none did
	hooked   bool          // it ends a webhook subscription, at a signed path
	limit    time.Duration // of a call that can be deferred; 0: hold decides
	guesses  []source      // what a refusal of the Windows logon inside counts under; nil: none is passed on
	token    []string      // the Authorization that proved the caller, for agents that want it; nil: none did
}

// begin reads what must be known before the caller's fields are cleaned.
func (p *Proxy) begin(w http.ResponseWriter, r *http.Request, place Place) *call {
	c := &call{p: p, w: w, r: r, rc: http.NewResponseController(w), place: place}
	c.conn = connOf(r)
	c.from = p.o.Trusted.forwardedOf(r)
	c.counters = c.counted[:0]
	e := &c.event
	e.Time = time.Now()
	e.ID = rand.Text()
	e.Remote, e.Proto, e.Method = c.from.remote, r.Proto, clip(r.Method, 32)
	e.Path, _, _ = strings.Cut(r.RequestURI, "?")
	e.Path = clip(e.Path, 2048)
	if place.Published != nil {
		e.Gateway, e.Connector = place.Published.Gateway, place.Published.Name
	}
	e.CallerID = clip(r.Header.Get(requestIDHeader), 128)
	e.FlowRun = clip(r.Header.Get("X-Ms-Workflow-Run-Id"), 128)
	e.Flow = tunnel.FlowIDs(r.Header)
	c.platform = e.FlowRun != "" || strings.Contains(r.Header.Get("User-Agent"), "azure-logic-apps")
	c.expects = r.ContentLength != 0 && r.Header.Get("Expect") != ""
	return c
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

// run is the life of a call, top down.
func (c *call) run() error {
	if c.place.Problem != nil {
		return c.place.Problem
	}
	if c.r.Method == http.MethodConnect || c.r.Method == http.MethodTrace {
		return NewProblem("method-refused", c.r.Method+" is never passed on.")
	}
	pub := c.place.Published
	answered, err := c.checkOrigin(pub)
	if answered || err != nil {
		return err
	}
	if answered, err := c.share(pub); answered || err != nil {
		return err
	}
	if !within(pub.From, c.from.remote) {
		return NewProblem("address-refused", "The connector is not to be called from this address.")
	}
	unhooks, err := c.unhook(pub)
	if err != nil {
		return err
	}
	if !unhooks {
		if err := c.authenticate(pub); err != nil {
			return err
		}
	}
	if path, query, _ := strings.Cut(c.place.Target, "?"); !unhooks && (path == "/_" || strings.HasPrefix(path, "/_/")) {
		return c.reserved(pub, path, query)
	}
	if err := c.checkLimits(pub); err != nil {
		return err
	}
	return c.carry(pub)
}

// checkLimits refuses what is too large or too much before anything travels.
func (c *call) checkLimits(pub *Published) error {
	if size, fields := headerSize(c.r.Header); size > c.p.o.HeaderLimit || fields > maxFields {
		return NewProblem("header-too-large", fmt.Sprintf("The request has %d header fields of %d bytes together; the relay takes %d of %d bytes.",
			fields, size, maxFields, c.p.o.HeaderLimit))
	}
	if c.r.ContentLength > c.bodyLimit() {
		return c.tooLarge()
	}
	concurrent := c.p.bounds.Load().ConcurrentEach
	if pub.Concurrent > 0 {
		concurrent = min(concurrent, pub.Concurrent)
	}
	return c.enter(pub.ID, "The connector", pub.Rate, concurrent)
}

func (c *call) bodyLimit() int64 {
	if limit := c.place.Published.BodyLimit; limit > 0 {
		return limit
	}
	return c.p.bounds.Load().BodyLimit
}

func (c *call) tooLarge() *Problem {
	return NewProblem("body-too-large", fmt.Sprintf("The connector takes bodies of at most %d bytes.", c.bodyLimit()))
}

// head hands a final head to net/http.
func (c *call) head(status int) {
	c.w.Header()[requestIDHeader] = []string{c.event.ID}
	c.setCORS()
	c.closeUnlessRead()
	c.extendWrite()
	c.started = true
	c.event.Status = status
	c.w.WriteHeader(status)
}

// closeUnlessRead has net/http close an HTTP/1 connection whose request body is still on its way. Without it a body that
// is never read to its end would be taken for the next request, or net/http's own reading collide with ours. It closes
// after chunked bodies too: RFC 9112 section 6.1 demands that of requests that also had a Content-Length, which net/http
// ignores without telling, and a proxy in front may have gone by. And all connections close once the relay is to stop;
// for HTTP/2 net/http makes a GOAWAY of it.
func (c *call) closeUnlessRead() {
	unread := len(c.r.TransferEncoding) > 0 || c.upload != nil && !c.upload.ended.Load()
	if c.p.leaves.Load() || c.r.ProtoMajor == 1 && unread {
		c.w.Header().Set("Connection", "close")
	}
}

// send writes body bytes to the caller.
func (c *call) send(b []byte) error {
	c.extendWrite()
	err := c.conn.Together(len(b), func() error {
		n, err := c.w.Write(b)
		c.event.Out += int64(n)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errCallerGone, err)
	}
	return nil
}

// extendWrite gives the caller CallerTimeout from now to take what is written. A deadline that is nearly new is left
// alone: setting one costs more than a small write.
func (c *call) extendWrite() {
	now := time.Now()
	if c.writeBy.Sub(now) < c.p.o.CallerTimeout*3/4 {
		c.writeBy = now.Add(c.p.o.CallerTimeout)
		_ = c.rc.SetWriteDeadline(c.writeBy)
	}
}

// extendRead does the same for what the caller sends.
func (c *call) extendRead() { _ = c.rc.SetReadDeadline(time.Now().Add(c.p.o.CallerTimeout)) }

// fail answers with the problem that err is. If an answer has begun, it breaks the answer off, so that nobody takes a
// part for the whole.
func (c *call) fail(err error) {
	p := problemOf(err)
	if c.lost != nil && p.Executed == tunnel.ExecutedNo {
		p.Executed = tunnel.ExecutedUnknown // whatever the second link says, the first one may have had it run
	}
	p = c.forPlatform(p)
	p.complete()
	c.event.Code, c.event.Origin, c.event.Executed = p.Code, p.Origin, p.Executed
	c.log(p)
	if c.started {
		c.event.Broken = true
		c.abort()
	}
	c.event.Status = p.Status
	if p.Code == "caller-gone" {
		panic(http.ErrAbortHandler)
	}
	h := c.w.Header()
	for name := range h {
		delete(h, name)
	}
	c.setCORS()
	c.closeUnlessRead()
	// net/http reads what is left of a small body before it answers. A caller that is too slow has had its time.
	left := min(lingerFor, c.p.o.CallerTimeout/2)
	if p.Code == "caller-too-slow" || c.stopping() {
		left = 0
	}
	_ = c.rc.SetReadDeadline(time.Now().Add(left))
	c.extendWrite()
	if err := p.write(c.w, c.r, c.event.ID); err == nil {
		c.linger()
	}
}

// log tells the operator what the caller is not told. What a caller does wrong is in the access log alone.
func (c *call) log(p *Problem) {
	level := slog.LevelDebug
	switch {
	case p.Code == "internal":
		level = slog.LevelError
	case p.Code != "caller-gone" && (p.Status >= 500 || p.Code == "outcome-unknown"):
		level = slog.LevelWarn
	}
	c.p.o.Log.Log(context.Background(), level, "a call failed", "request", c.event.ID, "gateway", c.event.Gateway,
		"connector", c.event.Connector, "code", p.Code, "origin", p.Origin, "cause", p.Cause)
}

// abort breaks the connection, or the HTTP/2 stream. In HTTP/1.0 the end of the connection is the end of an answer of
// unknown length, so nothing short of a TCP reset tells it from a complete one.
func (c *call) abort() {
	if c.r.ProtoMajor == 1 && c.r.ProtoMinor == 0 {
		if conn, _, err := c.rc.Hijack(); err == nil {
			reset(conn)
		}
	}
	panic(http.ErrAbortHandler)
}

// reset closes a connection with a TCP RST, underneath TLS so that no close_notify pretends an end.
func reset(conn net.Conn) {
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = under.NetConn()
	}
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

const (
	// lingerFor is how long a caller that still sends its body is listened to after it was answered, lingerStopping when the
	// relay stops and has waited for it already.
	lingerFor      = 5 * time.Second
	lingerStopping = time.Second
)

// linger reads on for a little while, because a caller that is answered in the middle of its body reads the answer only
// if the connection is not reset under it.
func (c *call) linger() {
	if c.r.ContentLength == 0 {
		return
	}
	_ = c.rc.Flush()
	if c.upload != nil {
		c.upload.finish()
		return
	}
	if c.r.ProtoMajor != 1 || c.expects {
		return
	}
	limit := lingerFor
	if c.stopping() {
		limit = lingerStopping
	}
	_ = c.rc.SetReadDeadline(time.Now().Add(limit))
	_, _ = io.CopyN(io.Discard, c.r.Body, max(c.bodyLimitOrDefault(), 1<<20))
}

func (c *call) bodyLimitOrDefault() int64 {
	if c.place.Published == nil {
		return c.p.bounds.Load().BodyLimit
	}
	return c.bodyLimit()
}

// forPlatform rewords what Power Platform would misread. It repeats 408, 429 and 5xx by itself, POST too, so a request
// that may have been run and must not run twice is answered with a status that it does not repeat.
func (c *call) forPlatform(p *Problem) *Problem {
	if p.Code == "timeout" || p.Code == "upstream-timeout" {
		c.explainTimeout(p)
	}
	if p.Executed != tunnel.ExecutedUnknown || idempotent(c.r.Method) || !c.hides(p.Status) {
		return p
	}
	q := *p
	q.Code, q.Status, q.Title, q.RetryAfter = "outcome-unknown", http.StatusConflict, "", 0
	q.Detail = "The request may have been run, so do not repeat it unseen. What happened: " + p.Detail
	return &q
}

// explainTimeout says what would help.
func (c *call) explainTimeout(p *Problem) {
	switch {
	case c.limit > 0 && p.Origin != tunnel.OriginRelay:
		p.Detail += " The agent has a bound of its own, limits.timeout of the API, which holds for deferred calls too."
	case c.platform && c.limit == 0:
		p.Detail = "The API did not answer in time. Power Platform waits for 120 s at most. For longer work have the connector " +
			"published with --async-after 90s: the relay then answers 202 with a Location header, which the platform polls. " +
			"Or let the API do so itself."
	}
}

// hides says whether this caller is not to see the status of a call with an unknown outcome.
func (c *call) hides(status int) bool {
	if code, ok := findCode("outcome-unknown"); ok && status == code.Status || status == 499 {
		return false
	}
	if status != 0 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests {
		return false
	}
	pub := c.place.Published
	if pub == nil {
		return false
	}
	switch pub.OutcomeUnknown {
	case OutcomeConflict:
		return true
	case OutcomePlain:
		return false
	}
	return c.platform
}

// idempotent: RFC 9110 section 9.2.2. Methods that nobody has heard of are not.
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// hold is how long this caller is held until the head of the answer.
func (c *call) hold() time.Duration {
	if c.limit > 0 {
		return c.limit
	}
	d := c.place.Published.Timeout
	if d <= 0 {
		d = c.p.bounds.Load().AnswerTimeout
	}
	if c.platform {
		d = min(d, c.p.bounds.Load().PlatformTimeout)
	}
	return d
}
