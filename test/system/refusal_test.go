//go:build linux

package system

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// refusalRules is the allow-list of the tests below. Whoever reaches anything else has got around it.
var refusalRules = []string{"GET /a/**", "GET /api", "GET /api/{id}", "GET,POST /b"}

// refusedTargets are what follows the connector's base path: ambiguous, malformed, or simply not allowed. None of them
// may reach the upstream, in any form.
var refusedTargets = []string{
	// Two parsers could read these differently.
	"/a/../b", "/a/..", "/a/./b", "/../a/x", "/a/../../b",
	"/a/%2e%2e/b", "/a/%2E%2E/b", "/a/.%2e/b", "/a/%2e/b", "/a/%252e%252e/b", "/a/%252E%252E%252Fb",
	"/a/..%2fb", "/a/..%2Fb", "/a/%2e%2e%2fb", "/a%2fb", "/a/x%2fy", "/a/..%5cb", "/a/x%5cy", `/a/..\b`, `/a\b`, `\a\b`,
	"/a/..;/b", "/a;x=y/../b", "/a/;/b", "/a/x;y=1", "/..;/a/x", "/a/%3bx",
	"//a", "//a/x", "/a//b", "/a/x//", "///a", "//evil.example/a/x",
	"/api../x", "/api/..", "/apiX", "/api/", "/api/1/2", "/API", "/Api/1", "/A/x",
	"/a/x#y", "/a/#", "/a/%00", "/a/x%00y", "/a/%zz", "/a/%", "/a/x%2", "/a/%u002e%u002e/b",
	"/a/%c0%ae%c0%ae/b", "/a/%c0%af", "/a/%e0%80%af", "/a/%ff%fe", "/a/%ed%a0%80",
	"/a/\xef\xbc\x8e\xef\xbc\x8e\xef\xbc\x8fb", "/a/%EF%BC%8E%EF%BC%8E%EF%BC%8Fb", "/a/%EF%BC%8E", "/a/...", "/a/\xc0\xae/b", "/a/\xff",
	"/a/\x00", "/a/x\x7fy", "/a/x\ty", "/a/x\x01y", "/a/x\ry", "/a/x\ny", "/a/x y",
	"/a/x?q=\x00", "/a/x?q=%00", "/a/x?q=\x7f", "/a/x?q=%zz", "/a/x?q=%", "/a/x?q=#f",
	"/" + strings.Repeat("a", 64<<10), "/a/" + strings.Repeat("x/../", 5000) + "b",
	// Nobody allowed these.
	"", "/", "/b/", "/b/c", "/other", "/_/ping/../../a/x",
}

// admittedTargets look odd and are not ambiguous: they arrive, byte for byte.
var admittedTargets = []string{
	"/a/x", "/a/x/", "/a/b%20c", "/a/caf%C3%A9", "/a/x?y=1;z=2", "/a/x??", "/a/x?a=1&a=2", "/a/x?u=http://e/..//", "/a/x?",
	"/a/~!$&'()*+,=:@-._", "/a/%41", "/a/..x", "/a/x.y", "/api/1", "/api/%7B", "/a",
	"/a/x?" + strings.Repeat("p&", 10_001),
}

// refusalBox has the API "r" with refusalRules, and tells what reached its upstream.
func refusalBox(t *testing.T) (*box, *wire) {
	t.Helper()
	w := newWire(t)
	b := ready(t, racy, []string{"r"}, api("r", w.url, "", refusalRules...))
	w.seen()
	return b, w
}

