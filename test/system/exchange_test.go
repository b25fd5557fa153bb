//go:build linux

package system

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestExchanges sends one kind of exchange after another through relay and agent to a real upstream, from callers that
// speak HTTP/1.1 and from callers that speak HTTP/2.
func TestExchanges(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP%d", version), func(t *testing.T) {
			x := exchange{b.client(version), b.at("web", ""), version}
			t.Run("httpbin", x.httpbin)
			t.Run("body is echoed whole", x.post)
			t.Run("HEAD", x.head)
			t.Run("status without body", x.noBody)
			t.Run("trailers both ways", x.trailers)
			t.Run("informational heads", x.hints)
			t.Run("Expect, accepted", x.expectAccepted)
			t.Run("Expect, refused", x.expectRefused)
			t.Run("unknown length both ways", x.chunked)
			t.Run("no credential challenge leaves", x.challenge)
			t.Run("redirect is not followed", x.redirect)
			t.Run("compressed body is left alone", x.gzip)
		})
	}
}

type exchange struct {
	c       *http.Client
	base    string
	version int
}

func (x exchange) do(t *testing.T, method, path string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, x.base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := x.c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.ProtoMajor != x.version {
		t.Fatalf("the relay answered by HTTP/%d, this caller speaks HTTP/%d", resp.ProtoMajor, x.version)
	}
	return resp
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return string(b)
}

func want(t *testing.T, resp *http.Response, status int) {
	t.Helper()
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, text(t, resp))
	}
}

func (x exchange) httpbin(t *testing.T) {
	header := []string{"X-Custom", "kept", "X-Forwarded-For", "203.0.113.9"}
	if x.version == 1 { // HTTP/2 has no Connection field
		header = append(header, "Connection", "X-Hop", "X-Hop", "dropped")
	}
	resp := x.do(t, "GET", "/get?a=1&a=2&b=%20x", nil, header...)
	want(t, resp, 200)
	var got struct {
		Args    map[string][]string
		Headers map[string][]string
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Args["a"], []string{"1", "2"}) || !slices.Equal(got.Args["b"], []string{" x"}) {
		t.Errorf("the query arrived as %v", got.Args)
	}
	if v := got.Headers["X-Custom"]; !slices.Equal(v, []string{"kept"}) {
		t.Errorf("X-Custom arrived as %q", v)
	}
	if v := got.Headers["X-Hop"]; v != nil {
		t.Errorf("X-Hop, named by Connection, arrived as %q", v)
	}
	if v := strings.Join(got.Headers["X-Forwarded-For"], ","); strings.Contains(v, "203.0.113.9") || v == "" {
		t.Errorf("X-Forwarded-For arrived as %q: a caller can say what it likes", v)
	}
	if id := resp.Header.Get("X-Request-Id"); id == "" || !slices.Equal(got.Headers["X-Request-Id"], []string{id}) {
		t.Errorf("the request ID is %q at the caller and %q at the upstream", id, got.Headers["X-Request-Id"])
	}
}

func (x exchange) post(t *testing.T) {
	body := make([]byte, 300_000)
	rand.Read(body)
	resp := x.do(t, "POST", "/x/digest", strings.NewReader(string(body)))
	want(t, resp, 200)
	sum := sha256.Sum256(body)
	if got, w := text(t, resp), fmt.Sprintf("%d %s %d", len(body), hex.EncodeToString(sum[:]), len(body)); got != w {
		t.Errorf("the upstream read %q, want %q", got, w)
	}
}

func (x exchange) head(t *testing.T) {
	resp := x.do(t, "HEAD", "/x/big/12345?length", nil)
	want(t, resp, 200)
	if resp.ContentLength != 12345 || text(t, resp) != "" {
		t.Errorf("HEAD: Content-Length %d, want 12345 and no body", resp.ContentLength)
	}
	// The connection is still in step.
	if got := text(t, x.do(t, "GET", "/x/slow/0", nil)); got != "slow but sure" {
		t.Errorf("the request after HEAD got %q", got)
	}
}

func (x exchange) noBody(t *testing.T) {
	for _, code := range []int{204, 304} {
		resp := x.do(t, "GET", fmt.Sprintf("/x/status/%d", code), nil, "If-None-Match", `"v1"`)
		want(t, resp, code)
		if resp.Header.Get("Etag") != `"v1"` || text(t, resp) != "" {
			t.Errorf("%d: Etag %q, want \"v1\" and no body", code, resp.Header.Get("Etag"))
		}
	}
	if got := text(t, x.do(t, "GET", "/x/slow/0", nil)); got != "slow but sure" {
		t.Errorf("the request after them got %q", got)
	}
}

