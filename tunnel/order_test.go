package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// opened gives the numbers of the streams that a message opens, in their order, and those whose head it completes.
func opened(t *testing.T, b *batch, partial map[uint64]bool) (ids []uint64) {
	t.Helper()
	for _, f := range b.frames {
		h := f.header[:]
		if f.raw != nil {
			h = f.raw
		}
		if frameType(h[0]) != frameOpen {
			continue
		}
		id := binary.BigEndian.Uint64(h[headerSize-8:])
		if !partial[id] {
			ids = append(ids, id)
		}
		partial[id] = h[1]&flagMore != 0
	}
	return ids
}

// TestStreamsAreOpenedInOrder: the peer takes a stream with a number below the last one for one that it has refused, so none may
// overtake another where a message is full.
func TestStreamsAreOpenedInOrder(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 150, 3000, 40_000, 200_000} {
		l := newBareLink(RelaySide, Options{Memory: 1 << 30})
		l.peerMax = 1 << 20
		open := func(n int) {
			for range n {
				req := &Request{Method: "GET", Target: "/" + strings.Repeat("x", 5), Header: http.Header{"X": {strings.Repeat("y", size)}}}
				if _, err := l.Open(req, true); err != nil {
					t.Fatal(err)
				}
			}
		}
		count := max(4, 200_000/size)
		if count > 1500 {
			count = 1500
		}
		open(count)
		var b batch
		last, partial, total := uint64(0), map[uint64]bool{}, 0
		for round := 0; ; round++ {
			l.mu.Lock()
			if round%3 == 1 {
				l.queueControl(framePing, 0, 0, make([]byte, 8)) // leaves less room
			}
			l.fill(&b)
			l.mu.Unlock()
			if len(b.frames) == 0 {
				break
			}
			if b.size > budget {
				t.Fatalf("heads of %d bytes: a message of %d bytes", size, b.size)
			}
			for _, id := range opened(t, &b, partial) {
				if id <= last {
					t.Fatalf("heads of %d bytes: stream %d is opened after %d", size, id, last)
				}
				last = id
				total++
			}
			b.reset()
			if round < 5 {
				open(3) // later ones are urgent as well
				count += 3
			}
		}
		if total != count {
			t.Errorf("heads of %d bytes: %d of %d streams were opened", size, total, count)
		}
		for id, more := range partial {
			if more {
				t.Errorf("heads of %d bytes: that of stream %d has no end", size, id)
			}
		}
	}
}

// TestPongBehindOpens: a peer that has said that it leaves takes the answer to its ping for the word that no stream is under way to it.
func TestPongBehindOpens(t *testing.T) {
	t.Parallel()
	l := newBareLink(RelaySide, Options{Memory: 1 << 30})
	for range 5 {
		req := &Request{Method: "GET", Target: "/", Header: http.Header{"X": {strings.Repeat("y", 40_000)}}}
		if _, err := l.Open(req, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.onGoAway(appendGoAway(allUnderWay, "the agent stops")); err != nil {
		t.Fatal(err)
	}
	if err := l.onPing(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	var b batch
	open, ponged := 0, false
	for partial := map[uint64]bool{}; ; b.reset() {
		l.mu.Lock()
		l.fill(&b)
		l.mu.Unlock()
		if len(b.frames) == 0 {
			break
		}
		ids := opened(t, &b, partial)
		open += len(ids)
		for _, f := range b.frames {
			switch typ := frameType(f.header[0]); {
			case typ == framePong:
				ponged = true
			case typ == frameOpen && ponged && slices.Contains(ids, binary.BigEndian.Uint64(f.header[headerSize-8:])):
				t.Fatal("a stream is opened behind the answer")
			}
		}
	}
	if open != 5 || !ponged {
		t.Errorf("%d of 5 streams were opened, the ping was answered: %v", open, ponged)
	}
}

// TestFiveHundredAtOnce: every one of five hundred calls that begin together is answered.
func TestFiveHundredAtOnce(t *testing.T) {
	t.Parallel()
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: 0}, true)
	}})
	ctx := within(t)
	var group sync.WaitGroup
	for n := range 500 {
		group.Go(func() {
			for range 5 {
				req := get("/" + fmt.Sprint(n))
				req.Header = http.Header{"X": {strings.Repeat("y", 500)}}
				s, err := relay.Open(req, true)
				if err != nil {
					t.Errorf("call %d: %v", n, err)
					return
				}
				if r, err := s.ReadResponse(ctx); err != nil || r.Status != 200 {
					t.Errorf("call %d: %v", n, err)
				}
				s.Reset(Cancelled, "")
			}
		})
	}
	group.Wait()
}

// TestLateNumbersAreRefused: a peer that opens streams out of order hears that they were not run, and need not wait.
func TestLateNumbersAreRefused(t *testing.T) {
	t.Parallel()
	l := newBareLink(AgentSide, Options{Serve: func(s *Stream) { <-s.Context().Done() }})
	for _, id := range []uint64{5, 3} {
		if err := l.readMessage(bytes.NewReader(open(id))); err != nil {
			t.Fatal(err)
		}
	}
	l.mu.Lock()
	control, streams := len(l.control), len(l.streams)
	l.mu.Unlock()
	if control != 1 || streams != 1 {
		t.Fatalf("%d control frames, %d streams", control, streams)
	}
	if h := parseFrameHeader((*[headerSize]byte)(l.control[0][:headerSize])); h.typ != frameReset || h.stream != 3 {
		t.Errorf("%+v", h)
	}
	if code, _, err := parseReset(l.control[0][headerSize:]); err != nil || code != Refused {
		t.Errorf("code %d, %v", code, err)
	}
	l.mu.Lock()
	l.err = errClosed{"the test is over"}
	s := l.streams[5]
	l.mu.Unlock()
	s.kill(l.err, true)
	close(l.done)
	l.serving.Wait()
}
