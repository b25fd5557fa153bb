package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/tunnel"
)

// A script is a raw upstream: it gets each connection after a request's head has been read.
type script func(c net.Conn, r *bufio.Reader, head string)

// rawUpstream serves every request of every connection by script until the connection ends.
func rawUpstream(t *testing.T, s script) *url.URL {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					head, err := readRawHead(r)
					if err != nil {
						return
					}
					s(c, r, head)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return &url.URL{Scheme: "http", Host: ln.Addr().String()}
}

func readRawHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String(), err
		}
	}
}

// says answers with fixed bytes, and hangs up after them if that is asked for.
func says(text string, hangUp bool) script {
	return func(c net.Conn, _ *bufio.Reader, _ string) {
		_, _ = io.WriteString(c, text)
		if hangUp {
			c.Close()
		}
	}
}

func newTransport(t testing.TB, cfg Config) *Transport {
	t.Helper()
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

// An outcome is what a RoundTripper made of an upstream's bytes.
type outcome struct {
	Failed  bool // no answer
	Broken  bool // an answer that broke off
	Status  int
	Body    string
	Length  int64
	Header  http.Header
	Trailer http.Header
	Hints   []int
}

func observe(t *testing.T, rt http.RoundTripper, u *url.URL, method, body string) outcome {
	t.Helper()
	var out outcome
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		out.Hints = append(out.Hints, code)
		return nil
	}})
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String()+"/x", reader)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		out.Failed = true
		return out
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	out.Broken = err != nil
	out.Status, out.Body, out.Length, out.Header, out.Trailer = resp.StatusCode, string(b), resp.ContentLength, resp.Header, resp.Trailer
	return out
}

const ok = "HTTP/1.1 200 OK\r\n"

