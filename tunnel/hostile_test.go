package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// raw is an agent's link under test, and the bare WebSocket of a relay that misbehaves.
func raw(t *testing.T, o Options) (*websocket.Conn, <-chan error) {
	t.Helper()
	rws, aws := sockets(t)
	if o.Serve == nil {
		o.Serve = func(s *Stream) { <-s.Context().Done() }
	}
	ended := make(chan error, 1)
	go func() { ended <- New(aws, AgentSide, o).Run(context.Background()) }()
	t.Cleanup(func() { _ = rws.Close() })
	return rws, ended
}

func frame(typ frameType, flags byte, stream uint64, payload []byte) []byte {
	var h [headerSize]byte
	frameHeader{typ, flags, len(payload), stream}.put(&h)
	return append(h[:], payload...)
}

func open(stream uint64) []byte {
	return frame(frameOpen, 0, stream, appendRequest(nil, &Request{ID: "r", Method: "POST", Target: "/", ContentLength: -1}))
}

// What breaks the protocol ends the link, with a reason; it never hangs and never panics.
func TestProtocolErrorsEndTheLink(t *testing.T) {
	for name, messages := range map[string][][]byte{
		"half a header":                {{1, 2, 3}},
		"a frame cut short":            {frame(frameData, 0, 1, make([]byte, 100))[:50]},
		"a frame longer than allowed":  {append([]byte{byte(frameData), 0, 0xff, 0xff}, make([]byte, 8)...)},
		"data for a stream never seen": {frame(frameData, 0, 7, []byte("x"))},
		"data for stream 0":            {frame(frameData, 0, 0, []byte("x"))},
		"window for our own number":    {frame(frameWindow, 0, 2, appendU32(1))},
		"open with our numbers":        {open(2)},
		"open of stream 0":             {open(0)},
		"open twice":                   {open(1), open(1)},
		"response to an accepter":      {open(1), frame(frameHead, 0, 1, nil)},
		"more than the credit":         {open(1), bytes.Repeat(frame(frameData, 0, 1, make([]byte, 30_000)), 2), frame(frameData, 0, 1, make([]byte, 30_000))},
		"body before it was allowed": {
			frame(frameOpen, 0, 1, appendRequest(nil, &Request{ID: "r", Method: "PUT", Target: "/", ContentLength: 9, Expect: true})),
			frame(frameData, 0, 1, []byte("too early")),
		},
		"endless credit":           append([][]byte{open(1)}, manyWindows()...),
		"short window":             {open(1), frame(frameWindow, 0, 1, []byte{1})},
		"reset without a code":     {open(1), frame(frameReset, 0, 1, nil)},
		"short ping":               {frame(framePing, 0, 0, []byte{1})},
		"short pong":               {frame(framePong, 0, 0, nil)},
		"short goaway":             {frame(frameGoAway, 0, 0, []byte{1})},
		"control that is not JSON": {frame(frameControl, 0, 0, []byte("hello"))},
		"endless control":          endless(frameControl, 0),
		"endless head":             endless(frameOpen, 1),
		"a head within a head":     {frame(frameOpen, flagMore, 1, []byte("a")), frame(frameTrailer, 0, 1, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws, ended := raw(t, Options{})
			for _, m := range messages {
				if ws.WriteMessage(websocket.BinaryMessage, m) != nil {
					break // it has ended the link already
				}
			}
			select {
			case err := <-ended:
				if _, ok := errors.AsType[*protocolError](err); !ok {
					t.Errorf("the link ended with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("the link lives on")
			}
		})
	}
	t.Run("text", func(t *testing.T) {
		ws, ended := raw(t, Options{})
		_ = ws.WriteMessage(websocket.TextMessage, []byte("hello"))
		if _, ok := errors.AsType[*protocolError](<-ended); !ok {
			t.Error("a text message passed")
		}
	})
	t.Run("a message beyond the limit", func(t *testing.T) {
		ws, ended := raw(t, Options{})
		_ = ws.WriteMessage(websocket.BinaryMessage, make([]byte, MaxMessage+1))
		if _, ok := errors.AsType[*protocolError](<-ended); !ok {
			t.Error("it passed")
		}
	})
}

func manyWindows() (m [][]byte) {
	for range 300 {
		m = append(m, frame(frameWindow, 0, 1, binary.BigEndian.AppendUint32(nil, 1<<32-1)))
	}
	return m
}

func endless(typ frameType, stream uint64) (m [][]byte) {
	for range maxPartial/30_000 + 2 {
		m = append(m, frame(typ, flagMore, stream, make([]byte, 30_000)))
	}
	return m
}

// What a newer peer may say, and what comes late, does no harm.
func TestUnknownAndLateFramesAreSkipped(t *testing.T) {
	served := make(chan *Request, 1)
	ws, ended := raw(t, Options{Serve: func(s *Stream) {
		served <- s.Request()
		_ = s.SendResponse(&Response{Status: 204}, true)
	}})
	head := appendRequest(nil, &Request{ID: "r", Method: "GET", Target: "/new", ContentLength: 0})
	head = append(head, 200, 3, 'n', 'e', 'w') // an unknown field
	for _, m := range [][]byte{
		frame(0x7f, 0xff, 99, []byte("from the future")),
		frame(frameControl, 0, 0, []byte(`{"kind":"from-the-future","body":{"a":1}}`)),
		frame(frameControl, 0, 0, []byte(`{"kind":"capabilities","body":{"max_streams":10,"new":true}}`)),
		frame(frameOpen, flagEnd, 1, head),
		frame(frameData, 0, 1, []byte("late")),
		frame(frameWindow, 0, 1, appendU32(5)),
		frame(frameReset, 0, 1, []byte{byte(Cancelled)}),
		frame(framePong, 0, 0, make([]byte, 8)),
	} {
		if err := ws.WriteMessage(websocket.BinaryMessage, m); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-served; r.Target != "/new" {
		t.Errorf("served %+v", r)
	}
	_ = ws.WriteMessage(websocket.BinaryMessage, frame(framePing, 0, 0, []byte("12345678")))
	for {
		_, m, err := ws.ReadMessage()
		if err != nil {
			t.Fatalf("no pong: %v; %v", err, <-ended)
		}
		if bytes.Contains(m, frame(framePong, 0, 0, []byte("12345678"))) {
			return
		}
	}
}

// A head that HTTP does not allow costs its stream, not the link.
func TestBadHeadsCostTheirStreamAlone(t *testing.T) {
	bad := map[string]*Request{
		"no ID":           {Method: "GET", Target: "/"},
		"odd ID":          {ID: "a b", Method: "GET", Target: "/"},
		"method":          {ID: "r", Method: "GE T", Target: "/"},
		"no target":       {ID: "r", Method: "GET"},
		"absolute target": {ID: "r", Method: "GET", Target: "http://other/"},
		"newline":         {ID: "r", Method: "GET", Target: "/a\r\nX: y"},
		"field name":      {ID: "r", Method: "GET", Target: "/", Header: http.Header{"A b": {"1"}}},
		"field value":     {ID: "r", Method: "GET", Target: "/", Header: http.Header{"A": {"1\r\nB: 2"}}},
		"upgrade":         {ID: "r", Method: "GET", Target: "/", Upgrade: "web socket"},
	}
	ws, _ := raw(t, Options{Serve: func(s *Stream) { t.Errorf("served %+v", s.Request()) }})
	id := uint64(1)
	for name, r := range bad {
		_ = ws.WriteMessage(websocket.BinaryMessage, frame(frameOpen, flagEnd, id, appendRequest(nil, r)))
		if code := awaitReset(t, ws, id); code != BadSequence {
			t.Errorf("%s: reset with %v", name, code)
		}
		id += 2
	}
}

func awaitReset(t *testing.T, ws *websocket.Conn, stream uint64) ResetCode {
	t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, r, err := ws.NextReader()
		if err != nil {
			t.Fatal(err)
		}
		var b [headerSize]byte
		for {
			if _, err := io.ReadFull(r, b[:]); err != nil {
				break
			}
			h := parseFrameHeader(&b)
			payload := make([]byte, h.length)
			_, _ = io.ReadFull(r, payload)
			if h.typ == frameReset && h.stream == stream {
				return ResetCode(payload[0])
			}
		}
	}
}

// 100,000 streams, and a peer that never reads what it is told about them.
func TestAFloodOfStreamsIsBounded(t *testing.T) {
	var most atomic.Int64
	ws, ended := raw(t, Options{MaxStreams: 50, Serve: func(s *Stream) {
		n := int64(s.link.Streams())
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-s.Context().Done()
	}})
	_ = ws.SetWriteDeadline(time.Now().Add(30 * time.Second))
	var m []byte
	for i := range uint64(100_000) {
		m = append(m, open(2*i+1)...)
		if len(m) > 50_000 {
			if ws.WriteMessage(websocket.BinaryMessage, m) != nil {
				break
			}
			m = m[:0]
		}
	}
	_ = ws.Close()
	<-ended
	if n := most.Load(); n == 0 || n > 50 {
		t.Errorf("%d streams were open at once", n)
	}
}

// Random bytes, in any number of messages, do nothing but end the link.
func FuzzReader(f *testing.F) {
	f.Add(open(1))
	f.Add(append(open(1), frame(frameData, flagEnd, 1, []byte("x"))...))
	f.Add(frame(frameControl, 0, 0, []byte(`{"kind":"capabilities","body":{}}`)))
	f.Add(append(frame(frameOpen, flagMore, 1, []byte("a")), frame(frameOpen, 0, 1, []byte("b"))...))
	f.Add(append(frame(framePing, 0, 0, make([]byte, 8)), frame(frameGoAway, 0, 0, make([]byte, 8))...))
	f.Add(append(open(1), frame(frameTrailer, 0, 1, []byte{1, 'X', 1, 'y'})...))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := newBareLink(AgentSide, Options{Serve: func(s *Stream) { <-s.Context().Done() }})
		for len(data) > 0 {
			n := min(len(data), MaxMessage)
			if l.readMessage(bytes.NewReader(data[:n])) != nil {
				break
			}
			data = data[n:]
		}
		l.mu.Lock()
		l.err = errClosed{"fuzz"}
		var streams []*Stream
		for _, s := range l.streams {
			streams = append(streams, s)
		}
		l.mu.Unlock()
		for _, s := range streams {
			s.kill(l.err, true)
		}
		close(l.done)
		l.serving.Wait()
		if held := l.held.Load(); held != 0 {
			t.Errorf("%d bytes are held by streams that are gone", held)
		}
		if l.partials != 0 {
			t.Errorf("%d bytes of incomplete heads are left", l.partials)
		}
	})
}

