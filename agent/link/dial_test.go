package link

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/tunnel"
)

// tryTo makes one dial of a relay at this URL.
func tryTo(t *testing.T, c DialConfig) error {
	t.Helper()
	d, err := NewDialer(c)
	if err != nil {
		t.Fatal(err)
	}
	who, err := newFixed(t).Claim(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ws, _, err := d.dial(context.Background(), who, "sha256:x")
	if err == nil {
		_ = ws.Close()
		t.Fatal("the dial succeeded")
	}
	return err
}

// Whatever answers in the relay's place is named, with what to do about it.
func TestWhatCameBackInstead(t *testing.T) {
	t.Parallel()
	header := func(status int, kv ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(kv)-1; i += 2 {
				w.Header().Set(kv[i], kv[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, kv[len(kv)-1])
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    []string
	}{
		"portal":        {header(200, "Content-Type", "text/html; charset=utf-8", "<html><TITLE>\n Guest  WiFi\x1b[31m </TITLE>"), []string{`"Guest WiFi[31m"`, "sign-in page"}},
		"plain 200":     {header(200, "ok"), []string{"200 OK", "removes the upgrade"}},
		"stripped":      {header(400, "Bad Request\n"), []string{"400", "pass WebSockets"}},
		"redirect":      {header(302, "Location", "https://login.example.com/x?secret=1", ""), []string{"302", "https://login.example.com;"}},
		"401":           {header(401, "WWW-Authenticate", `Basic realm="x"`, ""), []string{"401", "offers Basic"}},
		"403":           {header(403, "Content-Type", "text/html", "<title>Blocked by policy</title>"), []string{"Blocked by policy", "firewall or proxy forbids"}},
		"404":           {header(404, "nothing"), []string{"404", "no relay at this URL"}},
		"407":           {header(407, "Proxy-Authenticate", "NTLM", ""), []string{"407", "offers NTLM"}},
		"502":           {header(502, "bad gateway"), []string{"502", "does not reach it"}},
		"not WebSocket": {header(101, "Upgrade", "h2c", "Connection", "Upgrade", ""), []string{"101", "not a proper WebSocket handshake"}},
		"another protocol": {func(w http.ResponseWriter, r *http.Request) {
			up := tunnel.NewUpgrader()
			up.Subprotocols = nil
			if ws, err := up.Upgrade(w, r, nil); err == nil {
				defer ws.Close()
				_, _, _ = ws.ReadMessage()
			}
		}, []string{`speaks "", not sallyport.v1`}},
		"closes": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, []string{"closed without an answer"}},
		"endless head": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			line := "X-Filler: " + strings.Repeat("x", 1000) + "\r\n"
			_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
			for err == nil {
				_, err = io.WriteString(conn, line)
			}
		}, []string{"larger than 65536 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(c.handler)
			defer s.Close()
			err := tryTo(t, DialConfig{Relay: s.URL})
			for _, want := range append(c.want, s.URL) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %s", err, want)
				}
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), "secret") {
				t.Errorf("unfit for a log: %q", err.Error())
			}
		})
	}
}

func TestRetryAfterOfABalancer(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer s.Close()
	if got := retryAfter(tryTo(t, DialConfig{Relay: s.URL})); got != 7*time.Second {
		t.Errorf("retryAfter = %v, want 7s", got)
	}
}

func TestFaultsOfTheNetworkAndOfTLS(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := newRelay(t, nil)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(secure.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config DialConfig
		want   []string
	}{
		"refused":    {DialConfig{Relay: "https://" + closed}, []string{"connect: ", "refused", "'proxy' in agent.yaml"}},
		"no TLS":     {DialConfig{Relay: "https" + strings.TrimPrefix(plain.URL, "http")}, []string{"does not speak TLS"}},
		"unknown CA": {DialConfig{Relay: secure.URL}, []string{"issued by", "Acme Co", "'ca' in agent.yaml"}},
		"other name": {DialConfig{Relay: "https://localhost:" + port, Roots: secure.roots()}, []string{"is for another name"}},
	} {
		err := tryTo(t, c.config)
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %s", name, err, want)
			}
		}
	}
	// TLS that nobody verifies is never spoken: the relay saw no claim.
	if claims := secure.seen(); len(claims) != 0 {
		t.Errorf("claims over unverified TLS: %+v", claims)
	}
}

func TestNewDialerRefuses(t *testing.T) {
	t.Parallel()
	for _, relay := range []string{
		"", "relay.example.com", "ftp://relay.example.com", "https://", "https://u:hunter2@relay.example.com",
		"https://relay.example.com/x", "https://relay.example.com?x", "http://relay.example.com", "http://10.0.0.1",
	} {
		if _, err := NewDialer(DialConfig{Relay: relay}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", relay, err)
		}
	}
	for _, relay := range []string{"https://relay.example.com", "https://relay.example.com:8443/", "http://127.0.0.1:80", "http://[::1]:80", "http://localhost"} {
		if _, err := NewDialer(DialConfig{Relay: relay}); err != nil {
			t.Errorf("%q: %v", relay, err)
		}
	}
	if _, err := Roots([]byte("no certificate")); err == nil {
		t.Error("a CA file without a certificate was taken")
	}
}

