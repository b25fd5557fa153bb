package tunnel

import (
	"runtime"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A relay has thousands of idle links: each costs one goroutine, the reader, and little memory. Not parallel: it
// counts the whole process's.
func TestAnIdleLinkHoldsLittle(t *testing.T) {
	const pairs, perLink = 50, 4 << 10
	var ends [pairs][2]*websocket.Conn
	for i := range ends {
		ends[i][0], ends[i][1] = sockets(t)
	}
	before := heap()
	var all []*Link
	for _, e := range ends {
		relay, agent := runLinks(t, e[0], e[1], Options{}, Options{})
		all = append(all, relay, agent)
	}
	for _, l := range all { // both sides have written and read
		for began := time.Now(); l.RTT() == 0; time.Sleep(time.Millisecond) {
			if time.Since(began) > 30*time.Second {
				t.Fatal("a ping was not answered")
			}
		}
	}
	if held := (heap() - before) / int64(len(all)); held > perLink {
		t.Errorf("an idle link holds %d bytes, want at most %d", held, perLink)
	}
	// A writer is there for a moment when a ping or its answer is written.
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		loops := inLinks(t)
		if loops == len(all) {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d idle links have %d goroutines", len(all), loops)
		}
	}
}

// A writer stays while streams come and go, and leaves after them.
func TestTheWriterStaysWhileALinkIsBusy(t *testing.T) {
	t.Parallel()
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) { _ = s.Answer(&Response{Status: 204}, nil) }})
	for range 3 {
		s, err := relay.Open(get("/"), true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReadResponse(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Reset(Cancelled, "done")
		if !relay.stay() {
			t.Fatal("the writer of a busy link leaves")
		}
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		relay.mu.Lock()
		there := relay.writer
		relay.mu.Unlock()
		if !there {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("the writer of an idle link stays")
		}
	}
}

// inLinks counts the goroutines that run links.
func inLinks(t *testing.T) (n int) {
	t.Helper()
	stacks := make([]runtime.StackRecord, 10_000)
	all, ok := runtime.GoroutineProfile(stacks)
	if !ok {
		t.Fatalf("%d goroutines", all)
	}
	for _, s := range stacks[:all] {
		if inLink(s.Stack()) {
			n++
		}
	}
	return n
}

// inLink reports whether a goroutine runs a link: its stack has a method of Link.
func inLink(stack []uintptr) bool {
	const method = "sallyport/tunnel.(*Link)."
	frames := runtime.CallersFrames(stack)
	for {
		f, more := frames.Next()
		if len(f.Function) > len(method) && f.Function[:len(method)] == method {
			return true
		}
		if !more {
			return false
		}
	}
}
