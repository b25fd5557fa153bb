package tunnel

import (
	"runtime"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A relay has thousands of idle links: each costs two goroutines, the reader and the writer, and little memory. Not parallel:
// it counts the whole process's.
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
	stacks := make([]runtime.StackRecord, 100*pairs)
	n, ok := runtime.GoroutineProfile(stacks)
	if !ok {
		t.Fatalf("%d goroutines", n)
	}
	loops := 0
	for _, s := range stacks[:n] {
		if inLink(s.Stack()) {
			loops++
		}
	}
	if want := 2 * len(all); loops > want {
		t.Errorf("%d idle links have %d goroutines, want %d", len(all), loops, want)
	}
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
