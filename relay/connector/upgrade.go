package connector

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"sallyport/tunnel"
)

// upgraded answers 101 and passes bytes both ways until both sides have ended, or nothing moved for IdleTimeout.
func (c *call) upgraded(s *tunnel.Stream, resp *tunnel.Response) error {
	if !c.upgrade {
		return unknown("bad-answer", tunnel.OriginRelay, "The API switched protocols unasked.", nil)
	}
	h := make(http.Header, len(resp.Header)+3)
	copyResponse(h, resp.Header, c.shared())
	delete(h, "Content-Type")
	h["Upgrade"] = []string{"websocket"}
	h["Connection"] = []string{"Upgrade"}
	h[requestIDHeader] = []string{c.event.ID}
	conn, buffered, err := c.rc.Hijack()
	if err != nil {
		return fmt.Errorf("take over the caller's connection: %w", err)
	}
	defer conn.Close()
	c.started = true
	c.event.Status = http.StatusSwitchingProtocols
	_ = conn.SetDeadline(time.Time{})
	if err := writeSwitch(conn, h, c.p.o.CallerTimeout); err != nil {
		return nil // the caller has gone
	}
	headAt := time.Now()
	c.passBytes(conn, buffered.Reader, s)
	c.event.Took.Answer = time.Since(headAt)
	return nil
}

func writeSwitch(conn net.Conn, h http.Header, within time.Duration) error {
	_ = conn.SetWriteDeadline(time.Now().Add(within))
	w := bufio.NewWriter(conn)
	_, _ = w.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(w)
	_, _ = w.WriteString("\r\n")
	return w.Flush()
}

// passBytes runs both directions and waits for both. The caller's bytes that came with the handshake are in buffered;
// what follows is read from conn itself, because net/http's reader cancels the request at the first half-close.
func (c *call) passBytes(conn net.Conn, buffered *bufio.Reader, s *tunnel.Stream) {
	early, _ := buffered.Peek(buffered.Buffered())
	r := io.MultiReader(bytes.NewReader(early), conn)
	idle := time.AfterFunc(c.p.bounds.Load().IdleTimeout, func() {
		s.Reset(tunnel.TimedOut, "nothing moved for the idle timeout")
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer idle.Stop()
	s.SetReadTimeout(0)
	alive := func() { idle.Reset(c.p.bounds.Load().IdleTimeout) }

	ended := time.AfterFunc(c.p.o.Linger, func() { s.Reset(tunnel.Cancelled, "the caller has ended its side") })
	ended.Stop() // it starts when the caller's side ends
	defer ended.Stop()
	var wg sync.WaitGroup
	stop := context.AfterFunc(c.r.Context(), func() { // the relay is being stopped
		s.Reset(tunnel.Cancelled, "the relay is stopping")
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	wg.Go(func() {
		n, err := io.Copy(&aliveWriter{s, alive}, r)
		c.event.In = n
		if err != nil {
			s.Reset(tunnel.BrokenOff, "the caller broke off")
			return
		}
		_ = s.CloseWrite(nil)
		// A caller that has ended its side mostly has gone, which many upstreams do not notice.
		ended.Reset(c.p.o.Linger)
	})
	n, err := s.WriteTo(&aliveWriter{&deadlineWriter{conn, c.p.o.CallerTimeout}, alive})
	c.event.Out = n
	if err != nil && !errors.Is(err, io.EOF) {
		c.event.Broken = true
		reset(conn)
	} else {
		closeWrite(conn)
	}
	// A peer that has ended its side should end the other soon.
	_ = conn.SetReadDeadline(time.Now().Add(c.p.o.Linger))
	wg.Wait()
}

// closeWrite ends our half; TLS and TCP both can.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// An aliveWriter tells that bytes move.
type aliveWriter struct {
	io.Writer
	alive func()
}

func (w *aliveWriter) Write(p []byte) (int, error) {
	w.alive()
	return w.Writer.Write(p)
}

// A deadlineWriter gives each Write its time.
type deadlineWriter struct {
	net.Conn
	within time.Duration
}

func (w *deadlineWriter) Write(p []byte) (int, error) {
	_ = w.SetWriteDeadline(time.Now().Add(w.within))
	return w.Conn.Write(p)
}