// battery is what upstreams say, good and bad. http.Transport is the oracle, except where stricter names what this
// package refuses beyond it.
var battery = []struct {
	name, method, answer string
	hangUp, stricter     bool
}{
	{name: "length", answer: ok + "Content-Length: 5\r\n\r\nhello"},
	{name: "empty", answer: ok + "Content-Length: 0\r\n\r\n"},
	{name: "chunked", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"},
	{name: "chunk extension", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"},
	{name: "trailers", answer: ok + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"},
	{name: "until the end", answer: ok + "\r\nall of it", hangUp: true},
	{name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\n\r\nold", hangUp: true},
	{name: "HEAD", method: "HEAD", answer: ok + "Content-Length: 5\r\n\r\n"},
	{name: "HEAD chunked", method: "HEAD", answer: ok + "Transfer-Encoding: chunked\r\n\r\n"},
	{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n"},
	{name: "204 with length", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"},
	{name: "304", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n"},
	{name: "redirect", answer: "HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n"},
	{name: "hints", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nhi"},
	{name: "stray 100", answer: "HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nhi"},
	{name: "short length", answer: ok + "Content-Length: 50\r\n\r\nhello", hangUp: true},
	{name: "no last chunk", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", hangUp: true},
	{name: "bad chunk", answer: ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", hangUp: true},
	{name: "huge chunk size", answer: ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", hangUp: true},
	{name: "chunk with bare LF", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", hangUp: true},
	{name: "lines with bare LF", answer: "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"},
	{name: "same length twice", answer: ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"},
	{name: "two lengths", answer: ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", hangUp: true},
	{name: "negative length", answer: ok + "Content-Length: -2\r\n\r\nhi", hangUp: true},
	{name: "signed length", answer: ok + "Content-Length: +2\r\n\r\nhi", hangUp: true},
	{name: "list of lengths", answer: ok + "Content-Length: 2,2\r\n\r\nhi", hangUp: true},
	{name: "length and chunked", answer: ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	{name: "two encodings", answer: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", hangUp: true},
	{name: "unknown encoding", answer: ok + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", hangUp: true},
	{name: "folded field", answer: ok + "X-A: one\r\n two\r\nContent-Length: 0\r\n\r\n"},
	{name: "space before colon", answer: ok + "Content-Length : 2\r\n\r\nhi", stricter: true, hangUp: true},
	{name: "space in a name", answer: ok + "X A: 2\r\nContent-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "space before a colon", answer: ok + "X-A : 2\r\nContent-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "letter beyond ASCII in a name", answer: ok + "X-\u00e9: 2\r\nContent-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "no name", answer: ok + ": 2\r\nContent-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "field without colon", answer: ok + "nonsense\r\n\r\n", hangUp: true},
	{name: "no reason phrase", answer: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"},
	{name: "bad status", answer: "HTTP/1.1 2x0 OK\r\n\r\n", hangUp: true},
	{name: "not HTTP", answer: "SSH-2.0-OpenSSH_9.6\r\n\r\n", hangUp: true},
	{name: "half a head", answer: ok + "Content-Le", hangUp: true},
	{name: "nothing", answer: "", hangUp: true},
	{name: "gzip stays gzip", answer: ok + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "NUL in a field", answer: ok + "X-A: a\x00b\r\nContent-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "CR in a field", answer: ok + "X-A: a\rb\r\nContent-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "status 999", answer: "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "HTTP/2.0", answer: "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "101 not asked for", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", stricter: true, hangUp: true},
	{name: "too many fields", answer: ok + strings.Repeat("X-A: b\r\n", 2000) + "Content-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "many hints", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 11) + ok + "Content-Length: 0\r\n\r\n", stricter: true, hangUp: true},
	{name: "large head", answer: ok + "X-A: " + strings.Repeat("a", 300<<10) + "\r\nContent-Length: 2\r\n\r\nhi"},
	{name: "huge head", answer: ok + "X-A: " + strings.Repeat("a", 3<<20), stricter: true, hangUp: true},
}

func TestBatteryAgainstOracle(t *testing.T) {
	t.Parallel()
	for _, tc := range battery {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			method := tc.method
			if method == "" {
				method = http.MethodGet
			}
			u := rawUpstream(t, says(tc.answer, tc.hangUp))
			ours := newTransport(t, Config{URL: u})
			got := observe(t, ours, u, method, "")
			if tc.stricter {
				if !got.Failed {
					t.Fatalf("taken: %+v", got)
				}
				return
			}
			oracle := &http.Transport{DisableCompression: true}
			defer oracle.CloseIdleConnections()
			if diff := cmp.Diff(observe(t, oracle, u, method, ""), got); diff != "" {
				t.Errorf("http.Transport (-), this package (+):\n%s", diff)
			}
			// What was left behind must not meet the next request.
			if again := observe(t, ours, u, method, ""); !cmp.Equal(again, got) {
				t.Errorf("the second time: %s", cmp.Diff(got, again))
			}
		})
	}
}

// TestForbiddenTrailers: names that no trailer may have are dropped with their fields, and cost no answer.
func TestForbiddenTrailers(t *testing.T) {
	t.Parallel()
	for _, announced := range []string{
		"Content-Length, X-Sum", "X-Sum,content-length ,\tTransfer-Encoding, Authorization", "Trailer, X-Sum", "X-Sum,\r\n Content-Length",
		"X-Sum\r\nTrailer: Transfer-Encoding", "X-Sum, b a d",
	} {
		u := rawUpstream(t, says(ok+"Trailer: "+announced+"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n"+
			"Authorization: x\r\n\r\n", false))
		r := newRig(t, Config{Name: "orders", URL: u})
		s, err := r.relay.Open(head("GET", "/"), true)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.ReadResponse(t.Context())
		if err != nil || resp.Problem != nil {
			t.Fatalf("%q: %+v, %v", announced, resp, err)
		}
		body, err := io.ReadAll(s)
		if diff := cmp.Diff(http.Header{"X-Sum": {"7"}}, s.Trailer()); string(body) != "hi" || err != nil || diff != "" ||
			!cmp.Equal(resp.Header["Trailer"], []string{"X-Sum"}) {
			t.Errorf("%q: %q, %v, announced %q, trailer:\n%s", announced, body, err, resp.Header["Trailer"], diff)
		}
		s.Reset(tunnel.Cancelled, "done")
	}
}

// TestReuse counts connections: those that are in order carry several requests, any doubtful one ends.
func TestReuse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, answer string
		want         int
	}{
		{"length", ok + "Content-Length: 2\r\n\r\nhi", 1},
		{"chunked", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 1},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", 1},
		{"close", ok + "Connection: close\r\nContent-Length: 2\r\n\r\nhi", 3},
		{"unsolicited bytes", ok + "Content-Length: 2\r\n\r\nhi" + ok + "Content-Length: 4\r\n\r\nevil", 3},
		{"length and chunked", ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			seen := map[string]bool{}
			u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, head string) {
				mu.Lock()
				seen[c.RemoteAddr().String()] = true
				mu.Unlock()
				says(tc.answer, false)(c, r, head)
			})
			tr := newTransport(t, Config{URL: u})
			for range 3 {
				if got := observe(t, tr, u, "GET", ""); got.Failed || got.Body == "evil" {
					t.Fatalf("%+v", got)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if len(seen) != tc.want {
				t.Errorf("%d connections, want %d", len(seen), tc.want)
			}
		})
	}
}

// TestLateUnsolicitedBytes: bytes that arrive while a connection is idle are noticed before it is used again.
func TestLateUnsolicitedBytes(t *testing.T) {
	t.Parallel()
	sent := make(chan struct{}, 8)
	u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, _ string) {
		_, _ = io.WriteString(c, ok+"Content-Length: 2\r\n\r\nhi")
		time.Sleep(20 * time.Millisecond) // the answer has been read by then, or the bytes are seen with it
		_, _ = io.WriteString(c, ok+"Content-Length: 4\r\n\r\nevil")
		sent <- struct{}{}
	})
	tr := newTransport(t, Config{URL: u})
	for range 3 {
		if got := observe(t, tr, u, "POST", ""); got.Body != "hi" {
			t.Fatalf("%+v", got)
		}
		<-sent
	}
}

// TestDeadIdleConnection: a POST must not be lost to a connection that the upstream has closed meanwhile.
func TestDeadIdleConnection(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 8)
	u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, _ string) {
		_, _ = io.ReadFull(r, make([]byte, 4))
		_, _ = io.WriteString(c, ok+"Content-Length: 2\r\n\r\nhi")
		time.Sleep(20 * time.Millisecond)
		c.Close()
		closed <- struct{}{}
	})
	tr := newTransport(t, Config{URL: u})
	for range 3 {
		if got := observe(t, tr, u, "POST", "body"); got.Body != "hi" {
			t.Fatalf("%+v", got)
		}
		<-closed
	}
}

// TestKeepAliveIsBelieved: an upstream says how long it keeps an idle connection. A POST that comes close to that must not meet its
// end, which comes without an answer.
func TestKeepAliveIsBelieved(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	last := map[string]time.Time{}
	u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, _ string) {
		_, _ = io.ReadFull(r, make([]byte, 4))
		mu.Lock()
		served, again := last[c.RemoteAddr().String()]
		last[c.RemoteAddr().String()] = time.Now()
		mu.Unlock()
		if again && time.Since(served) > 1500*time.Millisecond {
			c.Close() // as if the request had been on its way when the time was up
			return
		}
		_, _ = io.WriteString(c, ok+"Keep-Alive: timeout=2, max=100\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi")
	})
	tr := newTransport(t, Config{URL: u})
	for range 2 {
		if got := observe(t, tr, u, "POST", "body"); got.Body != "hi" {
			t.Fatalf("%+v", got)
		}
		time.Sleep(1700 * time.Millisecond)
	}
}

func TestKeepsIdle(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"timeout=5": 4 * time.Second, "timeout=5, max=100": 4 * time.Second, "max=100,Timeout = 20": 19 * time.Second,
		"timeout=1": time.Second / 2, "timeout=0": 1, "": 0, "max=3": 0, "timeout=-1": 0, "timeout=x": 0, "timeout=99999999999999999999": 0,
	} {
		c := newConn(&sink{}, &sink{}, poolKey{})
		if c.keeps = keepsIdle(http.Header{"Keep-Alive": {value}}); c.keeps != want {
			t.Errorf("%q: %s, want %s", value, c.keeps, want)
		}
		if want == 0 {
			want = maxConnIdle
		}
		c.since = time.Now()
		if c.expired(c.since.Add(want)) || !c.expired(c.since.Add(want+1)) {
			t.Errorf("%q: the connection does not end %s after its use", value, want)
		}
	}
}

// TestRepeat: a reused connection that dies under a request is replaced once for an idempotent method, never for POST.
func TestRepeat(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]int{"GET": 3, "PUT": 3, "POST": 2} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			requests, served := 0, map[string]bool{}
			u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, head string) {
				mu.Lock()
				defer mu.Unlock()
				requests++
				if strings.Contains(head, "Content-Length: 4") {
					_, _ = io.ReadFull(r, make([]byte, 4))
				}
				if served[c.RemoteAddr().String()] {
					c.Close() // the second request of a connection dies unanswered
					return
				}
				served[c.RemoteAddr().String()] = true
				_, _ = io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
			})
			tr := newTransport(t, Config{URL: u})
			body := map[string]string{"PUT": "body", "POST": "body"}[method]
			if got := observe(t, tr, u, method, body); got.Failed {
				t.Fatal("the first request failed")
			}
			got := observe(t, tr, u, method, body)
			mu.Lock()
			defer mu.Unlock()
			if got.Failed != (method == "POST") || requests != want {
				t.Errorf("failed %v after %d requests, want %d", got.Failed, requests, want)
			}
		})
	}
}

// TestTargetByteForByte: nothing in a target is encoded, decoded or cleaned.
func TestTargetByteForByte(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, head string) {
		line, _, _ := strings.Cut(head, "\r\n")
		fmt.Fprintf(c, ok+"Content-Length: %d\r\n\r\n%s", len(line), line)
	})
	tr := newTransport(t, Config{URL: u})
	for _, want := range []string{"/a%2Fb%2fc", "/a/./b", "//a", "/(x)'!*;p=1?q=%zz&?a=;", "/\xc3\xa4", "/?", "/[x]|{y}"} {
		resp, err := tr.RoundTrip(&http.Request{Method: "GET", URL: &url.URL{Opaque: want}})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if string(b) != "GET "+want+" HTTP/1.1" {
			t.Errorf("%q went out as %q", want, b)
		}
	}
	for _, bad := range []string{"a", "/a b", "/a\r\nX: y", "/a\x00", "/a#b", "http://other/", "*", "/\x7f"} {
		_, err := tr.RoundTrip(&http.Request{Method: "GET", URL: &url.URL{Opaque: bad}})
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != BadRequest || !e.NotRun {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestEarlyAnswer: an upstream that answers while the body is under way is heard, and its connection ends.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, _ string) {
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
	})
	tr := newTransport(t, Config{URL: u})
	pr, pw := io.Pipe()
	defer pw.Close()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", u.String(), pr)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 413 || string(b) != "no" {
		t.Errorf("%d %q %v", resp.StatusCode, b, err)
	}
	if _, err := pw.Write([]byte("more")); err == nil {
		t.Error("the body is still wanted")
	}
	if len(tr.pool.idle) != 0 {
		t.Error("a connection with half a request was kept")
	}
}

