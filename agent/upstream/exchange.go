package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A leg is one request on the wire; a sign-on takes several for one call.
type leg struct {
	authorization string // replaces the request's own field
	withhold      bool   // an opening leg: the body is not sent, and the upstream cannot run the request
	expect        bool   // the body waits for the upstream's 100
}

// An answer is what came back for one leg. Exactly one of release or an answerBody ends its hold on the connection.
type answer struct {
	c         *conn
	resp      *http.Response
	body      io.Reader // resp's body as it comes off the connection
	up        *upload   // nil: no body was sent
	expecting bool      // a body is announced and still withheld
	heard     bool      // the upstream has sent a byte
	doubtful  bool
}

// errLost is a connection that ended before the first byte of an answer. For a reused connection that is no surprise:
// the upstream may have closed it while the request was on its way.
type errLost struct {
	wrote bool // something of the request has left
	err   error
}

func (e *errLost) Error() string {
	return "the upstream closed the connection without an answer: " + e.err.Error()
}
func (e *errLost) Unwrap() error { return e.err }

// send writes one leg on c and reads the head of its answer. After an error the connection is of no further use.
func (x *call) send(c *conn, l leg) (*answer, error) {
	before := c.bw.wrote.Load()
	a := &answer{c: c}
	err := x.begin(c, a, l)
	if err == nil {
		a.resp, err = x.awaitFinal(a)
	}
	if err == nil {
		a.body = a.resp.Body
		return a, nil
	}
	if a.up != nil {
		c.abort()
		if src := a.up.sourceError(); src != nil {
			return nil, src
		}
	}
	if !a.heard && c.head.br.Buffered() == 0 && !isTimeout(err) && x.ctx.Err() == nil && !isOurs(err) {
		return nil, &errLost{wrote: c.bw.wrote.Load() > before, err: err}
	}
	return nil, err
}

func isOurs(err error) bool {
	_, ok := errors.AsType[*Error](err)
	return ok
}

// begin writes the head and, unless it has to wait, starts the body.
func (x *call) begin(c *conn, a *answer, l leg) error {
	c.bw.silence = x.timeout
	hasBody := x.body != nil && !l.withhold
	if err := x.writeHead(c, l, hasBody && l.expect); err != nil {
		return err
	}
	inline := hasBody && x.body.whole && !l.expect
	if inline {
		_, _ = c.bw.Write(x.body.kept) // bufio keeps the error for Flush
	}
	if err := c.bw.Flush(); err != nil {
		return err
	}
	c.readUntil(time.Now().Add(x.timeout))
	switch {
	case inline:
	case hasBody && l.expect:
		a.expecting = true
		c.readUntil(time.Now().Add(min(continueWait, x.timeout)))
	case hasBody:
		a.up = x.startUpload(c)
	}
	return nil
}

// awaitFinal reads answers until the final one, passing informational ones on.
func (x *call) awaitFinal(a *answer) (*http.Response, error) {
	for informational := 0; ; {
		resp, doubtful, err := a.c.head.read(x.req)
		if err != nil && a.expecting && isTimeout(err) {
			x.letGo(a) // RFC 9110 section 10.1.1: do not wait for ever
			continue
		}
		if err != nil {
			return nil, err
		}
		a.heard, a.doubtful = true, doubtful
		switch code := resp.StatusCode; {
		case code == http.StatusSwitchingProtocols:
			return resp, x.checkSwitch(resp)
		case code >= 200 && code <= 599:
			return resp, nil
		case code < 100 || code > 599:
			return nil, &Error{Kind: Broken, Err: fmt.Errorf("the answer's status is %d", code)}
		}
		if informational++; informational > maxInformational {
			return nil, &Error{Kind: Broken, Err: fmt.Errorf("more than %d informational answers", maxInformational)}
		}
		if resp.StatusCode == http.StatusContinue && a.expecting {
			x.letGo(a)
		}
		if err := x.informational(resp.StatusCode, resp.Header); err != nil {
			return nil, err
		}
	}
}

// letGo sends the body that has waited.
func (x *call) letGo(a *answer) {
	a.expecting = false
	a.c.readUntil(time.Now().Add(x.timeout))
	a.up = x.startUpload(a.c)
}