// TestRefusedTargets writes each target raw over TLS.
func TestRefusedTargets(t *testing.T) {
	t.Parallel()
	b, w := refusalBox(t)
	base := "/" + gatewayName + "/r"
	var lines []string
	for _, target := range refusedTargets {
		lines = append(lines, "GET "+base+target+" HTTP/1.1")
	}
	// Forms of a request target that are not a path of ours (RFC 9112 section 3.2), and ways to leave the connector.
	lines = append(lines,
		"GET http://other/ HTTP/1.1", "GET http://other/a/x HTTP/1.1", "GET http://169.254.169.254/a/x HTTP/1.1",
		"GET http://other"+base+"/../../a/x HTTP/1.1", "GET http://user@"+hostName+base+"/a/../b HTTP/1.1",
		"CONNECT other:443 HTTP/1.1", "CONNECT "+base+"/a/x HTTP/1.1", "OPTIONS * HTTP/1.1", "GET * HTTP/1.1",
		"GET a/x HTTP/1.1", "GET "+base+"/a/x", "GET  "+base+"/a/x HTTP/1.1", "GET "+base+"/a/x HTTP/1.1 HTTP/1.1",
		"GET "+base+"/a/x HTTP/2.0", "GET "+base+"/a/x HTTP/9.9", "G\x00T "+base+"/a/x HTTP/1.1", "G T "+base+"/a/x HTTP/1.1",
		"GET /"+gatewayName+"/R/a/x HTTP/1.1", "GET /"+gatewayName+"//r/a/x HTTP/1.1", "GET //"+gatewayName+"/r/a/x HTTP/1.1",
		"GET /"+gatewayName+"/x/../r/a/x HTTP/1.1", "GET /"+gatewayName+"/%72/a/x HTTP/1.1", "GET /"+gatewayName+"%2fr/a/x HTTP/1.1",
		"GET /"+gatewayName+";x/r/a/x HTTP/1.1", "GET /other/r/a/x HTTP/1.1", "GET /"+strings.ToUpper(gatewayName)+"/r/a/x HTTP/1.1",
		"POST "+base+"/a/x HTTP/1.1", "DELETE "+base+"/b HTTP/1.1", "get "+base+"/a/x HTTP/1.1", "TRACE "+base+"/a/x HTTP/1.1",
	)
	for _, line := range lines {
		answer := b.raw(line + "\r\nHost: " + hostName + "\r\n\r\n")
		if reached := w.seen(); len(reached) != 0 {
			t.Errorf("%.100q reached the upstream as %.200q", line, reached)
		}
		if !refused(answer) {
			t.Errorf("%.100q was answered %.200q, want a refusal", line, answer)
		}
	}
	// The other half of the proof: the same box lets through what is allowed.
	for _, target := range admittedTargets {
		answer := b.raw("GET " + base + target + " HTTP/1.1\r\nHost: " + hostName + "\r\n\r\n")
		reached := w.seen()
		if len(reached) != 1 || !strings.HasPrefix(reached[0], "GET "+target+" HTTP/1.1\r\n") {
			t.Errorf("%.100q reached the upstream as %.200q, want it byte for byte; the answer was %.300q", target, reached, answer)
		}
	}
}

// refused says whether an answer, "" for a connection that was just closed, is not a success.
func refused(answer string) bool {
	return answer == "" || (strings.HasPrefix(answer, "HTTP/1.") && len(answer) > 9 && (answer[9] == '4' || answer[9] == '5'))
}

// raw writes bytes to the relay and gives the first answer as it came.
func (b *box) raw(request string) string {
	b.t.Helper()
	c := b.dialTLS("http/1.1")
	defer c.Close()
	io.WriteString(c, request) // a relay that has heard enough may close before it has read all of it
	r := bufio.NewReader(c)
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String()
		}
	}
}

