package tunnel

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// sockets gives the two ends of a real WebSocket over loopback TCP.
func sockets(t testing.TB) (relay, agent *websocket.Conn) {
	t.Helper()
	got := make(chan *websocket.Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := NewUpgrader().Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
		}
		got <- ws
	}))
	t.Cleanup(srv.Close)
	agent, resp, err := NewDialer().Dial("ws"+strings.TrimPrefix(srv.URL, "http")+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return <-got, agent
}

// links runs both ends of a link until the test ends.
func links(t testing.TB, relayOptions, agentOptions Options) (relay, agent *Link) {
	t.Helper()
	rws, aws := sockets(t)
	return runLinks(t, rws, aws, relayOptions, agentOptions)
}

// runLinks runs both ends of a link over these sockets until the test ends.
func runLinks(t testing.TB, rws, aws *websocket.Conn, relayOptions, agentOptions Options) (relay, agent *Link) {
	t.Helper()
	relay, agent = New(rws, RelaySide, relayOptions), New(aws, AgentSide, agentOptions)
	var wg sync.WaitGroup
	wg.Go(func() { _ = relay.Run(context.Background()) })
	wg.Go(func() { _ = agent.Run(context.Background()) })
	t.Cleanup(func() {
		relay.Close("the test is over")
		agent.Close("the test is over")
		wg.Wait()
	})
	return relay, agent
}

func get(target string) *Request {
	return &Request{ID: "r1", API: "orders", Method: "GET", Target: target, Header: http.Header{}}
}

// within is the context of a step that must not hang.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestExchangeCarriesHeadsBodiesAndTrailers(t *testing.T) {
	var seen *Request
	var seenTrailer http.Header
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		seen = s.Request()
		body, err := io.ReadAll(s)
		if err != nil {
			t.Error(err)
		}
		seenTrailer = s.Trailer()
		_ = s.SendResponse(&Response{Status: 103, Header: http.Header{"Link": {"</a>"}}, ContentLength: -1}, false)
		_ = s.SendResponse(&Response{
			Status: 201, Header: http.Header{"X-A": {"1", "2"}, "Trailer": {"X-Sum"}}, ContentLength: -1,
			Times: Times{Agent: time.Millisecond, Upstream: 2 * time.Millisecond},
		}, false)
		_, _ = s.Write(bytes.ToUpper(body))
		_ = s.CloseWrite(http.Header{"X-Sum": {"9"}})
	}})
	req := &Request{
		ID: "abc-1", API: "orders", Method: "POST", Target: "/orders/%7Ex?q=a+b", Base: "https://relay.example.com/plant1/orders",
		Header: http.Header{"Accept": {"*/*"}, "X-Two": {"a", "b"}}, ContentLength: -1, Timeout: 230 * time.Second, Caller: "key:flow",
	}
	s, err := relay.Open(req, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(Cancelled, "done")
	if _, err := s.Write([]byte("hello ")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("world")); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(http.Header{"X-End": {"yes"}}); err != nil {
		t.Fatal(err)
	}
	early, err := s.ReadResponse(within(t))
	if err != nil || early.Status != 103 || early.Header.Get("Link") != "</a>" {
		t.Fatalf("informational response: %+v, %v", early, err)
	}
	final, err := s.ReadResponse(within(t))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	want := &Response{
		Status: 201, Header: http.Header{"X-A": {"1", "2"}, "Trailer": {"X-Sum"}}, ContentLength: -1,
		Times: Times{Agent: time.Millisecond, Upstream: 2 * time.Millisecond},
	}
	if d := cmp.Diff(want, final); d != "" {
		t.Errorf("response (-want +got):\n%s", d)
	}
	if string(body) != "HELLO WORLD" || s.Trailer().Get("X-Sum") != "9" {
		t.Errorf("body %q, trailers %v", body, s.Trailer())
	}
	if d := cmp.Diff(req, seen); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	if seenTrailer.Get("X-End") != "yes" {
		t.Errorf("request trailers: %v", seenTrailer)
	}
}

func TestManyExchangesAtOnce(t *testing.T) {
	relay, agent := links(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.Answer(&Response{Status: 200, ContentLength: -1}, []byte(s.Request().Target))
	}})
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range 50 {
				target := fmt.Sprintf("/%d/%d", g, i)
				if got := fetch(t, relay, get(target)); got != target {
					t.Errorf("asked for %s, got %q", target, got)
				}
			}
		})
	}
	wg.Wait()
	settles(t, "no stream is left", func() bool { return relay.Streams()+agent.Streams() == 0 })
	settles(t, "the memory is given back", func() bool { return relay.held.Load()+agent.held.Load() == 0 })
}

