package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/mccutchen/go-httpbin/v2/httpbin"

	"sallyport/tunnel"
)

var _ Stream = (*tunnel.Stream)(nil)

// A rig is a relay's end of a link whose agent serves every stream by one Transport.
type rig struct {
	relay   *tunnel.Link
	results chan Result
	log     *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	r := &rig{results: make(chan Result, 1000), log: &lockedBuffer{}}
	cfg.Log = slog.New(slog.NewTextHandler(r.log, nil))
	tr := newTransport(t, cfg)
	rws, aws := sockets(t)
	r.relay = tunnel.New(rws, tunnel.RelaySide, tunnel.Options{})
	agent := tunnel.New(aws, tunnel.AgentSide, tunnel.Options{Serve: func(s *tunnel.Stream) {
		r.results <- tr.Serve(s)
	}})
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.relay.Run(context.Background()) })
	wg.Go(func() { _ = agent.Run(context.Background()) })
	t.Cleanup(func() {
		r.relay.Close("the test is over")
		agent.Close("the test is over")
		wg.Wait()
	})
	return r
}

// sockets is the two ends of a WebSocket over loopback.
func sockets(t testing.TB) (relay, agent *websocket.Conn) {
	t.Helper()
	got := make(chan *websocket.Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err == nil {
			got <- ws
		}
	}))
	t.Cleanup(srv.Close)
	agent, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return <-got, agent
}

func head(method, target string) *tunnel.Request {
	return &tunnel.Request{
		ID: "req-1", API: "orders", Method: method, Target: target, Base: "https://relay.example/plant1/orders",
		Header: http.Header{}, Timeout: 20 * time.Second,
	}
}

