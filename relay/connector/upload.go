package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"sallyport/tunnel"
)

// An upload sends a caller's body over a stream while the answer may already be coming back.
type upload struct {
	c     *call
	s     *tunnel.Stream
	clock clock

	ended    atomic.Bool  // the caller's body was read to its end
	claim    atomic.Int32 // who has the body: nobody yet, run (it can no longer be sent again), or another link
	answered atomic.Bool  // the head of the final answer is there: what fails now ends the upload alone
	stopping atomic.Bool
	done     chan struct{}
	failed   atomic.Pointer[Problem] // why the upload failed, set before it gave the stream up
}

// Who has claimed a body.
const (
	unclaimed int32 = iota
	claimedByRun
	claimedByAnother
)

// withhold keeps the body for another link, unless a byte of it may have been taken.
func (u *upload) withhold() bool { return u.claim.CompareAndSwap(unclaimed, claimedByAnother) }

func startUpload(c *call, s *tunnel.Stream, k clock, req *tunnel.Request) *upload {
	s.SetWriteTimeout(c.hold())
	if c.r.ProtoMajor == 1 {
		// Without it net/http reads the caller's body to its end before the first byte of an answer goes out.
		_ = c.rc.EnableFullDuplex()
	}
	if c.conn != nil {
		c.conn.ReadAhead()
	}
	u := &upload{c: c, s: s, clock: k, done: make(chan struct{})}
	go func() { // stop waits for it
		defer close(u.done)
		if req.Expect && s.WaitCredit(c.r.Context()) != nil {
			return // what ended the stream ends the wait for the head too
		}
		if u.claim.CompareAndSwap(unclaimed, claimedByRun) {
			u.run()
		}
	}()
	return u
}

// run copies until the body's end. A caller that fails before the answer has its stream reset, which ends the wait for it.
func (u *upload) run() {
	var buf tunnel.Buffer
	defer buf.Free()
	limit, wanted := u.c.bodyLimit(), true
	var total int64
	for {
		u.c.extendRead()
		if u.answered.Load() {
			u.mayBeSilent()
		}
		if u.stopping.Load() {
			return // looked at after the deadline was set, which would otherwise undo stop's
		}
		n, err := u.read(buf.Room())
		total += int64(n)
		u.c.event.In = total
		if total > limit {
			u.giveUp(tunnel.TooLarge, u.tooLarge())
			return
		}
		if err == io.EOF {
			u.ended.Store(true) // before the last bytes leave: the answer to them may come before send returns
		}
		if n > 0 && wanted {
			wanted = u.send(&buf, n)
		}
		if err == io.EOF {
			if wanted {
				_ = u.s.CloseWrite(cleanTrailer(u.c.r.Trailer))
			}
			return
		}
		if err != nil {
			if !u.stopping.Load() {
				u.giveUp(tunnel.BrokenOff, u.c.bodyFailed(err, tunnel.ExecutedUnknown))
			}
			return
		}
	}
}

// read reads what has come, over TLS too, which gives its records one by one.
func (u *upload) read(room []byte) (n int, err error) {
	for {
		more, err := u.c.r.Body.Read(room[n:])
		if n += more; err != nil || n == len(room) || !u.c.conn.AtHand() {
			return n, err
		}
	}
}

// send sends the first n bytes of a buffer, and says whether more are wanted. If not, because the upstream has seen enough
// or the stream is lost, the rest is read and dropped, so that the caller gets to the answer.
func (u *upload) send(b *tunnel.Buffer, n int) (wanted bool) {
	err := u.s.Send(b, n)
	if err == nil {
		u.clock.progress()
		return true
	}
	if _, reset := errors.AsType[*tunnel.ResetError](err); !reset && errors.Is(err, tunnel.ErrTimeout) {
		u.giveUp(tunnel.Stalled, unknown("stalled", tunnel.OriginAgent, "The API took no more of the request's body.", err))
	}
	return false
}