// TestExpectContinue: the body waits for the upstream's 100, for at most a second, and not at all after a refusal.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, first string
		takes       bool
		status      int
	}{
		{"granted", "HTTP/1.1 100 Continue\r\n\r\n", true, 200},
		{"ignored", "", true, 200},
		{"refused", "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", false, 417},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, head string) {
				if !strings.Contains(head, "Expect: 100-continue\r\n") || r.Buffered() > 0 {
					t.Errorf("head %q, %d bytes of the body", head, r.Buffered())
				}
				_, _ = io.WriteString(c, tc.first)
				if tc.takes {
					_, _ = io.ReadFull(r, make([]byte, 4))
					_, _ = io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
				}
			})
			tr := newTransport(t, Config{URL: u})
			body := &countingBody{Reader: strings.NewReader("body")}
			req, _ := http.NewRequestWithContext(t.Context(), "POST", u.String(), body)
			req.ContentLength = 4
			req.Header.Set("Expect", "100-continue")
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tc.status || body.read.Load() != tc.takes {
				t.Errorf("%d, body read: %v", resp.StatusCode, body.read.Load())
			}
		})
	}
}

// TestBodyLength: a body that is not as long as announced never reaches the upstream as a whole request.
func TestBodyLength(t *testing.T) {
	t.Parallel()
	got := make(chan string, 4)
	u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, _ string) {
		b := make([]byte, 10)
		n, _ := io.ReadFull(r, b)
		got <- string(b[:n])
		_, _ = io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
	})
	tr := newTransport(t, Config{URL: u})
	for _, body := range []string{"short", "longer than ten"} {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", u.String(), io.NopCloser(strings.NewReader(body)))
		req.ContentLength = 10
		_, err := tr.RoundTrip(req)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != BodyBroken {
			t.Errorf("%q: %v", body, err)
		}
		if sent := <-got; len(sent) == 10 {
			t.Errorf("the upstream got a whole body: %q", sent)
		}
	}
}

