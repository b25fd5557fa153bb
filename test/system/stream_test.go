//go:build linux

package system

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestEventsArriveOneByOne: the upstream sends an event each 300 ms, and an intermediary that collected them would
// deliver several at once.
func TestEventsArriveOneByOne(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	for _, version := range []int{1, 2} {
		resp, err := b.client(version).Get(b.at("web", "/x/events?n=5"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		want(t, resp, 200)
		lines, events, last := bufio.NewScanner(resp.Body), 0, time.Time{}
		for lines.Scan() {
			if lines.Text() != fmt.Sprintf("data: event %d", events) {
				continue
			}
			if now := time.Now(); events > 0 && now.Sub(last) < 50*time.Millisecond {
				t.Errorf("HTTP/%d: event %d came %s after the one before: they were collected", version, events, now.Sub(last))
			}
			last = time.Now()
			events++
		}
		if events != 5 || lines.Err() != nil {
			t.Errorf("HTTP/%d: %d events and %v, want 5", version, events, lines.Err())
		}
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	d := websocket.Dialer{
		NetDialContext: b.dial, TLSClientConfig: &tls.Config{RootCAs: b.cas, ServerName: hostName},
		Subprotocols: []string{"other", "echo.v1"}, HandshakeTimeout: 20 * time.Second,
	}
	c, resp, err := d.DialContext(t.Context(), strings.Replace(b.at("web", "/x/echo"), "https", "wss", 1), nil)
	if err != nil {
		t.Fatalf("open the WebSocket: %v", err)
	}
	defer c.Close()
	if c.Subprotocol() != "echo.v1" || resp.Header.Get("X-Echo") != "yes" {
		t.Errorf("subprotocol %q and X-Echo %q, want echo.v1 and yes", c.Subprotocol(), resp.Header.Get("X-Echo"))
	}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for _, size := range []int{0, 1, 125, 126, 65_535, 65_536, 1_000_000} {
		sent := make([]byte, size)
		pattern(sent, int64(size))
		if err := c.WriteMessage(websocket.BinaryMessage, sent); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage || string(got) != string(sent) {
			t.Fatalf("%d bytes came back as %d bytes of kind %d, %v", size, len(got), kind, err)
		}
	}
	c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4321, "bye"), time.Now().Add(time.Second))
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, 4321) {
		t.Errorf("closing gave %v, want the upstream's echo of code 4321", err)
	}
}

// TestBytesRightAfterThe101 reads what the upstream had sent in one write with its 101.
func TestBytesRightAfterThe101(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	for i := range 20 {
		c := b.dialTLS("http/1.1")
		fmt.Fprintf(c, "GET /%s/web/x/at-once HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", gatewayName, hostName)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 101 {
			t.Fatalf("%d: %v %v, want 101", i, resp, err)
		}
		io.WriteString(c, "and back")
		got := make([]byte, len("right after the 101;and back"))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "right after the 101;and back" {
			t.Fatalf("%d: read %q, %v", i, got, err)
		}
		c.Close()
	}
}

// TestRefusedUpgrade: an upstream that does not switch answers like any other, and the connection goes on.
func TestRefusedUpgrade(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	c := b.dialTLS("http/1.1")
	r := bufio.NewReader(c)
	for i := range 3 {
		fmt.Fprintf(c, "GET /%s/web/x/slow/0 HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", gatewayName, hostName)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if got := text(t, resp); resp.StatusCode != 200 || got != "slow but sure" {
			t.Fatalf("%d: %s %q", i, resp.Status, got)
		}
	}
}

// TestCallerHangsUp: the upstream sees it, whether its answer had begun or not.
func TestCallerHangsUp(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	for _, version := range []int{1, 2} {
		for _, head := range []string{"yes", "no"} {
			id := fmt.Sprintf("%d-%s", version, head)
			ctx, hangUp := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "GET", b.at("web", "/x/hang?head="+head+"&id="+id), nil)
			time.AfterFunc(time.Second, hangUp)
			if resp, err := b.client(version).Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			select {
			case got := <-u.gone:
				if got != id {
					t.Errorf("the upstream saw %s leave, not %s", got, id)
				}
			case <-time.After(15 * time.Second):
				t.Errorf("HTTP/%d, head sent: %s: the caller hung up and the upstream did not see it", version, head)
			}
		}
	}
}

// TestUpstreamDiesInMidBody: no caller may take half an answer for a whole one.
func TestUpstreamDiesInMidBody(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	for _, version := range []int{1, 2} {
		for _, framing := range []string{"length", "chunks"} {
			resp, err := b.client(version).Get(b.at("web", "/x/breaks?framing="+framing))
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("HTTP/%d, %s: %v, %v: want the 200 that the upstream had begun", version, framing, resp, err)
				continue
			}
			n, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err == nil {
				t.Errorf("HTTP/%d, %s: a 200 with %d bytes looks whole", version, framing, n)
			}
		}
	}
}

// TestUpstreamIsDead: nobody listens there, and the answer says so without saying where.
func TestUpstreamIsDead(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	b := ready(t, racy, []string{"dead"}, api("dead", fmt.Sprintf("http://127.0.0.1:%d", port), "", everything))
	resp, err := b.client(1).Get(b.at("dead", "/x"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	want(t, resp, http.StatusBadGateway)
	p := readProblem(t, resp)
	if p.Executed != "no" {
		t.Errorf("executed: %s, want no: there was no connection", p.Executed)
	}
	if all := fmt.Sprintf("%+v", p); strings.Contains(all, fmt.Sprint(port)) || strings.Contains(all, "127.0.0.1") {
		t.Errorf("the problem names the upstream's address: %s", all)
	}
}

// TestSlowUpstream: the agent gives up at the API's timeout, and says that the outcome is not known.
func TestSlowUpstream(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "limits: {timeout: 2s}", everything))
	resp, err := b.client(1).Get(b.at("web", "/x/slow/30000"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	want(t, resp, http.StatusGatewayTimeout)
	if p := readProblem(t, resp); p.Executed != "unknown" {
		t.Errorf("executed: %s, want unknown", p.Executed)
	}
}

// TestManyAtOnce: 64 callers, each with its own answer.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "limits: {concurrent: 200}", everything))
	errs := make(chan error, 64)
	for i := range 64 {
		c := b.client(1 + i%2)
		go func() { errs <- callMany(c, b.at("web", ""), i) }()
	}
	for range 64 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func callMany(c *http.Client, base string, i int) error {
	for j := range 20 {
		word := fmt.Sprintf("caller-%d-%d", i, j)
		resp, err := c.Get(base + "/base64/encode/" + word)
		if err != nil {
			return err
		}
		encoded, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 {
			return fmt.Errorf("%s: %s, %w", word, resp.Status, err)
		}
		resp, err = c.Get(base + "/base64/decode/" + string(encoded))
		if err != nil {
			return err
		}
		decoded, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(decoded) != word {
			return errors.Join(fmt.Errorf("%s came back as %q", word, decoded), err)
		}
	}
	return nil
}
