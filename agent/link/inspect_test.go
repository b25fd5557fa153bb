package link

import (
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// What answers in a proxy's place is named.
func TestWhatAnswersInAProxysPlace(t *testing.T) {
	t.Parallel()
	page := "Content-Type: text/html\r\nContent-Length: 44\r\n\r\n<html><title>Guest  network</title>hello</html>"
	for name, c := range map[string]struct {
		answer string
		want   []string
	}{
		"a page, 200":          {"HTTP/1.1 200 OK\r\n" + page, []string{"web page", "captive portal"}},
		"a redirect":           {"HTTP/1.1 302 Found\r\nLocation: http://login.guest.example/?back=secret\r\n\r\n", []string{"302", "http://login.guest.example", "captive portal"}},
		"511":                  {"HTTP/1.1 511 Network Authentication Required\r\n" + page, []string{"511", "Guest network", "captive portal"}},
		"cannot reach it, 502": {"HTTP/1.1 502 Bad Gateway\r\n\r\n", []string{"502", "does not reach it"}},
		"forbidden, a page":    {"HTTP/1.1 403 Forbidden\r\n" + page, []string{"403", "Guest network", "allowed for CONNECT"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connectProxy(t, func(_ *http.Request, conn net.Conn) bool {
				_, _ = io.WriteString(conn, c.answer)
				return false
			})
			err := tryTo(t, DialConfig{Relay: "https://127.0.0.1:1", Proxy: via(t, p)})
			for _, want := range append(c.want, "http://"+p.Host) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("a query is in %v", err)
			}
		})
	}
}

// TestAnInspectorThatHoldsBack: TLS ends at a certificate of the company's, the WebSocket opens, and then nothing comes.
func TestAnInspectorThatHoldsBack(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		_, _ = io.WriteString(in, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: sallyport.v1\r\n"+
			"Sec-WebSocket-Accept: "+accept(q.Header.Get("Sec-WebSocket-Key"))+"\r\n\r\n")
		_, _ = io.Copy(io.Discard, in)
	}))
	t.Cleanup(s.Close)
	roots, err := Roots(pemOf(s.Certificate().Raw))
	if err != nil {
		t.Fatal(err)
	}
	log, out := textLog()
	err = tryTo(t, DialConfig{Relay: s.URL, Roots: roots, Log: log})
	for _, want := range []string{"holds back", "Acme Co", "greet the relay"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if !strings.Contains(out.String(), "only 'ca' vouches") || !strings.Contains(out.String(), "Acme Co") {
		t.Errorf("log:\n%s", out)
	}
}

// TestAnotherIssuer: an authority that takes another one's place is told of once.
func TestAnotherIssuer(t *testing.T) {
	t.Parallel()
	log, out := textLog()
	d := &Dialer{relay: &url.URL{Host: "relay.example.com"}, log: log}
	by := func(name string) tls.ConnectionState {
		return tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Issuer: pkix.Name{CommonName: name}}}}
	}
	first, second := by("Public CA"), by("Corp Inspection CA")
	for _, s := range []tls.ConnectionState{first, first, second, second} {
		d.witness(s)
	}
	if n := strings.Count(out.String(), "another authority than before"); n != 1 || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("log:\n%s", out)
	}
}

func TestCutsByAge(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		lives []time.Duration
		want  time.Duration
	}{
		"one alone":          {[]time.Duration{time.Minute}, 0},
		"two alike":          {[]time.Duration{60 * time.Second, 61 * time.Second}, 60 * time.Second},
		"two that differ":    {[]time.Duration{60 * time.Second, 90 * time.Second}, 0},
		"too short":          {[]time.Duration{time.Second, time.Second}, 0},
		"hours":              {[]time.Duration{time.Hour, 61 * time.Minute}, time.Hour},
		"another in between": {[]time.Duration{60 * time.Second, 5 * time.Second, 60 * time.Second}, 0},
	} {
		var k cut
		for _, l := range c.lives {
			k.lost(l, now)
		}
		if k.age != c.want {
			t.Errorf("%s: %s, want %s", name, k.age, c.want)
		}
		want := 12 * time.Hour
		if c.want > 0 {
			want = c.want * 3 / 4
		}
		if got := k.within(12*time.Hour, now); got != want {
			t.Errorf("%s: replaced after %s, want %s", name, got, want)
		}
		if got := k.within(12*time.Hour, now.Add(cutKept+time.Second)); got != 12*time.Hour {
			t.Errorf("%s: believed in for ever: %s", name, got)
		}
	}
}

// accept is the answer to a WebSocket's key (RFC 6455 section 4.2.2).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