func FuzzRequestHead(f *testing.F) {
	f.Add(appendRequest(nil, &Request{ID: "r", API: "a", Method: "GET", Target: "/x", Header: http.Header{"A": {"b", "c"}}, ContentLength: 5, Expect: true, Upgrade: "websocket", Timeout: time.Second, Caller: "key:x"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRequest(data)
		if err != nil {
			return
		}
		again, err := parseRequest(appendRequest(nil, r))
		if err != nil || again.Target != r.Target || len(again.Header) != len(r.Header) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzResponseHead(f *testing.F) {
	seed, _ := appendResponse(nil, &Response{Status: 200, Header: http.Header{"A": {"b"}}, ContentLength: 3, Problem: &Problem{Code: "c"}, Times: Times{Auth: time.Second}})
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseResponse(data)
		if err != nil {
			return
		}
		raw, err := appendResponse(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseResponse(raw); err != nil || again.Status != r.Status || len(again.Header) != len(r.Header) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzJoinString(f *testing.F) {
	f.Add(JoinString{Relay: "https://r", RelayKey: "k", Gateway: "g", Code: "c"}.Encode())
	f.Fuzz(func(t *testing.T, line string) {
		j, err := ParseJoinString(line)
		if err != nil {
			return
		}
		if again, err := ParseJoinString(j.Encode()); err != nil || again != j {
			t.Errorf("%v became %v, %v", j, again, err)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"body":{"kind":"link"},"sig":"AAAA"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := parseEnvelope(data)
		if err != nil {
			return
		}
		var c Claim
		if env.into(&c) == nil && checkClaim(c, env, make([]byte, 32)) == nil {
			t.Error("a claim without a signature was accepted")
		}
	})
}