// checkSwitch admits a 101 only to what was asked for: any other would leave a connection that nobody understands.
func (x *call) checkSwitch(resp *http.Response) error {
	if x.upgrade == "" || !strings.EqualFold(upgradeOf(resp.Header), x.upgrade) {
		return &Error{Kind: Broken, Err: errors.New("the upstream switched to a protocol that was not asked for")}
	}
	return nil
}

// release gives the connection back after an answer that was read to its end (whole) or not.
func (x *call) release(a *answer, whole bool) {
	reusable := whole && a.reusable()
	if !x.unwatch() || !reusable {
		a.c.abort()
		return
	}
	x.t.pool.put(a.c)
}

// reusable says that both messages have ended on the connection and nothing about them is in doubt.
func (a *answer) reusable() bool {
	c := a.c
	if a.resp.Close || a.doubtful || a.expecting || c.broken || c.head.grown() || c.head.br.Buffered() > 0 {
		return false
	}
	return a.up == nil || a.up.finished(uploadGrace)
}

// drain reads the rest of an answer that nobody wants, within bounds, and says whether the connection can go on.
func (a *answer) drain() bool {
	a.c.readUntil(time.Now().Add(drainWait))
	n, err := io.CopyN(io.Discard, a.body, drainLimit)
	return err == io.EOF && n < drainLimit && a.reusable()
}

// Bounds of what is read only to keep a connection.
const (
	drainLimit = 256 << 10
	drainWait  = 2 * time.Second
)

// An answerBody is the body of a final answer. At its end the connection goes back to the pool, before that Close ends
// it.
type answerBody struct {
	x       *call
	a       *answer
	silence time.Duration
	err     error // sticky
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.a.resp.ContentLength < 0 || b.buffered() == 0 { // else it does not wait
		b.a.c.readUntil(time.Now().Add(b.silence))
	}
	n, err := b.a.body.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, b.err
}

// end settles the exchange once.
func (b *answerBody) end(err error) {
	if err != io.EOF {
		if b.a.up != nil {
			b.a.c.abort()
			if src := b.a.up.sourceError(); src != nil {
				err = src
			}
		}
		err = asError(b.x.ctx, err, false)
	}
	b.err = err
	b.x.release(b.a, err == io.EOF)
	b.x.done()
}

// Close gives up what is left, except where so little is left that the connection is worth more.
func (b *answerBody) Close() error {
	if b.err != nil {
		return nil
	}
	b.err = errors.New("read of a closed body")
	b.x.release(b.a, b.x.ctx.Err() == nil && b.a.up == nil && b.littleLeft() && b.a.drain())
	b.x.done()
	return nil
}

func (b *answerBody) littleLeft() bool {
	left := b.a.resp.ContentLength
	return left >= 0 && left <= int64(b.a.c.head.br.Buffered())
}

// An upgradedBody is the connection after a 101, beginning with what the upstream sent right behind it.
type upgradedBody struct {
	x *call
	a *answer
}

func (b *upgradedBody) Read(p []byte) (int, error)  { return b.a.c.head.br.Read(p) }
func (b *upgradedBody) Write(p []byte) (int, error) { return wire{&b.a.c.bw}.Write(p) }

// CloseWrite tells the upstream that nothing more will come.
func (b *upgradedBody) CloseWrite() error {
	if hc, ok := b.a.c.nc.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return nil
}

func (b *upgradedBody) Close() error {
	b.x.release(b.a, false)
	b.x.done()
	return nil
}

// nothing is the informational hook of a call that nobody watches.
func nothing(int, http.Header) error { return nil }

// watch ends the connection as soon as the exchange is cancelled: the upstream sees the caller leave.
func (x *call) watch(c *conn) { x.stop = context.AfterFunc(x.ctx, c.abort) }

// unwatch says whether the exchange was still alive.
func (x *call) unwatch() bool {
	if x.stop == nil {
		return true
	}
	alive := x.stop()
	x.stop = nil
	return alive
}

// buffered is how much of the body can be read without waiting.
func (b *answerBody) buffered() int64 { return int64(b.a.c.head.br.Buffered()) }

// finish reads the end behind a body that has been read to its length, so that the connection can go on.
func (b *answerBody) finish() {
	if b.err == nil {
		_, _ = b.Read(make([]byte, 1))
	}
}