// TestTrailersUp: announced trailers follow a chunked body, forbidden ones do not.
func TestTrailersUp(t *testing.T) {
	t.Parallel()
	srv := bytes.Buffer{}
	done := make(chan struct{})
	u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, head string) {
		defer close(done)
		srv.WriteString(head)
		for !strings.HasSuffix(srv.String(), "0\r\nX-Sum: 7\r\n\r\n") {
			b, err := r.ReadByte()
			if err != nil {
				break
			}
			srv.WriteByte(b)
		}
		_, _ = io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
	})
	tr := newTransport(t, Config{URL: u})
	req, _ := http.NewRequestWithContext(t.Context(), "POST", u.String(), io.NopCloser(strings.NewReader("hi")))
	req.Trailer = http.Header{"X-Sum": {"7"}, "Content-Length": {"3"}, "Authorization": {"x"}}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-done
	if s := srv.String(); !strings.Contains(s, "Trailer: X-Sum\r\n") || strings.Contains(s, "Authorization") {
		t.Errorf("%q", s)
	}
}

// TestCancel: the upstream sees the caller leave at once, before and after the head.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", ok + "Content-Length: 100\r\n\r\nhalf"} {
		saw, gone := make(chan struct{}), make(chan struct{})
		u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, _ string) {
			_, _ = io.WriteString(c, first)
			close(saw)
			_, _ = r.ReadByte()
			close(gone)
		})
		tr := newTransport(t, Config{URL: u})
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		leave := errors.New("the caller has left")
		req, _ := http.NewRequestWithContext(ctx, "GET", u.String(), nil)
		if first == "" {
			go func() { <-saw; cancel(leave) }()
		}
		resp, err := tr.RoundTrip(req)
		if first != "" {
			if err != nil {
				t.Fatal(err)
			}
			cancel(leave)
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != CallerGone || !errors.Is(err, leave) {
			t.Errorf("%v", err)
		}
		<-gone
		if len(tr.pool.slots) != 0 {
			t.Error("the place was not given back")
		}
	}
}