// tooLarge is for a body that turned out too large on its way: the upstream has begun to run the request.
func (u *upload) tooLarge() *Problem {
	p := u.c.tooLarge()
	p.Executed = tunnel.ExecutedUnknown
	return p
}

// answer notes that the head of the final answer is there.
func (u *upload) answer() {
	u.answered.Store(true)
	u.mayBeSilent() // run does it too after each deadline that it sets, in case it was faster
}

// mayBeSilent lets the caller be silent for as long as its answer takes: it has no reason to send the rest, and in HTTP/1 a
// deadline that passes cancels the whole request. Who is gone is seen all the same, and stop ends the read.
func (u *upload) mayBeSilent() {
	if !u.stopping.Load() {
		_ = u.c.rc.SetReadDeadline(time.Time{})
	}
}

// giveUp ends the upload, and the exchange with it if it has no answer yet. An answer under way is not the body's to
// destroy: a caller that has read 401 or 413 stops sending, and reads on. The upstream never gets a body's end that was
// none; if it answers without the rest, the answer goes out whole, and if it waits for it, the answer's own timeouts end it.
func (u *upload) giveUp(code tunnel.ResetCode, p *Problem) {
	u.failed.CompareAndSwap(nil, p)
	if !u.answered.Load() {
		u.s.Reset(code, p.Error())
	}
}

// finish gives a caller that was answered early the time to send the rest, then stops. An HTTP/1 caller reads the answer
// only if the connection is not reset under it; in HTTP/2 the end of the stream says that no more is wanted.
func (u *upload) finish() {
	grace := lingerFor
	if u.c.r.ProtoMajor > 1 {
		grace = lingerFor / 20
	}
	// In HTTP/2 the answer's end is written behind this wait, whose time is not the caller's.
	_ = u.c.rc.SetWriteDeadline(time.Now().Add(grace + u.c.p.o.CallerTimeout))
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-u.done:
	case <-timer.C:
	case <-u.c.r.Context().Done():
	}
	u.stop()
}

// verdict is why the upload gave the stream up, nil if it did not. When the caller's body breaks, net/http cancels the
// request's context before the upload has had its say, so that it is waited for a moment.
func (u *upload) verdict() *Problem {
	if u.c.r.Context().Err() != nil {
		u.s.Reset(tunnel.Cancelled, "the caller has gone") // an upload that waits for the upstream goes on
		moment := time.NewTimer(time.Second)
		defer moment.Stop()
		select {
		case <-u.done:
		case <-moment.C:
		}
	}
	return u.failed.Load()
}

// stop ends the upload and waits for it. The caller's connection is of no more use if its body was not read to the
// end; net/http sees that.
func (u *upload) stop() {
	select {
	case <-u.done:
		return
	default:
	}
	u.stopping.Store(true)
	_ = u.c.rc.SetReadDeadline(time.Unix(1, 0))
	u.s.Reset(tunnel.Cancelled, "the exchange has ended at the relay")
	<-u.done
}

// bodyFailed words a body that could not be read.
func (c *call) bodyFailed(err error, executed string) *Problem {
	var p *Problem
	switch {
	case c.stopping():
		p = problemOf(fmt.Errorf("%w: %w", ErrStopping, err))
	case errors.Is(err, os.ErrDeadlineExceeded): // before the context, because net/http cancels the request's context for it
		p = NewProblem("caller-too-slow", fmt.Sprintf("No byte of the body came for %s.", c.p.o.CallerTimeout)).because(err)
	case c.r.Context().Err() != nil:
		p = problemOf(fmt.Errorf("%w: %w", context.Cause(c.r.Context()), err))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, http.ErrAbortHandler):
		p = unknown("caller-gone", tunnel.OriginRelay, "The caller broke off its body.", err)
	default:
		p = NewProblem("bad-request", "The body's framing is broken.").because(err)
	}
	p.Executed = executed
	return p
}
