package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/tunnel"
)

// A switched is an upgraded exchange: bytes both ways after a 101, until both have ended or neither says anything.
type switched struct {
	s      *service
	up     *upgradedBody
	idle   time.Duration
	began  time.Time
	active atomic.Int64 // when bytes last went either way, in nanoseconds since began: the time of day can be set
	ended  atomic.Int64 // when the caller ended its half, likewise; 0 while it has not
}

// upgraded passes the 101 on and then bytes, beginning with those that came right behind it.
func (s *service) upgraded(ctx context.Context, resp *http.Response) error {
	w := &switched{s: s, up: resp.Body.(*upgradedBody), idle: s.t.cfg.IdleTimeout, began: time.Now()}
	protocol := upgradeOf(resp.Header)
	out := s.head(resp)
	out.Header.Set("Upgrade", protocol)
	out.ContentLength = -1
	if err := s.sent(s.st.SendResponse(out, false)); err != nil {
		return err
	}
	w.touch()
	s.st.SetReadTimeout(0) // fromUpstream keeps the time for both directions
	s.st.SetWriteTimeout(s.body.silence)
	var toUpstream sync.WaitGroup
	var inErr error
	toUpstream.Go(func() { inErr = w.fromCaller() })
	outErr := w.fromUpstream()
	var late *time.Timer
	if outErr == nil {
		late = time.AfterFunc(w.s.t.cfg.Linger, func() { s.st.Reset(tunnel.Cancelled, "the upstream has ended its half") })
	} else {
		s.cause = asError(ctx, outErr, false) // before the stream's own end hides it
		s.st.Reset(refusalOf(s.cause.Kind).reset, "the upgraded exchange ended")
		_ = w.up.Close()
	}
	toUpstream.Wait()
	if late != nil && !late.Stop() {
		inErr = nil // cut off after the upstream's end: a whole exchange
	}
	if outErr != nil {
		return outErr
	}
	return inErr
}

func (w *switched) touch() { w.active.Store(int64(time.Since(w.began))) }

func (w *switched) quiet() time.Duration { return time.Since(w.began) - time.Duration(w.active.Load()) }

// left is how long the upstream may still be read: within the idle timeout, and after the caller's end not much longer.
// Many upstreams take no notice of a half-close, and a caller that has gone must not hold a place for the idle timeout.
func (w *switched) left() time.Duration {
	left := w.idle - w.quiet()
	if at := w.ended.Load(); at != 0 {
		left = min(left, w.s.t.cfg.Linger-(time.Since(w.began)-time.Duration(at)))
	}
	return left
}

// fromUpstream copies until the upstream ends its half. It alone reads the connection, and ends the exchange when
// nothing has gone either way for too long, or the caller has gone for good.
func (w *switched) fromUpstream() error {
	buf := copyBuffers.Get().(*[chunkHead + copySize + 2]byte)
	defer copyBuffers.Put(buf)
	for {
		w.up.a.c.readUntil(time.Now().Add(w.left()))
		n, err := w.up.Read(buf[:copySize])
		if n > 0 {
			w.touch()
			if _, werr := w.s.st.Write(buf[:n]); werr != nil {
				return &Error{Kind: CallerGone, Err: fmt.Errorf("send to the caller: %w", werr)}
			}
			w.s.out += int64(n)
		}
		switch {
		case err == io.EOF:
			return w.s.st.CloseWrite(nil)
		case errors.Is(err, os.ErrDeadlineExceeded) && w.left() > 0:
		case errors.Is(err, os.ErrDeadlineExceeded) && w.ended.Load() != 0:
			return &Error{Kind: CallerGone, Err: fmt.Errorf("the caller ended, and the upstream did not within %s", w.s.t.cfg.Linger)}
		case errors.Is(err, os.ErrDeadlineExceeded):
			return &Error{Kind: TimedOut, Err: fmt.Errorf("the upgraded exchange was silent for %s", w.idle)}
		case err != nil:
			return err
		}
	}
}

// fromCaller copies until the caller ends its half, which the upstream is told.
func (w *switched) fromCaller() error {
	buf := copyBuffers.Get().(*[chunkHead + copySize + 2]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := w.s.st.Read(buf[:copySize])
		if n > 0 {
			w.touch()
			w.s.body.taken.Add(int64(n))
			if _, werr := w.up.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			w.ended.Store(max(1, int64(time.Since(w.began))))
			w.up.a.c.readUntil(time.Now().Add(w.left())) // fromUpstream waits already
			return w.up.CloseWrite()
		}
		if err != nil {
			w.up.a.c.abort()
			return &Error{Kind: CallerGone, Err: fmt.Errorf("read from the caller: %w", err)}
		}
	}
}