func (x exchange) trailers(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), "POST", x.base+"/x/trailers", io.NopCloser(strings.NewReader("four")))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = -1
	req.Trailer = http.Header{"X-From-Caller": {"hello"}}
	resp, err := x.c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := text(t, resp); got != "4 bytes" {
		t.Errorf("body %q, want \"4 bytes\"", got)
	}
	if resp.Trailer.Get("X-Checksum") != "abc" || resp.Trailer.Get("X-Asked") != "hello" {
		t.Errorf("trailers %v, want X-Checksum: abc and X-Asked: hello", resp.Trailer)
	}
}

func (x exchange) hints(t *testing.T) {
	var early []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		early = append(early, fmt.Sprint(code, h.Get("Link")))
		return nil
	}})
	req, _ := http.NewRequestWithContext(ctx, "GET", x.base+"/x/hints", nil)
	resp, err := x.c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	one := "103<" + x.base + "/style.css>; rel=preload" // made public, as in a final head
	if got := text(t, resp); got != "done" || !slices.Equal(early, []string{one, one}) {
		t.Errorf("body %q after %q, want \"done\" after two early hints", got, early)
	}
}

func (x exchange) expect(t *testing.T, path string, body io.Reader) (*http.Response, bool) {
	t.Helper()
	continued := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { continued = true }})
	req, _ := http.NewRequestWithContext(ctx, "POST", x.base+path, body)
	req.Header.Set("Expect", "100-continue")
	req.ContentLength = 1 << 20
	c := *x.c
	tr := x.c.Transport.(*http.Transport).Clone()
	tr.ExpectContinueTimeout = 20 * time.Second
	defer tr.CloseIdleConnections()
	c.Transport = tr
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp, continued
}

func (x exchange) expectAccepted(t *testing.T) {
	resp, continued := x.expect(t, "/x/digest", io.LimitReader(rand.Reader, 1<<20))
	want(t, resp, 200)
	if !continued {
		t.Error("the caller was not told to go on")
	}
	if got := text(t, resp); !strings.HasPrefix(got, "1048576 ") {
		t.Errorf("the upstream read %q, want 1048576 bytes", got)
	}
}

// counting counts what is taken from it.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func (x exchange) expectRefused(t *testing.T) {
	body := &counting{r: io.LimitReader(rand.Reader, 1<<20)}
	resp, continued := x.expect(t, "/x/refuse", body)
	want(t, resp, 403)
	if got := strings.TrimSpace(text(t, resp)); got != "not today" {
		t.Errorf("the body is %q, want the upstream's own", got)
	}
	// Go's HTTP/2 server hides the Expect field from the relay, and says "continue" when the relay begins to read.
	if x.version == 1 && (continued || body.n != 0) {
		t.Errorf("continued %v, %d body bytes taken: the upstream had refused before the body", continued, body.n)
	}
}

func (x exchange) chunked(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		for range 50 {
			w.Write(make([]byte, 1000))
		}
		w.Close()
	}()
	resp := x.do(t, "POST", "/x/digest", r)
	want(t, resp, 200)
	if got := text(t, resp); !strings.HasPrefix(got, "50000 ") || !strings.HasSuffix(got, " -1") {
		t.Errorf("the upstream read %q, want 50000 bytes of unknown length", got)
	}
	resp = x.do(t, "GET", "/x/big/3000000", nil)
	if n, err := io.Copy(io.Discard, resp.Body); n != 3_000_000 || err != nil {
		t.Errorf("read %d bytes and %v, want 3000000", n, err)
	}
}

// challenge asks an upstream that wants a password the agent was not given: its 401 is not the caller's business.
func (x exchange) challenge(t *testing.T) {
	resp := x.do(t, "GET", "/basic-auth/u/p", nil)
	if v := resp.Header.Values("Www-Authenticate"); slices.ContainsFunc(v, func(s string) bool {
		return strings.HasPrefix(s, "Negotiate") || strings.HasPrefix(s, "NTLM")
	}) {
		t.Errorf("WWW-Authenticate %q reached the caller", v)
	}
}

func (x exchange) redirect(t *testing.T) {
	resp := x.do(t, "GET", "/redirect-to?url=/get", nil)
	want(t, resp, 302)
	if got := resp.Header.Get("Location"); !strings.HasSuffix(got, "/"+gatewayName+"/web/get") {
		t.Errorf("Location %q, want a public address below the connector", got)
	}
	resp = x.do(t, "GET", "/redirect-to?url=http://other.invalid/y", nil)
	want(t, resp, 302)
	if got := resp.Header.Get("Location"); got != "" {
		t.Errorf("Location %q: an address that is not the API's left the agent", got)
	}
}

func (x exchange) gzip(t *testing.T) {
	resp := x.do(t, "GET", "/gzip", nil, "Accept-Encoding", "gzip")
	want(t, resp, 200)
	if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
		t.Errorf("Content-Encoding %q, want gzip", got)
	}
	if magic, _ := bufio.NewReader(resp.Body).Peek(2); string(magic) != "\x1f\x8b" {
		t.Errorf("the body begins with %x, want gzip's mark", magic)
	}
}
