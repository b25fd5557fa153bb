package tunnel

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/fault"
)

// faultySecureLinks is faultyLinks over TLS, on connections as the programs make them.
func faultySecureLinks(t *testing.T, relayOptions, agentOptions Options) (relay, agent *Link, line *fault.Proxy) {
	t.Helper()
	relay, agent = secureLinksBy(t, &wire{wrapped: true}, func(addr string) string {
		var err error
		if line, err = fault.New(addr); err != nil {
			t.Fatal(err)
		}
		return line.Addr()
	}, relayOptions, agentOptions)
	t.Cleanup(func() { _ = line.Close() })
	return relay, agent, line
}

// Who sends on a line that has stopped is not held by it: an upload is over when it is given up, and a call is opened at once, long
// before the link ends.
func TestAStoppedLineHoldsNoSender(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(l *Link, until time.Time) error{
		"an upload": func(l *Link, until time.Time) error {
			s, err := l.Open(get("/"), false)
			if err != nil {
				return err
			}
			defer time.AfterFunc(time.Until(until), func() { s.Reset(TimedOut, "it takes too long") }).Stop()
			for err == nil {
				_, err = s.Write(make([]byte, 32<<10))
			}
			return nil
		},
		"small calls": func(l *Link, until time.Time) error {
			for time.Now().Before(until) {
				s, err := l.OpenWithBody(get("/"), make([]byte, 16<<10))
				if err != nil {
					return err
				}
				defer s.Reset(Cancelled, "done")
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay, agent, line := faultySecureLinks(t, Options{}, Options{Serve: func(s *Stream) { _, _ = io.Copy(io.Discard, s) }})
			awaitTrue(t, 10*time.Second, "both have heard of each other", func() bool { return relay.RTT() > 0 && agent.RTT() > 0 })
			began := time.Now()
			stop := time.AfterFunc(300*time.Millisecond, func() { line.Set(fault.Down, fault.Line{Hole: true}) })
			defer stop.Stop()
			if err := send(relay, began.Add(3*time.Second)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("a sender that had 3 s was held for %s", took.Round(time.Millisecond))
			}
		})
	}
}

// A peer that hears nothing closes the link. Who waits on this side is told as soon as that has come, although nothing can be sent.
func TestACloseIsToldWhileNothingCanBeSent(t *testing.T) {
	t.Parallel()
	var took time.Duration
	for range 4 { // a busy machine can be late once
		if took = closeOnAStoppedLine(t); took < closeTimeout*9/10 {
			return
		}
	}
	t.Errorf("the stream was told after %s", took)
}

// closeOnAStoppedLine gives how long who waits for an answer is not told that the peer has closed the link.
func closeOnAStoppedLine(t *testing.T) time.Duration {
	relay, agent, line := faultySecureLinks(t, Options{}, Options{Serve: func(s *Stream) { _, _ = io.Copy(io.Discard, s) }})
	s, err := relay.Open(get("/"), false)
	if err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	sending.Go(func() { _, _ = io.Copy(s, forever{}) })
	defer sending.Wait()
	time.Sleep(500 * time.Millisecond) // the window grows beyond what the kernels hold
	line.Set(fault.Down, fault.Line{Hole: true})
	time.Sleep(500 * time.Millisecond)
	began := time.Now()
	agent.Close("nothing was heard")
	if _, err := s.ReadResponse(within(t)); !errors.Is(err, ErrLinkLost) {
		t.Errorf("the stream ended with %v", err)
	}
	return time.Since(began)
}

// What the network does not take at once is sent by the writer, and no byte of it is lost or changes its place.
func TestWhatATurnOwesIsSent(t *testing.T) {
	t.Parallel()
	relay, agent, line := faultySecureLinks(t, Options{}, Options{Serve: echo})
	for _, l := range []fault.Line{{Rate: 4 << 20}, {Rate: 2 << 20, Piece: 700}, {Rate: 8 << 20, Delay: 5 * time.Millisecond}} {
		line.Set(fault.Both, l)
		var calls sync.WaitGroup
		for i := range 12 {
			calls.Go(func() { exchangeEcho(t, relay, 1000<<(i%9), uint64(i)) })
		}
		calls.Wait()
	}
	if err := agent.Drain(within(t), "the test is over"); err != nil {
		t.Errorf("Drain: %v", err)
	}
	if err := relay.Err(); err != nil && !strings.Contains(err.Error(), "the test is over") {
		t.Error(err)
	}
}

// A hasty write does not wait, and what it leaves is written by settle, in its order.
func TestHastyWrites(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	c := WrapConn(near)
	if c.now = newWriteNow(near); c.now == nil {
		t.Fatal("a socket cannot be written to without waiting")
	}
	_ = near.(*net.TCPConn).SetWriteBuffer(64 << 10)
	_ = far.(*net.TCPConn).SetReadBuffer(64 << 10)
	_ = far.SetReadDeadline(time.Now().Add(time.Minute)) // for bytes that never come
	var want, got bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	random := rand.NewChaCha8([32]byte{1})
	message := func(n int) func() error {
		return func() error { // in records, as TLS does
			for n > 0 {
				p := make([]byte, min(n, 16<<10))
				_, _ = random.Read(p)
				want.Write(p)
				if _, err := c.Write(p); err != nil {
					return err
				}
				n -= len(p)
			}
			return nil
		}
	}
	for owed := 0; owed < 50; {
		n := 1 + r.IntN(MaxMessage)
		owes, err := c.hastily(n, message(n)) // nobody reads: it would wait for ever
		if err != nil {
			t.Fatal(err)
		}
		if !owes {
			continue
		}
		owed++
		const control = 100
		var reading sync.WaitGroup
		left := int64(want.Len() + control - got.Len())
		reading.Go(func() { _, _ = io.CopyN(&got, far, left) })
		if err := message(control)(); err != nil { // somebody's control frame comes between
			t.Fatal(err)
		}
		if err := c.settle(); err != nil {
			t.Fatal(err)
		}
		reading.Wait()
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%d bytes were written and %d others came", want.Len(), got.Len())
	}
}