func fetch(t testing.TB, l *Link, req *Request) string {
	s, err := l.Open(req, true)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer s.Reset(Cancelled, "done")
	if _, err := s.ReadResponse(within(t)); err != nil {
		t.Error(err)
		return ""
	}
	body, err := io.ReadAll(s)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

func settles(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Errorf("does not settle: %s", what)
}

func TestBulkBothWaysKeepsEveryByte(t *testing.T) {
	const size = 40 << 20
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		if _, err := io.Copy(s, s); err != nil { // an echo: both halves at once
			t.Error(err)
		}
		_ = s.CloseWrite(nil)
	}})
	req := get("/echo")
	req.Method, req.ContentLength = "POST", -1
	s, err := relay.Open(req, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(Cancelled, "done")
	sent, got := sha256.New(), sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(s, io.TeeReader(io.LimitReader(rand.Reader, size), sent)); err != nil {
			t.Error(err)
		}
		_ = s.CloseWrite(nil)
	})
	if _, err := s.ReadResponse(within(t)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(got, s)
	wg.Wait()
	if err != nil || n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Fatalf("%d of %d bytes came back, %v; same: %v", n, size, err, bytes.Equal(sent.Sum(nil), got.Sum(nil)))
	}
}

func TestOneReaderThatNeverReadsStallsNobody(t *testing.T) {
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		if s.Request().Target == "/endless" {
			_, _ = io.Copy(s, rand.Reader)
			return
		}
		_ = s.CloseWrite(nil)
	}})
	for range 8 {
		stuck, err := relay.Open(get("/endless"), true)
		if err != nil {
			t.Fatal(err)
		}
		defer stuck.Reset(Cancelled, "done")
	}
	for range 200 {
		if body := fetch(t, relay, get("/small")); body != "" {
			t.Fatalf("got %q", body)
		}
	}
	if held := relay.held.Load(); held > 8*initialWindow+initialWindow {
		t.Errorf("streams that nobody reads hold %d bytes", held)
	}
}

// Slow readers whose windows have grown must leave room for others: growth has half of the memory.
func TestSlowReadersLeaveRoomForNewStreams(t *testing.T) {
	relay, _ := links(t, Options{Memory: 4 << 20, MaxWindow: 2 << 20}, Options{Serve: func(s *Stream) {
		if s.Request().Target == "/small" {
			_ = s.Answer(&Response{Status: 200, ContentLength: -1}, []byte("ok"))
			return
		}
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		_, _ = io.Copy(s, rand.Reader)
	}})
	relay.rtt.Store(int64(time.Second)) // a long line, so that every window grows as far as it may
	for range 20 {
		s, err := relay.Open(get("/endless"), true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset(Cancelled, "done")
		if _, err := s.ReadResponse(within(t)); err != nil {
			t.Fatal(err)
		}
		relay.rtt.Store(int64(time.Second))
		if _, err := io.CopyN(io.Discard, s, 3<<20); err != nil { // then it reads no more
			t.Fatal(err)
		}
	}
	if relay.grown.Load() == 0 {
		t.Error("no window has grown")
	}
	for range 5 {
		if body := fetch(t, relay, get("/small")); body != "ok" {
			t.Fatalf("beside slow readers: %q", body)
		}
	}
}

func TestCancelReachesThePeer(t *testing.T) {
	cause := make(chan error, 1)
	relay, agent := links(t, Options{}, Options{Serve: func(s *Stream) {
		<-s.Context().Done()
		cause <- context.Cause(s.Context())
	}})
	s, err := relay.Open(get("/slow"), true)
	if err != nil {
		t.Fatal(err)
	}
	settles(t, "the stream is open", func() bool { return agent.Streams() == 1 })
	s.Reset(Cancelled, "the caller has gone")
	got := <-cause
	reset, ok := errors.AsType[*ResetError](got)
	if !ok || reset.Code != Cancelled || reset.Reason != "the caller has gone" || !reset.Remote {
		t.Errorf("the agent saw %v", got)
	}
	if _, err := s.ReadResponse(within(t)); err == nil {
		t.Error("a cancelled stream gave a response")
	}
}

func TestResponseThatBreaksOffIsAnError(t *testing.T) {
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: 1000}, false)
		_, _ = s.Write([]byte("short"))
		s.Reset(BrokenOff, "the upstream broke off")
	}})
	s, err := relay.Open(get("/"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(Cancelled, "done")
	_, err = s.ReadResponse(within(t))
	if err == nil {
		_, err = io.ReadAll(s)
	}
	if reset, ok := errors.AsType[*ResetError](err); !ok || reset.Code != BrokenOff {
		t.Errorf("got %v", err)
	}
}

func TestExpectHoldsTheBodyBack(t *testing.T) {
	allow := make(chan bool)
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		if !<-allow {
			_ = s.SendResponse(&Response{Status: 417, ContentLength: 0}, true)
			return
		}
		s.AllowBody()
		body, err := io.ReadAll(s)
		if err != nil {
			t.Error(err)
		}
		_ = s.Answer(&Response{Status: 200, ContentLength: -1}, body)
	}})
	req := get("/")
	req.Method, req.Expect, req.ContentLength = "PUT", true, 4
	for _, ok := range []bool{true, false} {
		s, err := relay.Open(req, false)
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if err := s.WaitCredit(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("credit before it was allowed: %v", err)
		}
		cancel()
		allow <- ok
		err = s.WaitCredit(within(t))
		if ok {
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write([]byte("body"))
			_ = s.CloseWrite(nil)
		} else if err == nil {
			t.Error("credit for a body that nobody wants")
		}
		if r, err := s.ReadResponse(within(t)); err != nil || (r.Status == 200) != ok {
			t.Errorf("allowed %v: %+v, %v", ok, r, err)
		}
		s.Reset(Cancelled, "done")
	}
}

