package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

const (
	// maxHeld is the largest body that is read before the request leaves. It travels in one piece with the head, and can
	// be sent again on another link.
	maxHeld = 32 << 10
	// maxLinks is how many links are tried for a request that was certainly not run.
	maxLinks = 3
	// maxInformational bounds the 1xx answers of one exchange.
	maxInformational = 32
)

// exchange carries the request over a link and the answer back.
func (c *call) exchange(pub *Published) error {
	req, err := c.request(pub)
	if err != nil {
		return err
	}
	held, whole, err := c.holdBody(req)
	if err != nil {
		return err
	}
	c.event.Took.Relay = time.Since(c.event.Time)
	var tried []*gateway.Link
	for {
		link, noLink := c.pick(pub, tried)
		if noLink != nil && len(tried) > 0 {
			return c.firstLoss(err) // there was one, and what it said tells more
		} else if noLink != nil {
			return noLink
		}
		err = c.over(link, req, held, whole)
		if err == nil || !c.mayRepeat(err, whole && len(held) == 0) {
			return c.firstLoss(err)
		}
		c.p.o.Log.Debug("a link did not answer a request; it moves to another", "request", c.event.ID, "gateway", pub.Gateway,
			"agent", link.Agent, "cause", err)
		if c.upload != nil {
			<-c.upload.done // it waited for the credit of a stream that has ended
			c.upload = nil
		}
		if tried = append(tried, link); len(tried) == maxLinks {
			return c.firstLoss(err)
		}
	}
}

// mayRepeat says whether the request may go over another link after err. One that was certainly not run may, while its body
// is whole. One whose link died may, once, if it has no body and running it twice does what running it once does.
func (c *call) mayRepeat(err error, bare bool) bool {
	if c.started || c.r.Context().Err() != nil || c.upload != nil && !c.upload.withhold() {
		return false
	}
	if errors.Is(err, tunnel.ErrNotRun) {
		return true
	}
	if !errors.Is(err, tunnel.ErrLinkLost) || !bare || !idempotent(c.r.Method) || c.lost != nil || c.runsOnce() {
		return false
	}
	c.lost = err
	return true
}

// firstLoss gives the loss of an earlier link where err says that the last one did not run the request: that one may have.
func (c *call) firstLoss(err error) error {
	if c.lost != nil && errors.Is(err, tunnel.ErrNotRun) {
		return c.lost
	}
	return err
}

// over runs the exchange on one link.
func (c *call) over(link *gateway.Link, req *tunnel.Request, held []byte, whole bool) error {
	opened := time.Now()
	if c.lost != nil { // the caller has waited already
		req.Timeout = max(time.Second, c.hold()-time.Since(c.event.Time))
	}
	wants := link.WantsToken(req.API)
	if err := c.checkPassed(wants); err != nil {
		return err
	}
	c.passToken(req.Header, wants)
	var s *tunnel.Stream
	var err error
	if whole && len(held) > 0 {
		s, err = link.OpenWithBody(req, held)
	} else {
		s, err = link.Open(req, whole)
	}
	if err != nil {
		return err
	}
	// A no-op on a stream that has ended; a stream left open would hold its window and the upstream's connection.
	defer s.Reset(tunnel.Cancelled, "the exchange has ended at the relay")
	clock := c.startClock(s)
	defer clock.stop()
	if !whole && req.Upgrade == "" {
		c.upload = startUpload(c, s, clock, req)
	}
	resp, err := c.awaitHead(c.r.Context(), s)
	c.event.Agent = link.Agent
	if err != nil {
		return c.better(err)
	}
	clock.stop()
	if c.upload != nil {
		c.upload.answer()
	}
	c.account(time.Since(opened), resp)
	if resp.Problem != nil {
		return c.problemOfAgent(resp)
	}
	if resp.Status == http.StatusSwitchingProtocols {
		return c.upgraded(s, resp)
	}
	if req.Upgrade != "" {
		_ = s.CloseWrite(nil) // not upgraded: the request turns out to have no body
	}
	return c.better(c.answer(s, resp))
}

