package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// heap is what is in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// settle waits until the link under test has taken in all that was written: it answers a ping.
func settle(t *testing.T, ws *websocket.Conn) {
	t.Helper()
	if err := ws.WriteMessage(websocket.BinaryMessage, frame(framePing, 0, 0, []byte("settled?"))); err != nil {
		t.Fatal(err)
	}
	_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		_, m, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(m), "settled?") {
			return
		}
	}
}

// overhead is what a link may hold beside its memory: heads that are not complete, control frames that wait, pools, and what
// a few hundred streams and their goroutines are.
const overhead = maxPartial + maxQueued

// What a hostile relay sends within the protocol, on as many streams as it likes, to an agent that reads none of it, stays
// within the link's memory. Not parallel: it looks at the whole heap.
func TestTheHeapStaysWithinALinksMemory(t *testing.T) {
	const memory = 16 << 20
	manyFields := http.Header{}
	for i := range 3900 {
		manyFields[fmt.Sprintf("A%d", i)] = []string{""}
	}
	for name, attack := range map[string]func(id uint64, send func([]byte)){
		"one byte a frame": func(id uint64, send func([]byte)) {
			send(open(id))
			for range 4 {
				var m []byte
				for range 4000 {
					m = append(m, frame(frameData, 0, id, []byte("x"))...)
				}
				send(m)
			}
		},
		"awkward frames": func(id uint64, send func([]byte)) {
			send(open(id))
			for range 31 {
				send(frame(frameData, 0, id, make([]byte, smallChunk+1)))
			}
		},
		"whole windows": func(id uint64, send func([]byte)) {
			send(open(id))
			send(frame(frameData, 0, id, make([]byte, 32<<10)))
			send(frame(frameData, 0, id, make([]byte, 32<<10)))
		},
		"large heads": func(id uint64, send func([]byte)) {
			sendHead(id, http.Header{"A": {strings.Repeat("a", 1_000_000)}}, send)
		},
		"heads of many fields": func(id uint64, send func([]byte)) { sendHead(id, manyFields, send) },
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			ws, ended := raw(t, Options{Memory: memory, MaxStreams: 10_000})
			send := func(m []byte) {
				if err := ws.WriteMessage(websocket.BinaryMessage, m); err != nil {
					t.Fatalf("the link has ended: %v; %v", err, <-ended)
				}
			}
			for i := range uint64(400) {
				attack(2*i+1, send)
			}
			settle(t, ws)
			grown := heap() - before
			t.Logf("%d MB of heap, %d MB of memory for the link", grown>>20, memory>>20)
			// A chunk may be twice what it holds.
			if grown > 2*memory+overhead {
				t.Errorf("the heap has grown by %d bytes", grown)
			}
			_ = ws.Close()
			<-ended
			if grown := heap() - before; grown > overhead {
				t.Errorf("%d bytes are left of it", grown)
			}
		})
	}
}

// sendHead opens a stream with a head in as many frames as it takes.
func sendHead(id uint64, h http.Header, send func([]byte)) {
	head := appendRequest(nil, &Request{ID: "r", Method: "POST", Target: "/", ContentLength: -1, Header: h})
	for len(head) > 60_000 {
		send(frame(frameOpen, flagMore, id, head[:60_000]))
		head = head[60_000:]
	}
	send(frame(frameOpen, 0, id, head))
}

// The answers of a hostile agent, 1xx without end and heads of a megabyte, to calls that nobody reads on, are bounded too.
func TestAnswersStayWithinALinksMemory(t *testing.T) {
	const memory = 16 << 20
	before := heap()
	rws, aws := sockets(t)
	relay := New(rws, RelaySide, Options{Memory: memory})
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(context.Background()) }()
	big, err := appendResponse(nil, &Response{Status: 103, Header: http.Header{"A": {strings.Repeat("a", 1_000_000)}}})
	if err != nil {
		t.Fatal(err)
	}
	var streams []*Stream
	for range 20 {
		s, err := relay.Open(get("/"), true)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
		for range 10 {
			rest := big
			for len(rest) > 60_000 {
				_ = aws.WriteMessage(websocket.BinaryMessage, frame(frameHead, flagMore, s.ID(), rest[:60_000]))
				rest = rest[60_000:]
			}
			if err := aws.WriteMessage(websocket.BinaryMessage, frame(frameHead, 0, s.ID(), rest)); err != nil {
				t.Fatalf("the link has ended: %v", err)
			}
		}
	}
	settle(t, aws)
	grown := heap() - before
	t.Logf("%d MB of heap, %d MB of memory for the link", grown>>20, memory>>20)
	if grown > 2*memory+overhead {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	for _, s := range streams {
		s.Reset(Cancelled, "the test is over")
	}
	_ = aws.Close()
	<-ended
	if held := relay.held.Load(); held != 0 {
		t.Errorf("%d bytes are held by streams that are gone", held)
	}
}

// A peer that opens and resets streams without end does not pile up what serves them.
func TestRapidResetsAreBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	ws, ended := raw(t, Options{MaxStreams: 20, Serve: func(*Stream) { <-release }}) // slow to notice
	before := runtime.NumGoroutine()
	var m []byte
	for i := range uint64(5000) {
		m = append(append(m, open(2*i+1)...), frame(frameReset, 0, 2*i+1, []byte{byte(Cancelled)})...)
		if len(m) > 50_000 {
			_ = ws.WriteMessage(websocket.BinaryMessage, m)
			m = m[:0]
		}
	}
	settle(t, ws)
	if n := runtime.NumGoroutine() - before; n > 500 { // other tests run beside it
		t.Errorf("%d goroutines serve 20 streams", n)
	}
	close(release)
	_ = ws.Close()
	<-ended
}

// A peer that never reads costs the link, not the program: what waits for it is bounded, and the link ends.
func TestAPeerThatNeverReadsLosesTheLink(t *testing.T) {
	t.Parallel()
	ws, ended := raw(t, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		for {
			if _, err := s.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}})
	// It goes on sending, pings too: it is alive, and takes nothing.
	began := time.Now()
	for i := range uint64(200) {
		id := 2*i + 1
		credit := frame(frameWindow, 0, id, binary.BigEndian.AppendUint32(nil, 1<<30))
		if err := ws.WriteMessage(websocket.BinaryMessage, append(open(id), credit...)); err != nil {
			t.Fatal(err)
		}
	}
	for {
		select {
		case err := <-ended:
			if _, bad := errors.AsType[*protocolError](err); bad {
				t.Errorf("the link ended with %v", err)
			}
			t.Logf("after %s: %v", time.Since(began).Round(time.Millisecond), err)
			return
		case <-time.After(time.Second):
			_ = ws.WriteMessage(websocket.BinaryMessage, frame(framePing, 0, 0, make([]byte, 8)))
			if time.Since(began) > 40*time.Second {
				t.Fatal("the link lives on")
			}
		}
	}
}