// badHeads are heads that a careful parser does not take, or that must lose something on the way. %s is a good target.
var badHeads = []string{
	"GET %s HTTP/1.1\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: " + hostName + "\r\nX-A : space before the colon\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: " + hostName + "\r\nX-A: 1\r\n folded\r\nX\x00: 1\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: " + hostName + "\r\nX-Nul: a\x00b\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: " + hostName + "\r\nX-Big: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: " + hostName + "\r\n" + strings.Repeat("X-Many: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n", 30_000) + "\r\n",
	"POST %s HTTP/1.1\r\nHost: " + hostName + "\r\nContent-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	"POST %s HTTP/1.1\r\nHost: " + hostName + "\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
	"POST %s HTTP/1.1\r\nHost: " + hostName + "\r\nContent-Length: -5\r\n\r\nhello",
	"POST %s HTTP/1.1\r\nHost: " + hostName + "\r\nContent-Length: +5\r\n\r\nhello",
	"POST %s HTTP/1.1\r\nHost: " + hostName + "\r\nContent-Length: 5,6\r\n\r\nhello",
	"POST %s HTTP/1.1\r\nHost: " + hostName + "\r\nTransfer-Encoding: identity\r\n\r\nhello",
	"POST %s HTTP/1.1\r\nHost: " + hostName + "\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
	"POST %s HTTP/1.1\r\nHost: " + hostName + "\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}

func TestRefusedHeads(t *testing.T) {
	t.Parallel()
	b, w := refusalBox(t)
	for _, head := range badHeads {
		request := fmt.Sprintf(head, "/"+gatewayName+"/r/b")
		answer := b.raw(request)
		if reached := w.seen(); len(reached) != 0 {
			t.Errorf("%.150q reached the upstream as %.200q", request, reached)
		}
		if !refused(answer) {
			t.Errorf("%.150q was answered %.200q, want a refusal", request, answer)
		}
	}
	if answer := b.raw("GET /" + gatewayName + "/r/b HTTP/1.1\r\nHost: " + hostName + "\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("after all that a good request gets %.200q", answer)
	}
}

// TestFieldsThatMustNotArrive: what would change the meaning of the request behind the agent's back.
func TestFieldsThatMustNotArrive(t *testing.T) {
	t.Parallel()
	b, w := refusalBox(t)
	fields := []string{
		"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "X_HTTP_Method_Override: DELETE",
		"X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X_Original_URL: /admin", "Proxy-Authorization: Basic eDp5",
		"Proxy-Connection: keep-alive", "Keep-Alive: 300", "TE: trailers, gzip", "Connection: X-Named, close", "X-Named: by-connection",
		"X-Forwarded-Host: evil.example", "Forwarded: for=203.0.113.9",
	}
	answer := b.raw("GET /" + gatewayName + "/r/b HTTP/1.1\r\nHost: " + hostName + "\r\nX-Kept: yes\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n")
	reached := w.seen()
	if len(reached) != 1 || !strings.Contains(reached[0], "X-Kept: yes") {
		t.Fatalf("the request reached the upstream as %q and was answered %q", reached, answer)
	}
	lower := strings.ToLower(reached[0])
	for _, bad := range []string{"delete", "/admin", "proxy-", "300", "gzip", "x-named", "evil.example", "203.0.113.9"} {
		if strings.Contains(lower, bad) {
			t.Errorf("%q arrived at the upstream:\n%s", bad, reached[0])
		}
	}
}

// TestRefusedTargetsHTTP2 writes the frames itself: a library would refuse to send most of these.
func TestRefusedTargetsHTTP2(t *testing.T) {
	t.Parallel()
	b, w := refusalBox(t)
	base := "/" + gatewayName + "/r"
	var paths []string
	for _, target := range refusedTargets {
		if len(target) < 10_000 {
			paths = append(paths, base+target)
		}
	}
	paths = append(paths, "a/x", "", "*", "http://other/a/x", gatewayName+"/r/a/x", base+"/a/x HTTP/1.1\r\nX: y")
	for _, path := range paths {
		status := b.frame(path)
		if reached := w.seen(); len(reached) != 0 {
			t.Errorf(":path %.100q reached the upstream as %.200q", path, reached)
		}
		if status != "" && status[0] != '4' && status[0] != '5' {
			t.Errorf(":path %.100q was answered %s, want a refusal", path, status)
		}
	}
	for _, target := range admittedTargets {
		if len(target) > 10_000 {
			continue
		}
		status := b.frame(base + target)
		if reached := w.seen(); len(reached) != 1 || !strings.HasPrefix(reached[0], "GET "+target+" HTTP/1.1\r\n") {
			t.Errorf(":path %.100q reached the upstream as %.200q, want it byte for byte; the answer was %s", target, reached, status)
		}
	}
}

// frame sends one request by HTTP/2 frames and gives its status, "" if the stream or the connection was ended instead.
func (b *box) frame(path string) string {
	b.t.Helper()
	c := b.dialTLS("h2")
	defer c.Close()
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", hostName}, {":path", path}} {
		enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return ""
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

// TestRefusalSaysWho: a refusal names the program that refused, and nothing from inside.
func TestRefusalSaysWho(t *testing.T) {
	t.Parallel()
	b, _ := refusalBox(t)
	b.admin(nil, "connector", "publish", gatewayName+"/locked", "--auth", "key")
	for _, c := range []struct {
		path, origin string
		status       []int
	}{
		{b.at("r", "/other"), "agent", []int{403}},
		{b.at("r", "/a//b"), "agent", []int{400}},
		{b.at("none", "/x"), "relay", []int{404}},
		{b.at("locked", "/x"), "relay", []int{401}},
	} {
		resp, err := b.client(1).Get(c.path)
		if err != nil {
			t.Fatal(err)
		}
		p := readProblem(t, resp)
		resp.Body.Close()
		if !slices.Contains(c.status, resp.StatusCode) || p.Origin != c.origin || p.Executed != "no" {
			t.Errorf("%s: status %d, origin %s, executed %s; want %v, %s, no", c.path, resp.StatusCode, p.Origin, p.Executed, c.status, c.origin)
		}
		if all := fmt.Sprintf("%+v", p); strings.Contains(all, "127.0.0.1") || strings.Contains(all, b.dir) {
			t.Errorf("%s: the problem tells of the inside: %s", c.path, all)
		}
	}
	if resp, err := http.Get("http://" + b.addr + "/"); err == nil {
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("plain HTTP to the TLS port is answered %s", resp.Status)
		}
	}
}