// A connectProxy is an HTTP proxy; answer writes what it says to a CONNECT and says whether to go on.
func connectProxy(t *testing.T, answer func(*http.Request, net.Conn) bool) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil || !answer(req, conn) {
					return
				}
				out, err := net.Dial("tcp", req.Host)
				if err != nil {
					return
				}
				defer out.Close()
				wg.Go(func() { _, _ = io.Copy(out, conn); _ = out.Close() })
				_, _ = io.Copy(conn, out)
			})
		}
	})
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

func via(t *testing.T, u *url.URL) ProxyFunc {
	t.Helper()
	p, err := ProxyFor(u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A link through a proxy that wants Basic; the password is in no log.
func TestThroughAProxy(t *testing.T) {
	t.Parallel()
	r := newRelay(t, nil)
	seen := make(chan string, 10)
	p := connectProxy(t, func(q *http.Request, c net.Conn) bool {
		seen <- q.Method + " " + q.Host + " " + q.Header.Get("Proxy-Authorization")
		_, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		return err == nil
	})
	p.User = url.UserPassword("svc", "hunter2")
	log, out := textLog()
	d, err := NewDialer(DialConfig{Relay: r.URL, Roots: r.roots(), Proxy: via(t, p), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	running(t, New(Config{Dialer: d, Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 1, Serve: echo, Log: log}))
	l := r.next()
	if got, err := ask(l.Link, "/x"); err != nil || got != "/x" {
		t.Errorf("exchange: %q, %v", got, err)
	}
	want := "CONNECT " + strings.TrimPrefix(r.URL, "https://") + " Basic " + base64.StdEncoding.EncodeToString([]byte("svc:hunter2"))
	if got := <-seen; got != want {
		t.Errorf("the proxy saw %q, want %q", got, want)
	}
	if strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), p.Host) {
		t.Errorf("log:\n%s", out)
	}
}

func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		user   *url.Userinfo
		want   []string
	}{
		"407 NTLM":       {"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n", nil, []string{"407", "offers Negotiate, NTLM"}},
		"407 and a user": {"HTTP/1.1 407 Nope\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", url.UserPassword("svc", "hunter2"), []string{"does not take the user name and password"}},
		"403":            {"HTTP/1.1 403 Forbidden\r\n\r\n", nil, []string{"403", "allowed for CONNECT"}},
		"not HTTP":       {"SSH-2.0-OpenSSH_9.9\r\n", nil, []string{"is it an HTTP proxy?"}},
		"talks ahead":    {"HTTP/1.1 200 OK\r\n\r\nhello", nil, []string{"before it was asked"}},
		"hangs up":       {"", nil, []string{"pass through the proxy"}},
		"endless":        {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*answerLimit) + "\r\n\r\n", nil, []string{"pass through the proxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connectProxy(t, func(_ *http.Request, conn net.Conn) bool {
				_, _ = io.WriteString(conn, c.answer)
				return false
			})
			p.User = c.user
			err := tryTo(t, DialConfig{Relay: "https://127.0.0.1:1", Proxy: via(t, p)})
			for _, want := range append(c.want, "http://"+p.Host) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

func TestProxyFor(t *testing.T) {
	t.Parallel()
	env := func(*url.URL) (*url.URL, error) { return &url.URL{Scheme: "http", Host: "env:1"}, nil }
	for setting, want := range map[string]string{
		"": "http://env:1", "environment": "http://env:1", "none": "<nil>", "http://p:8080": "http://p:8080", "https://p": "https://p", "socks5://p": "socks5://p",
	} {
		p, err := ProxyFor(setting, env)
		if err != nil {
			t.Errorf("%q: %v", setting, err)
			continue
		}
		got := "<nil>"
		if p != nil {
			u, err := p(&url.URL{})
			if err != nil {
				t.Fatal(err)
			}
			got = u.String()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", setting, got, want)
		}
	}
	for _, setting := range []string{"p:8080", "ftp://p", "http://", "svc:hunter2@p:8080", "http://svc:hunter2@p:port"} {
		if _, err := ProxyFor(setting, env); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", setting, err)
		}
	}
	broken := func(*url.URL) (*url.URL, error) { return nil, errors.New("invalid proxy address svc:hunter2@p") }
	if err := tryTo(t, DialConfig{Relay: "https://127.0.0.1:1", Proxy: broken}); strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

// A relay that accepts and then says nothing ends the try; so does ctx.
func TestSilence(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := NewDialer(DialConfig{Relay: fmt.Sprintf("http://%s", l.Addr())})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	who, err := newFixed(t).Claim(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.dial(ctx, who, "sha256:x"); !errors.Is(err, context.Canceled) {
		t.Errorf("dial: %v, want context.Canceled", err)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\nb\x1b[31m\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got := printable(s, 20); strings.ContainsAny(got, "\n\r\x1b\x00") || len([]rune(got)) > 23 {
			t.Errorf("printable(%q) = %q", s, got)
		}
	})
}
