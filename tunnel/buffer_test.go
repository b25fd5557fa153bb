package tunnel

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// Little that comes at a time takes little memory, much takes as much as a message carries, and what half fills the memory
// is not copied.
func TestABufferSuitsWhatComes(t *testing.T) {
	t.Parallel()
	var b Buffer
	var q queue
	defer b.Free()
	var want []byte
	for i, step := range []struct {
		n, next int
		copied  bool
	}{
		{1, narrow, true},
		{narrow / 2, narrow, false},
		{narrow, wide, false},
		{wide, wide, false},
		{narrow, wide, true}, // TLS gives no more at once
		{100, narrow, true},
	} {
		room := b.Room()
		for j := range room[:step.n] {
			room[j] = byte(i + j)
		}
		want = append(want, room[:step.n]...)
		b.moveTo(&q, step.n)
		last := q.chunks[len(q.chunks)-1]
		if copied := &last.buf[0] != &room[0]; copied != step.copied {
			t.Errorf("step %d: %d bytes were copied: %v", i, step.n, copied)
		}
		if got := len(b.Room()); got != step.next {
			t.Errorf("step %d: after %d bytes there is room for %d, want %d", i, step.n, got, step.next)
		}
	}
	got := make([]byte, len(want))
	if n := q.read(got); n != len(want) || q.size != 0 || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came out of %d, or not the same", n, len(want))
	}
}

// resend answers with what it is sent, by Send, in pieces of all sizes.
func resend(s *Stream) {
	_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
	random := rand.New(rand.NewPCG(s.ID(), 2))
	var b Buffer
	defer b.Free()
	for {
		room := b.Room()
		n, err := s.Read(room[:1+random.IntN(len(room))])
		if n > 0 && s.Send(&b, n) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	_ = s.CloseWrite(nil)
}

// Goroutines with much to send take turns at writing with the link's writer, which has small exchanges to carry: every byte
// arrives in its place, and Drain waits for whoever writes.
func TestSendTakesTurns(t *testing.T) {
	t.Parallel()
	relay, agent := secureLinks(t, &wire{wrapped: true}, Options{Serve: resend})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { exchangeEcho(t, relay, 4<<20, uint64(i)) })
	}
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				exchangeEcho(t, relay, 1+97*j, uint64(8+i))
			}
		})
	}
	wg.Wait()
	if err := agent.Drain(within(t), "test"); err != nil {
		t.Error(err)
	}
}

// Who sends to a peer that takes nothing waits, alone, and not past its timeout or the stream's end.
func TestSendWaitsForCredit(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		if s.Request().Target != "/stuck" {
			resend(s)
			return
		}
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		var b Buffer
		defer b.Free()
		for {
			if err := s.Send(&b, len(b.Room())); err != nil {
				result <- err
				return
			}
		}
	}})
	s, err := relay.Open(get("/stuck"), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadResponse(within(t)); err != nil {
		t.Fatal(err)
	}
	settles(t, "the window is used up", func() bool { return s.Buffered() == initialWindow })
	for i := range 20 {
		exchangeEcho(t, relay, 100<<10, uint64(i))
	}
	select {
	case err := <-result:
		t.Fatal("Send did not wait:", err)
	default:
	}
	s.Reset(Cancelled, "enough")
	select {
	case err := <-result:
		if err == nil || err == io.EOF {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Send still waits on a stream that has ended")
	}
}
