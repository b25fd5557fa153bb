//go:build linux

package system

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mccutchen/go-httpbin/v2/httpbin"
)

// An upstream is an internal API: go-httpbin, and below /x/ what it has not. It records every request target.
type upstream struct {
	url  string
	gone chan string // the ID of each caller of /x/hang whose leaving the upstream has noticed

	mu      sync.Mutex // guards what follows
	targets []string
	ran     map[string]int // how often /x/once ran, by its ID, and any request, by its countHeader
}

// countHeader is the field by which the upstream counts how often a request ran, whatever it is.
const countHeader = "X-Count-Runs"

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{gone: make(chan string, 100), ran: map[string]int{}}
	mux := http.NewServeMux()
	mux.Handle("/", httpbin.New(httpbin.WithMaxBodySize(1<<30), httpbin.WithMaxDuration(time.Minute)))
	mux.HandleFunc("/x/digest", digest)
	mux.HandleFunc("/x/big/{bytes}", bulk)
	mux.HandleFunc("/x/events", events)
	mux.HandleFunc("/x/echo", echo)
	mux.HandleFunc("/x/at-once", atOnce)
	mux.HandleFunc("/x/hang", u.hang)
	mux.HandleFunc("/x/breaks", breaks)
	mux.HandleFunc("/x/trailers", trailers)
	mux.HandleFunc("/x/hints", hints)
	mux.HandleFunc("/x/status/{code}", status)
	mux.HandleFunc("/x/refuse", refuse)
	mux.HandleFunc("/x/slow/{ms}", slow)
	mux.HandleFunc("/x/once/{id}", u.once)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.record(r.RequestURI)
		u.count(r.Header.Get(countHeader))
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	u.url = s.URL
	return u
}

func (u *upstream) record(target string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.targets = append(u.targets, target)
}

// seen gives the request targets that have arrived, and forgets them.
func (u *upstream) seen() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.targets
	u.targets = nil
	return s
}

// count notes a run of the request that the caller calls id.
func (u *upstream) count(id string) {
	if id == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ran[id]++
}

// once counts how often it was run with an ID, then takes its time, as a booking does.
func (u *upstream) once(w http.ResponseWriter, r *http.Request) {
	u.count(r.PathValue("id"))
	_, _ = io.Copy(io.Discard, r.Body)
	ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-r.Context().Done():
	}
	fmt.Fprint(w, "done")
}

// timesRun says how often a request ran with each ID.
func (u *upstream) timesRun() map[string]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.ran)
}

// digest answers with length and SHA-256 of the body that really arrived.
func digest(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, err := io.Copy(h, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%d %s %d", n, hex.EncodeToString(h.Sum(nil)), r.ContentLength)
}

// pattern fills p with bytes that tell their own offset, so that anything lost or doubled changes the digest.
func pattern(p []byte, offset int64) {
	for i := range p {
		at := offset + int64(i)
		p[i] = byte(at ^ at>>8 ^ at>>16 ^ at>>24)
	}
}

func bulk(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.ParseInt(r.PathValue("bytes"), 10, 64)
	if r.URL.Query().Has("length") {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	block := patternBlock()
	for left := n; left > 0; {
		k := min(left, int64(len(block)))
		if _, err := w.Write(block[:k]); err != nil {
			return
		}
		left -= k
	}
}

// patternBlock is 1 MiB of the pattern; longer bodies repeat it.
func patternBlock() []byte {
	b := make([]byte, 1<<20)
	pattern(b, 0)
	return b
}

// patternDigest is the digest of n bytes of repeated blocks.
func patternDigest(n int64) string {
	h, block := sha256.New(), patternBlock()
	for left := n; left > 0; left -= int64(len(block)) {
		h.Write(block[:min(left, int64(len(block)))])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// events sends an event for each line that the caller sends on /x/events?n=N: it waits for the next only a moment, so
// that an intermediary that collects them is seen by the arrival times.
func events(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range n {
		fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i)
		http.NewResponseController(w).Flush()
		select {
		case <-time.After(300 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

// echo sends back every WebSocket message.
func echo(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{"echo.v1"}, CheckOrigin: func(*http.Request) bool { return true }}
	c, err := up.Upgrade(w, r, http.Header{"X-Echo": {"yes"}})
	if err != nil {
		return
	}
	defer c.Close()
	for {
		kind, data, err := c.ReadMessage()
		if err != nil || c.WriteMessage(kind, data) != nil {
			return
		}
	}
}

// atOnce sends bytes in the same write as the 101, then echoes: what follows the head must not be lost. The key and its
// answer are those of RFC 6455 section 1.3.
func atOnce(w http.ResponseWriter, _ *http.Request) {
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nright after the 101;")
	io.Copy(c, buf)
}

// hang sends its head and some bytes, then nothing, and tells when the caller has gone.
func (u *upstream) hang(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("head") != "no" {
		io.WriteString(w, "so far")
		http.NewResponseController(w).Flush()
	}
	<-r.Context().Done()
	u.gone <- r.URL.Query().Get("id")
}

// breaks promises more than it sends, in the framing that the query names, and cuts the connection.
func breaks(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("framing") == "length" {
		w.Header().Set("Content-Length", "100000")
	}
	w.Write(make([]byte, 50_000))
	http.NewResponseController(w).Flush()
	time.Sleep(100 * time.Millisecond) // a reset at once would overtake the head
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func trailers(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Trailer", "X-Checksum, X-Asked")
	fmt.Fprintf(w, "%d bytes", len(body))
	w.Header().Set("X-Checksum", "abc")
	w.Header().Set("X-Asked", r.Trailer.Get("X-From-Caller"))
}

// hints sends two informational heads before the final one.
func hints(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.WriteHeader(http.StatusEarlyHints)
	io.WriteString(w, "done")
}

func status(w http.ResponseWriter, r *http.Request) {
	code, _ := strconv.Atoi(r.PathValue("code"))
	w.Header().Set("Etag", `"v1"`)
	w.WriteHeader(code)
}

// refuse answers before it has read the body: the caller who asked with Expect must not have to send it.
func refuse(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	http.Error(w, "not today", http.StatusForbidden)
}

func slow(w http.ResponseWriter, r *http.Request) {
	ms, _ := strconv.Atoi(r.PathValue("ms"))
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		io.WriteString(w, "slow but sure")
	case <-r.Context().Done():
	}
}

// A wire is an upstream below HTTP: it records each head that arrives, whatever it is, and answers 200.
type wire struct {
	url   string
	mu    sync.Mutex // guards heads
	heads []string
}

func newWire(t *testing.T) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{url: "http://" + l.Addr().String()}
	ctx, stop := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer context.AfterFunc(ctx, func() { c.Close() })()
				w.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		stop()
		l.Close()
		conns.Wait()
	})
	return w
}

func (w *wire) serve(c net.Conn) {
	defer c.Close()
	var got strings.Builder
	buf := make([]byte, 64<<10)
	for {
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		got.Write(buf[:n])
		if !strings.Contains(got.String(), "\r\n\r\n") {
			continue
		}
		w.mu.Lock()
		w.heads = append(w.heads, got.String())
		w.mu.Unlock()
		got.Reset()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

// seen gives the heads that have arrived, and forgets them.
func (w *wire) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.heads
	w.heads = nil
	return h
}