// TestTimeouts: silence before the head, within the head and within the body ends the exchange.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "HTTP/1.1 20", ok + "Content-Length: 100\r\n\r\nhalf"} {
		u := rawUpstream(t, says(first, false))
		tr := newTransport(t, Config{URL: u, Timeout: 100 * time.Millisecond})
		req, _ := http.NewRequestWithContext(t.Context(), "GET", u.String(), nil)
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != TimedOut {
			t.Errorf("after %q: %v", first, err)
		}
	}
}

// TestConcurrentLimit: who finds no place within the wait gets Busy, and the place comes back.
func TestConcurrentLimit(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	arrived := make(chan struct{}, 1)
	u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, _ string) {
		arrived <- struct{}{}
		<-hold
		_, _ = io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
	})
	tr := newTransport(t, Config{URL: u, Concurrent: 1, QueueWait: 20 * time.Millisecond})
	var wg sync.WaitGroup
	wg.Go(func() { observe(t, tr, u, "GET", "") })
	<-arrived
	req, _ := http.NewRequestWithContext(t.Context(), "GET", u.String(), nil)
	_, err := tr.RoundTrip(req)
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Busy || !e.NotRun {
		t.Errorf("%v", err)
	}
	if waited, err := tr.pool.enter(t.Context()); err == nil || waited < 20*time.Millisecond {
		t.Errorf("a full pool: %v after %s", err, waited)
	}
	close(hold)
	wg.Wait()
	if got := observe(t, tr, u, "GET", ""); got.Failed {
		t.Error("no place after the first call")
	}
	if waited, err := tr.pool.enter(t.Context()); err != nil || waited != 0 {
		t.Errorf("an empty pool: %v after %s", err, waited)
	}
}