// pickTime is how long it may take to pick a link that is there; what is longer was a wait.
const pickTime = 10 * time.Millisecond

// pick gives a link for the call, and notes how long it waited for one.
func (c *call) pick(pub *Published, tried []*gateway.Link) (*gateway.Link, error) {
	began := time.Now()
	link, err := c.p.o.Links.PickSoon(c.r.Context(), pub.Gateway, pub.API, tried...)
	if took := time.Since(began); took > pickTime {
		c.event.Took.Wait += took
	}
	return link, err
}

// account notes where the time went until the head of the answer.
func (c *call) account(waited time.Duration, resp *tunnel.Response) {
	t := &c.event.Took
	t.Agent, t.Auth, t.Upstream = resp.Times.Agent, resp.Times.Auth, resp.Times.Upstream
	t.Link = max(0, waited-t.Agent-t.Auth-t.Upstream)
}

// better gives the reason behind err where the stream knows only its echo: the caller left, or its body failed.
func (c *call) better(err error) error {
	if err == nil {
		return nil
	}
	if c.upload != nil {
		if p := c.upload.verdict(); p != nil {
			return p
		}
	}
	if ctx := c.r.Context(); ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// request turns the caller's request into what travels.
func (c *call) request(pub *Published) (*tunnel.Request, error) {
	r := c.r
	req := &tunnel.Request{
		ID: c.event.ID, API: pub.API, Method: r.Method, Target: c.place.Target,
		Header: r.Header, ContentLength: r.ContentLength, Timeout: c.hold(),
	}
	if c.platform {
		req.Timeout = max(time.Second, req.Timeout-time.Since(c.event.Time))
	}
	req.Caller = c.principal()
	if r.ProtoMajor == 1 && r.ProtoMinor == 1 && asksWebSocket(r.Header) {
		if r.Method != http.MethodGet || r.ContentLength != 0 {
			return nil, NewProblem("bad-request", "An upgrade to WebSocket is a GET without a body (RFC 6455 section 4.1).")
		}
		req.Upgrade, c.upgrade = "websocket", true
	}
	req.Expect = c.expects
	cleanRequest(r.Header, pub.keyHeader())
	if pub.ownsAuthorization() {
		delete(r.Header, "Authorization")
	}
	c.setForwarded(req, pub)
	c.trace(r.Header)
	if len(r.Trailer) > 0 {
		announceTrailers(req, r.Trailer)
	}
	return req, nil
}

// asksWebSocket: other upgrades are ignored, as RFC 9110 section 7.8 allows; h2c above all must never pass.
func asksWebSocket(h http.Header) bool {
	return httpguts.HeaderValuesContainsToken(h["Connection"], "upgrade") && len(h["Upgrade"]) == 1 &&
		strings.EqualFold(h["Upgrade"][0], "websocket")
}

// announceTrailers names the trailers that the caller has announced and that may be sent on.
func announceTrailers(req *tunnel.Request, trailer http.Header) {
	var names []string
	for name := range trailer {
		if allowedTrailer(name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		req.Header["Trailer"] = []string{strings.Join(names, ", ")}
	}
}

// setForwarded sets the fields by which the upstream learns of the caller's side, after everything of theirs is gone.
func (c *call) setForwarded(req *tunnel.Request, pub *Published) {
	proto, host, path := c.p.o.PublicURL.Scheme, c.p.o.PublicURL.Host, ""
	if c.place.Host != "" {
		host = c.place.Host + c.p.port
	} else {
		path = basePath(pub)
	}
	req.Base = proto + "://" + host + path
	if c.from.proto != "" {
		proto = c.from.proto
	}
	if c.from.host != "" {
		host = c.from.host
	}
	values := [...]string{c.from.chain, proto, host, c.event.ID, path}
	h := req.Header
	h["X-Forwarded-For"] = values[0:1:1]
	h["X-Forwarded-Proto"] = values[1:2:2]
	h["X-Forwarded-Host"] = values[2:3:3]
	h[requestIDHeader] = values[3:4:4]
	if path != "" {
		h["X-Forwarded-Prefix"] = values[4:5:5]
	}
}

// basePath is the connector's path on the shared host: "/plant1/orders".
func basePath(pub *Published) string { return "/" + pub.Gateway + "/" + pub.Name }

// holdBody reads a small body of known length. whole says that nothing is left to stream.
func (c *call) holdBody(req *tunnel.Request) (held []byte, whole bool, err error) {
	n := c.r.ContentLength
	if n == 0 {
		return nil, req.Upgrade == "", nil
	}
	if n < 0 || n > maxHeld || req.Expect || len(c.r.Trailer) > 0 {
		return nil, false, nil
	}
	c.extendRead()
	defer c.readUntilStop()()
	held = make([]byte, n)
	read, err := io.ReadFull(c.r.Body, held)
	c.event.In += int64(read)
	if err != nil {
		return nil, false, c.bodyFailed(err, tunnel.ExecutedNo)
	}
	return held, true, nil
}

// readUntilStop has reads of the caller's body end when the relay breaks its calls off, until the function that it gives is
// called: whoever is stuck in its body would hold up the relay's end, and never be told why.
func (c *call) readUntilStop() (forget func() bool) {
	return context.AfterFunc(c.r.Context(), func() {
		if c.stopping() {
			_ = c.rc.SetReadDeadline(time.Unix(1, 0))
		}
	})
}

// stopping says that the relay breaks off the calls that are left.
func (c *call) stopping() bool { return errors.Is(context.Cause(c.r.Context()), ErrStopping) }

// awaitHead passes informational answers on and returns the final head.
func (c *call) awaitHead(ctx context.Context, s *tunnel.Stream) (*tunnel.Response, error) {
	for range maxInformational {
		resp, err := s.ReadResponse(ctx)
		if err != nil {
			return nil, err
		}
		switch {
		case resp.Status == http.StatusSwitchingProtocols, resp.Status >= 200 && resp.Status <= 599, resp.Problem != nil:
			return resp, nil
		case resp.Status > 101 && resp.Status < 200:
			c.inform(resp)
		case resp.Status != http.StatusContinue: // which net/http sends itself when the body is first read
			return nil, unknown("bad-answer", tunnel.OriginRelay, "The answer has an impossible status.", fmt.Errorf("status %d", resp.Status))
		}
	}
	return nil, unknown("bad-answer", tunnel.OriginRelay, "The API sent only informational answers.", nil)
}

// inform passes a 1xx on. HTTP/1.0 has none (RFC 9110 section 15.2).
func (c *call) inform(resp *tunnel.Response) {
	if !c.r.ProtoAtLeast(1, 1) {
		return
	}
	h := c.w.Header()
	copyResponse(h, resp.Header, c.shared())
	delete(h, "Content-Type")
	c.extendWrite()
	c.w.WriteHeader(resp.Status)
	for name := range h {
		delete(h, name)
	}
}

// shared is the path to which the connector's cookies are confined, "" on a host of its own.
func (c *call) shared() string {
	if c.place.Host != "" {
		return ""
	}
	return basePath(c.place.Published) + "/"
}

// A clock ends the wait for the head of an answer. Progress of a large upload sets it back, except for Power Platform,
// which counts from the request's first byte; so does a request that is repeated.
type clock struct {
	timer *time.Timer
	hold  time.Duration
	fixed bool
}

func (c *call) startClock(s *tunnel.Stream) clock {
	k := clock{hold: c.hold(), fixed: c.platform || c.lost != nil}
	first := k.hold
	if k.fixed {
		first = max(0, first-time.Since(c.event.Time))
	}
	k.timer = time.AfterFunc(first, func() { s.Reset(tunnel.TimedOut, "no answer in the time that the relay waits") })
	return k
}

func (k *clock) progress() {
	if !k.fixed && k.timer.Stop() { // not once it has been stopped: the head is there
		k.timer.Reset(k.hold)
	}
}

func (k *clock) stop() { k.timer.Stop() }