// An answer may come before the request's body has: the rest of the body is not wanted, and the answer comes whole.
func TestEarlyAnswerStopsTheBody(t *testing.T) {
	answer := bytes.Repeat([]byte("no! "), 50_000)
	relay, agent := links(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 413, ContentLength: int64(len(answer))}, false)
		_, _ = s.Write(answer)
		_ = s.CloseWrite(nil)
	}})
	req := get("/")
	req.Method, req.ContentLength = "POST", -1
	s, err := relay.Open(req, false)
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, rand.Reader)
		wrote <- err
	}()
	if r, err := s.ReadResponse(within(t)); err != nil || r.Status != 413 {
		t.Fatalf("%+v, %v", r, err)
	}
	if body, err := io.ReadAll(s); err != nil || !bytes.Equal(body, answer) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if err := <-wrote; err == nil {
		t.Error("an endless body came to an end")
	} else if reset, ok := errors.AsType[*ResetError](err); !ok || reset.Code != NoMore {
		t.Errorf("writing the body ended with %v", err)
	}
	s.Reset(Cancelled, "done")
	settles(t, "no stream is left", func() bool { return relay.Streams()+agent.Streams() == 0 })
}

func TestLostLink(t *testing.T) {
	started := make(chan bool)
	relay, agent := links(t, Options{}, Options{Serve: func(s *Stream) {
		started <- true
		<-s.Context().Done()
	}})
	s, err := relay.Open(get("/"), true)
	if err != nil {
		t.Fatal(err)
	}
	<-started
	_ = agent.ws.NetConn().Close()
	if _, err := s.ReadResponse(within(t)); !errors.Is(err, ErrLinkLost) || errors.Is(err, ErrNotRun) {
		t.Errorf("a stream on a lost link: %v", err)
	}
	<-relay.Done()
	if _, err := relay.Open(get("/"), true); !errors.Is(err, ErrNotRun) {
		t.Errorf("opening on a lost link: %v", err)
	}
}