// TestUpgrade: bytes right behind the 101 are not lost, and both sides can speak.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, head string) {
		if !strings.Contains(head, "Upgrade: echo\r\nConnection: Upgrade\r\n") || strings.Contains(head, "Http2") {
			t.Errorf("head %q", head)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nfirst")
		_, _ = io.Copy(c, r)
		c.Close()
	})
	tr := newTransport(t, Config{URL: u})
	req, _ := http.NewRequestWithContext(t.Context(), "GET", u.String(), nil)
	req.Header = http.Header{"Upgrade": {"echo"}, "Connection": {"upgrade, HTTP2-Settings"}, "Http2-Settings": {"x"}}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	rwc := resp.Body.(io.ReadWriteCloser)
	_, _ = io.WriteString(rwc, " echo")
	b := make([]byte, len("first echo"))
	if _, err := io.ReadFull(rwc, b); err != nil || string(b) != "first echo" {
		t.Errorf("%q %v", b, err)
	}
	rwc.Close()
	if len(tr.pool.idle) != 0 || len(tr.pool.slots) != 0 {
		t.Error("an upgraded connection was kept")
	}
}

// TestHopByHop: what belongs to one hop does not pass, and Connection cannot cut out an identity.
func TestHopByHop(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 1)
	u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, head string) {
		heads <- head
		_, _ = io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
	})
	tr := newTransport(t, Config{URL: u, Auth: Auth{Kind: HeaderAuth, Header: "X-Api-Key", Secret: func() (string, error) { return "agent's", nil }}})
	req, _ := http.NewRequestWithContext(t.Context(), "GET", u.String(), nil)
	req.Host = "evil.example"
	req.Header = http.Header{
		"Connection": {"X-Hop, X-Api-Key, X-Forwarded-For, Upgrade"}, "X-Hop": {"1"}, "X-Api-Key": {"caller's"},
		"Upgrade": {"h2c"}, "Http2-Settings": {"x"}, "Keep-Alive": {"1"}, "Proxy-Authorization": {"x"}, "Te": {"trailers, gzip"},
		"Transfer-Encoding": {"chunked"}, "Authorization": {"Bearer caller"}, "X-Forwarded-For": {"10.0.0.1"},
		"Accept-Encoding": {"br"}, "X-Keep": {"yes"},
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := http.Header{}
	for line := range strings.SplitSeq(strings.TrimSpace(<-heads), "\r\n") {
		if k, v, ok := strings.Cut(line, ": "); ok {
			got.Add(k, v)
		}
	}
	want := http.Header{
		"Host": {u.Host}, "Connection": {"TE"}, "Te": {"trailers"}, "X-Api-Key": {"agent's"},
		"X-Forwarded-For": {"10.0.0.1"}, "Accept-Encoding": {"br"}, "X-Keep": {"yes"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