// exchange makes one exchange and reads the answer whole.
func (r *rig) exchange(t testing.TB, in *tunnel.Request, body string) (*tunnel.Response, string, error) {
	t.Helper()
	if body != "" && in.ContentLength == 0 {
		in.ContentLength = int64(len(body))
	}
	s, err := r.relay.Open(in, body == "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(tunnel.Cancelled, "done")
	if body != "" {
		if _, err := io.WriteString(s, body); err == nil {
			_ = s.CloseWrite(nil)
		}
	}
	for {
		resp, err := s.ReadResponse(t.Context())
		if err != nil {
			return nil, "", err
		}
		if resp.Status >= 200 {
			b, err := io.ReadAll(s)
			return resp, string(b), err
		}
	}
}

func httpbinURL(t testing.TB, base string) *url.URL {
	t.Helper()
	srv := httptest.NewServer(httpbin.New(httpbin.WithMaxBodySize(64 << 20)))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL + base)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestServeHTTPBin(t *testing.T) {
	t.Parallel()
	u := httpbinURL(t, "")
	r := newRig(t, Config{Name: "orders", URL: u})
	in := head("POST", "/anything/a%20b?x=%41&y")
	in.Header = http.Header{"X-Kept": {"1"}, "Content-Type": {"text/plain"}}
	resp, body, err := r.exchange(t, in, "hello")
	if err != nil || resp.Status != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	var echo struct {
		URL, Data string
		Headers   map[string][]string
	}
	if err := json.Unmarshal([]byte(body), &echo); err != nil {
		t.Fatal(err)
	}
	if echo.Data != "hello" || echo.URL != "http://"+u.Host+"/anything/a%20b?x=%41&y" || echo.Headers["X-Kept"][0] != "1" || echo.Headers["User-Agent"] != nil {
		t.Errorf("%+v", echo)
	}
	res := <-r.results
	if res.Status != 200 || res.BytesIn != 5 || res.BytesOut != int64(len(body)) || res.Err != nil || res.Times.Upstream == 0 {
		t.Errorf("%+v", res)
	}
	for _, tc := range []struct {
		method, target string
		status         int
		length         int64 // -2: any
	}{
		{"GET", "/status/204", 204, 0},
		{"GET", "/status/404", 404, -2},
		{"HEAD", "/bytes/77", 200, 77},
		{"GET", "/bytes/70000", 200, 70000},
		{"GET", "/stream-bytes/50000", 200, -1},
		{"GET", "/gzip", 200, -2},
		{"GET", "/redirect-to?url=%2Fget", 302, -2},
		{"DELETE", "/delete", 200, -2},
	} {
		resp, body, err := r.exchange(t, head(tc.method, tc.target), "")
		if err != nil || resp.Status != tc.status {
			t.Errorf("%s %s: %+v %v", tc.method, tc.target, resp, err)
			continue
		}
		if tc.length != -2 && resp.ContentLength != tc.length {
			t.Errorf("%s: length %d, want %d", tc.target, resp.ContentLength, tc.length)
		}
		if tc.method == "GET" && tc.length > 0 && int64(len(body)) != tc.length {
			t.Errorf("%s: %d bytes", tc.target, len(body))
		}
		<-r.results
	}
}

// TestServeLargeBodies: 20 MB each way at once, of unknown length, with a digest.
func TestServeLargeBodies(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		sum := sha256.New()
		_, _ = io.Copy(w, io.TeeReader(r.Body, sum))
		w.Header().Set("X-Sum", string(hexOf(sum.Sum(nil)))+r.Trailer.Get("X-Up"))
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	r := newRig(t, Config{URL: u})
	in := head("POST", "/echo")
	in.ContentLength = -1
	in.Header.Set("Trailer", "X-Up, Content-Length")
	s, err := r.relay.Open(in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(tunnel.Cancelled, "done")
	sent := sha256.New()
	var up sync.WaitGroup
	up.Go(func() {
		piece := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
		for i := range 320 {
			piece[0] = byte(i)
			sent.Write(piece)
			if _, err := s.Write(piece); err != nil {
				t.Error(err)
				return
			}
		}
		_ = s.CloseWrite(http.Header{"X-Up": {"up"}, "Content-Length": {"1"}})
	})
	if _, err := s.ReadResponse(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := sha256.New()
	n, err := io.Copy(got, s)
	up.Wait()
	if err != nil || n != 320<<16 || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if want := string(hexOf(sent.Sum(nil))) + "up"; s.Trailer().Get("X-Sum") != want {
		t.Errorf("trailer %v, want %s", s.Trailer(), want)
	}
	if res := <-r.results; res.BytesIn != n || res.BytesOut != n || res.Err != nil {
		t.Errorf("%+v", res)
	}
}

func hexOf(b []byte) []byte {
	return []byte(strings.ToLower(strings.ReplaceAll(url.QueryEscape(string(b)), "%", "")))
}

// TestServeEvents: each event arrives before the next is made.
func TestServeEvents(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_, _ = io.WriteString(w, "data: x\n\n")
			w.(http.Flusher).Flush()
			<-next
		}
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	r := newRig(t, Config{URL: u})
	s, err := r.relay.Open(head("GET", "/"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(tunnel.Cancelled, "done")
	if _, err := s.ReadResponse(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := io.ReadFull(s, make([]byte, len("data: x\n\n"))); err != nil {
			t.Fatal(err)
		}
		next <- struct{}{}
	}
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d %v", n, err)
	}
}

// TestServeProblems: each fault has its status, code and truth about what was run, and tells nothing internal.
func TestServeProblems(t *testing.T) {
	t.Parallel()
	dead := &url.URL{Scheme: "http", Host: deadAddress(t)}
	silent := rawUpstream(t, func(net.Conn, *bufio.Reader, string) {})
	broken := rawUpstream(t, says("nonsense\r\n\r\n", true))
	badName := rawUpstream(t, says(ok+"Bad Name: x\r\nContent-Length: 0\r\n\r\n", false))
	no := rawUpstream(t, says("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", false))
	plain := httpbinURL(t, "")
	plain.Scheme = "https"
	for _, tc := range []struct {
		name, target, body string
		cfg                Config
		status             int
		code, executed     string
	}{
		{"unreachable", "/", "", Config{URL: dead}, 502, "upstream-unreachable", "no"},
		{"silent", "/", "", Config{URL: silent, Timeout: 50 * time.Millisecond}, 504, "upstream-timeout", "unknown"},
		{"broken", "/", "", Config{URL: broken}, 502, "upstream-broken", "unknown"},
		{"bad field name", "/", "", Config{URL: badName}, 502, "upstream-broken", "unknown"},
		{"not TLS", "/", "", Config{URL: plain}, 502, "upstream-tls", "no"},
		{"key refused", "/", "", Config{URL: no, Auth: Auth{Kind: BearerAuth, Secret: func() (string, error) { return "s3cret", nil }}}, 502, "upstream-auth", "no"},
		{"no key", "/", "", Config{URL: no, Auth: Auth{Kind: BearerAuth, Secret: func() (string, error) { return "", errors.New("locked") }}}, 502, "upstream-auth", "no"},
		{"nobody", "/", "", Config{URL: no, Auth: Auth{Kind: WindowsAuth, Windows: func(*http.Request) (SignOn, error) { return SignOn{}, errors.New("who?") }}}, 403, "no-identity", "no"},
		{"too large", "/", "123456", Config{URL: no, BodyLimit: 5}, 413, "body-too-large", "no"},
		{"bad target", "/a#b", "", Config{URL: no}, 400, "bad-request", "no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tc.cfg)
			resp, _, err := r.exchange(t, head("POST", tc.target), tc.body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Problem == nil || resp.Status != tc.status || resp.Problem.Code != tc.code || resp.Problem.Executed != tc.executed {
				t.Fatalf("%+v %+v", resp, resp.Problem)
			}
			shown, _ := json.Marshal(resp.Problem)
			for _, secret := range []string{"127.0.0.1", "s3cret", tc.cfg.URL.Host} {
				if bytes.Contains(shown, []byte(secret)) {
					t.Errorf("%s shows %q", shown, secret)
				}
			}
			res := <-r.results
			if res.Problem != tc.code || res.Err == nil || res.Status != tc.status {
				t.Errorf("%+v", res)
			}
			if log := r.log.String(); !strings.Contains(log, "request=req-1") || strings.Contains(log, "s3cret") {
				t.Errorf("log: %s", log)
			}
		})
	}
}

func deadAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestServeBodyLimit: a body of unknown length that grows too large is cut off, and the upstream never has it whole.
func TestServeBodyLimit(t *testing.T) {
	t.Parallel()
	whole := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		whole <- err
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	r := newRig(t, Config{URL: u, BodyLimit: 1000})
	in := head("POST", "/")
	in.ContentLength = -1
	resp, _, err := r.exchange(t, in, strings.Repeat("x", 5000))
	if err != nil || resp.Status != 413 || resp.Problem.Code != "body-too-large" {
		t.Errorf("%+v %v", resp, err)
	}
	if err := <-whole; err == nil {
		t.Error("the upstream took the body for whole")
	}
}

// TestServeBrokenOff: an upstream that dies in mid-body is no short success.
func TestServeBrokenOff(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		ok + "Content-Length: 100000\r\n\r\nhalf", ok + "Content-Length: 10\r\n\r\nhalf",
		ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
	} {
		r := newRig(t, Config{URL: rawUpstream(t, says(answer, true))})
		resp, body, err := r.exchange(t, head("GET", "/"), "")
		if reset, is := errors.AsType[*tunnel.ResetError](err); !is || reset.Code != tunnel.BrokenOff || !strings.HasPrefix("half", body) {
			t.Errorf("%+v %q %v", resp, body, err)
		}
		if res := <-r.results; res.Status != 200 || res.Problem != "upstream-broken" || res.BytesOut != 4 {
			t.Errorf("%+v", res)
		}
	}
}

// TestServeCallerLeaves: the upstream's connection ends as soon as the stream does.
func TestServeCallerLeaves(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", ok + "Content-Length: 10\r\n\r\nhalf"} {
		saw, gone := make(chan struct{}), make(chan struct{})
		r := newRig(t, Config{URL: rawUpstream(t, func(c net.Conn, br *bufio.Reader, _ string) {
			_, _ = io.WriteString(c, first)
			close(saw)
			_, _ = br.ReadByte()
			close(gone)
		})})
		s, err := r.relay.Open(head("GET", "/"), true)
		if err != nil {
			t.Fatal(err)
		}
		<-saw
		s.Reset(tunnel.Cancelled, "the caller has gone")
		<-gone
		if res := <-r.results; res.Problem != "cancelled" {
			t.Errorf("%+v", res)
		}
	}
}

// TestServeExpect: the caller's body is not asked for before the upstream's 100, and not at all if it refuses.
func TestServeExpect(t *testing.T) {
	t.Parallel()
	grant := make(chan struct{})
	u := rawUpstream(t, func(c net.Conn, br *bufio.Reader, head string) {
		if strings.HasPrefix(head, "POST /no") {
			_, _ = io.WriteString(c, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
			return
		}
		<-grant
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		_, _ = io.CopyN(io.Discard, br, 4)
		_, _ = io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
	})
	r := newRig(t, Config{URL: u})
	for target, want := range map[string]int{"/yes": 200, "/no": 403} {
		in := head("POST", target)
		in.Expect, in.ContentLength = true, 4
		s, err := r.relay.Open(in, false)
		if err != nil {
			t.Fatal(err)
		}
		if target == "/yes" {
			early, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if s.WaitCredit(early) == nil {
				t.Error("the body was let go before the upstream's 100")
			}
			cancel()
			close(grant)
			if err := s.WaitCredit(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(s, "body")
			_ = s.CloseWrite(nil)
		}
		resp, err := s.ReadResponse(t.Context())
		if err != nil || resp.Status != want {
			t.Errorf("%s: %+v %v", target, resp, err)
		}
		s.Reset(tunnel.Cancelled, "done")
		<-r.results
	}
}

// TestServeInformational: hints pass, 100 does not.
func TestServeInformational(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{URL: rawUpstream(t, says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"+
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 12\r\n\r\n", false))})
	s, err := r.relay.Open(head("GET", "/"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(tunnel.Cancelled, "done")
	hint, err := s.ReadResponse(t.Context())
	if err != nil || hint.Status != 103 || hint.Header.Get("Link") != "<https://relay.example/plant1/orders/a>; rel=preload" {
		t.Errorf("%+v %v", hint, err)
	}
	final, err := s.ReadResponse(t.Context())
	if err != nil || final.Status != 304 || final.ContentLength != 12 || len(final.Header) != 0 {
		t.Errorf("%+v %v", final, err)
	}
}

// TestServeUpgrade: a real WebSocket through both tunnels.
func TestServeUpgrade(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, func(c net.Conn, br *bufio.Reader, _ string) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst ")
		_, _ = io.Copy(c, br) // until the caller ends its half
		c.Close()
	})
	r := newRig(t, Config{URL: u})
	in := head("GET", "/ws")
	in.Upgrade, in.ContentLength = "websocket", 0
	s, err := r.relay.Open(in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(tunnel.Cancelled, "done")
	resp, err := s.ReadResponse(t.Context())
	if err != nil || resp.Status != 101 || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%+v %v", resp, err)
	}
	_, _ = io.WriteString(s, "echo")
	b := make([]byte, len("first echo"))
	if _, err := io.ReadFull(s, b); err != nil || string(b) != "first echo" {
		t.Errorf("%q %v", b, err)
	}
	if err := s.CloseWrite(nil); err != nil {
		t.Error(err)
	}
	if n, err := s.Read(b); n != 0 || err != io.EOF {
		t.Errorf("%d %v", n, err)
	}
	if res := <-r.results; res.Status != 101 || res.BytesIn != 4 || res.BytesOut != 10 || res.Err != nil {
		t.Errorf("%+v", res)
	}
}

// TestServeUpgradeCallerEnds: an upstream that takes no notice of a half-close does not keep the exchange.
func TestServeUpgradeCallerEnds(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, func(c net.Conn, br *bufio.Reader, _ string) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(io.Discard, br)
		<-t.Context().Done() // and its own half stays open
	})
	r := newRig(t, Config{URL: u, Linger: 50 * time.Millisecond})
	in := head("GET", "/ws")
	in.Upgrade = "websocket"
	s, err := r.relay.Open(in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(tunnel.Cancelled, "done")
	if _, err := s.ReadResponse(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(nil); err != nil {
		t.Fatal(err)
	}
	select {
	case res := <-r.results:
		if res.Problem != "cancelled" {
			t.Errorf("%+v", res)
		}
	case <-time.After(10 * time.Second):
		t.Error("the exchange goes on without its caller")
	}
}

// TestServeLongExchanges: idle WebSockets and event streams leave the API's places to ordinary calls.
func TestServeLongExchanges(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, func(c net.Conn, br *bufio.Reader, head string) {
		switch {
		case strings.HasPrefix(head, "GET /ws"):
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(io.Discard, br)
			c.Close()
		case strings.HasPrefix(head, "GET /events"):
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: 1\n\n")
			_, _ = io.Copy(io.Discard, br)
			c.Close()
		default:
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	r := newRig(t, Config{URL: u, Concurrent: 2, QueueWait: 100 * time.Millisecond})
	for i := range 10 {
		in := head("GET", "/events")
		if i%2 == 0 {
			in = head("GET", "/ws")
			in.Upgrade = "websocket"
		}
		s, err := r.relay.Open(in, in.Upgrade == "")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset(tunnel.Cancelled, "done")
		if resp, err := s.ReadResponse(t.Context()); err != nil || resp.Problem != nil {
			t.Fatalf("exchange %d: %+v %v", i, resp, err)
		}
	}
	if resp, body, err := r.exchange(t, head("GET", "/small"), ""); err != nil || string(body) != "ok" {
		t.Errorf("beside them: %+v %q %v", resp, body, err)
	}
}

// TestServeUpgradeIdle: an upgraded exchange that says nothing ends.
func TestServeUpgradeIdle(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", false))
	r := newRig(t, Config{URL: u, IdleTimeout: 50 * time.Millisecond})
	in := head("GET", "/ws")
	in.Upgrade = "websocket"
	s, err := r.relay.Open(in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(tunnel.Cancelled, "done")
	if _, err := s.ReadResponse(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res := <-r.results; res.Problem != "upstream-timeout" {
		t.Errorf("%+v", res)
	}
}

// TestServeLinks: what comes back is public.
func TestServeLinks(t *testing.T) {
	t.Parallel()
	var u *url.URL
	u = rawUpstream(t, func(c net.Conn, _ *bufio.Reader, head string) {
		_, _ = io.WriteString(c, "HTTP/1.1 201 Created\r\nLocation: http://"+u.Host+"/api/v2/orders/5\r\nSet-Cookie: s=1; Domain=corp.example; Path=/api/v2\r\n"+
			"Content-Location: http://hr.corp.example/x\r\nX-Line: "+strings.SplitN(head, "\r\n", 2)[0]+"\r\nContent-Length: 0\r\n\r\n")
	})
	withBase := *u
	withBase.Path = "/api/v2/"
	r := newRig(t, Config{URL: &withBase})
	resp, _, err := r.exchange(t, head("POST", "/orders?a=%2f"), "x")
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Location": {"https://relay.example/plant1/orders/orders/5"}, "Set-Cookie": {"s=1; Path=/plant1/orders"},
		"X-Line": {"POST /api/v2/orders?a=%2f HTTP/1.1"},
	}
	if diff := cmp.Diff(want, resp.Header); diff != "" {
		t.Error(diff)
	}
	if log := r.log.String(); !strings.Contains(log, "Content-Location") || !strings.Contains(log, "hosts=hr.corp.example") ||
		!strings.Contains(log, "add the host to link_hosts") {
		t.Errorf("a removed link is not in the log, with its host and what helps:\n%s", log)
	}
}

// TestNothingLeaks: after many exchanges, whole and broken, no goroutine and no place is left.
func TestNothingLeaks(t *testing.T) {
	u := rawUpstream(t, func(c net.Conn, br *bufio.Reader, head string) {
		switch {
		case strings.HasPrefix(head, "GET"):
			_, _ = io.WriteString(c, ok+"Content-Length: 2\r\n\r\nhi")
		case strings.Contains(head, "/early"):
			_, _ = io.WriteString(c, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.CopyN(io.Discard, br, 100<<10)
		default:
			_, _ = io.CopyN(io.Discard, br, 4)
			c.Close()
		}
	})
	r := newRig(t, Config{URL: u, Concurrent: 4, QueueWait: time.Minute})
	run := func() {
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for _, e := range []struct {
					in     *tunnel.Request
					body   string
					status int
				}{
					{head("GET", "/"), "", 200},
					{head("POST", "/early"), strings.Repeat("x", 100<<10), 413},
					{head("POST", "/dies"), "body", 502},
				} {
					if resp, _, err := r.exchange(t, e.in, e.body); err != nil || resp.Status != e.status {
						t.Errorf("%s: %+v %v", e.in.Target, resp, err)
					}
					<-r.results
				}
			})
		}
		wg.Wait()
	}
	run()
	before := runtime.NumGoroutine()
	run()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before+4 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before+4 { // the upstream's own connections come and go
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
}