func TestDrain(t *testing.T) {
	release := make(chan bool)
	relay, agent := links(t, Options{}, Options{Serve: func(s *Stream) {
		<-release
		_ = s.Answer(&Response{Status: 200, ContentLength: -1}, []byte("late"))
	}})
	s, err := relay.Open(get("/"), true)
	if err != nil {
		t.Fatal(err)
	}
	settles(t, "the stream is open", func() bool { return agent.Streams() == 1 })
	drained := make(chan error, 1)
	go func() { drained <- agent.Drain(within(t), "the agent stops") }()
	settles(t, "the relay knows", func() bool { return !relay.Usable() })
	if _, err := relay.Open(get("/"), true); !errors.Is(err, ErrNotRun) || !strings.Contains(err.Error(), "the agent stops") {
		t.Errorf("opening on a draining link: %v", err)
	}
	release <- true
	if _, err := s.ReadResponse(within(t)); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(s); err != nil || string(body) != "late" {
		t.Errorf("%q, %v", body, err)
	}
	s.Reset(Cancelled, "done")
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestTooManyStreamsAreRefusedNotRun(t *testing.T) {
	relay, _ := links(t, Options{}, Options{MaxStreams: 2, Serve: func(s *Stream) { <-s.Context().Done() }})
	settles(t, "the relay knows the limit", func() bool {
		relay.mu.Lock()
		defer relay.mu.Unlock()
		return relay.peerMax == 2
	})
	for range 2 {
		s, err := relay.Open(get("/"), true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset(Cancelled, "done")
	}
	if _, err := relay.Open(get("/"), true); !errors.Is(err, ErrNotRun) {
		t.Errorf("the third stream: %v", err)
	}
	relay.mu.Lock()
	relay.peerMax = 100 // a relay that does not listen
	relay.mu.Unlock()
	s, err := relay.Open(get("/"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(Cancelled, "done")
	if _, err := s.ReadResponse(within(t)); !errors.Is(err, ErrNotRun) {
		t.Errorf("a refused stream: %v", err)
	}
}

func TestLargeHeads(t *testing.T) {
	big := http.Header{}
	for i := range 300 {
		big.Set(fmt.Sprintf("X-Big-%03d", i), strings.Repeat("v", 3000))
	}
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, Header: s.Request().Header, ContentLength: 0}, true)
	}})
	req := get("/")
	req.Header = big
	s, err := relay.Open(req, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(Cancelled, "done")
	r, err := s.ReadResponse(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(big, r.Header); d != "" {
		t.Error(d)
	}
	req.Header = http.Header{"X": {strings.Repeat("v", maxHead)}}
	if _, err := relay.Open(req, true); !errors.Is(err, ErrNotRun) {
		t.Errorf("a head beyond the limit: %v", err)
	}
}

func TestControlMessages(t *testing.T) {
	got := make(chan string, 2)
	relay, agent := links(t, Options{Control: func(kind string, body []byte) { got <- kind + fmt.Sprint(len(body)) }}, Options{})
	if err := agent.SendControl("offer", strings.Repeat("x", 500_000)); err != nil {
		t.Fatal(err)
	}
	if k := <-got; k != "offer500002" {
		t.Errorf("got %s", k)
	}
	if err := agent.SendControl("offer", strings.Repeat("x", maxControl)); err == nil {
		t.Error("a control message beyond the limit was sent")
	}
	if err := relay.SendControl("news", 1); err != nil { // nobody listens: ignored
		t.Error(err)
	}
	if err := relay.Probe(within(t)); err != nil {
		t.Error(err)
	}
	if relay.RTT() <= 0 {
		t.Error("no round trip was measured")
	}
}

func TestStalledStreamIsReset(t *testing.T) {
	ended := make(chan error, 1)
	relay, _ := links(t, Options{}, Options{StallTimeout: 100 * time.Millisecond, Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		_, err := io.Copy(s, rand.Reader)
		ended <- err
	}})
	s, err := relay.Open(get("/"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(Cancelled, "done")
	reset, ok := errors.AsType[*ResetError](<-ended)
	if !ok || reset.Code != Stalled {
		t.Errorf("got %v", reset)
	}
}

func TestReadTimeout(t *testing.T) {
	relay, _ := links(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		<-s.Context().Done()
	}})
	s, err := relay.Open(get("/"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(TimedOut, "done")
	if _, err := s.ReadResponse(within(t)); err != nil {
		t.Fatal(err)
	}
	s.SetReadTimeout(30 * time.Millisecond)
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
}

// Abandoning streams in every phase leaves neither goroutines nor memory.
func TestNothingLeaksWhateverIsAbandoned(t *testing.T) {
	before := runtime.NumGoroutine()
	func() {
		rws, aws := sockets(t)
		relay, agent := New(rws, RelaySide, Options{}), New(aws, AgentSide, Options{Serve: func(s *Stream) {
			switch s.Request().Target {
			case "/return":
			case "/head":
				_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
			case "/body":
				_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
				_, _ = s.Write(make([]byte, 200_000))
			case "/wait":
				<-s.Context().Done()
			default:
				_ = s.Answer(&Response{Status: 200, ContentLength: -1}, make([]byte, 30_000))
			}
		}})
		var wg sync.WaitGroup
		wg.Go(func() { _ = relay.Run(context.Background()) })
		wg.Go(func() { _ = agent.Run(context.Background()) })
		var callers sync.WaitGroup
		for i := range 300 {
			callers.Go(func() {
				req := get([]string{"/return", "/head", "/body", "/wait", "/whole"}[i%5])
				req.Method, req.ContentLength = "POST", -1
				s, err := relay.Open(req, i%2 == 0)
				if err != nil {
					t.Error(err)
					return
				}
				if i%3 == 0 && i%2 == 1 {
					_, _ = s.Write(make([]byte, 10_000))
				}
				if i%4 == 0 && i%5 != 3 {
					_, _ = s.ReadResponse(within(t))
				}
				s.Reset(Cancelled, "abandoned")
			})
		}
		callers.Wait()
		settles(t, "no stream is left", func() bool { return relay.Streams()+agent.Streams() == 0 })
		settles(t, "the memory is given back", func() bool { return relay.held.Load()+agent.held.Load() == 0 })
		relay.Close("done")
		wg.Wait()
	}()
	settles(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+3 })
}

func newKey(t testing.TB) ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
