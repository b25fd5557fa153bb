package link

import (
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// TestHTTPClientGoesTheWayOfLinks: through the same proxy, trusting the same authorities, and in the clear only to this
// machine.
func TestHTTPClientGoesTheWayOfLinks(t *testing.T) {
	t.Parallel()
	target := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("here")) }))
	t.Cleanup(target.Close)
	var passed atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method != http.MethodConnect {
			t.Errorf("the proxy is asked to %s %s", q.Method, q.URL)
			return
		}
		passed.Add(1)
		out, err := net.Dial("tcp", q.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		w.WriteHeader(http.StatusOK)
		in, ahead, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer in.Close()
		go func() { _, _ = io.Copy(out, ahead) }() // ends when either side is closed
		_, _ = io.Copy(in, out)
	}))
	t.Cleanup(proxy.Close)
	through, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(target.Certificate())
	client := func(roots *x509.CertPool) *http.Client {
		d, err := NewDialer(DialConfig{
			Relay: "https://relay.example.com", Roots: roots, Proxy: func(*url.URL) (*url.URL, error) { return through, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		c := d.HTTPClient()
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	resp, err := client(roots).Get(target.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(body) != "here" || passed.Load() != 1 {
		t.Errorf("answered %q, %v, after %d passes of the proxy", body, err, passed.Load())
	}
	if _, err := client(x509.NewCertPool()).Get(target.URL); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an authority that is not trusted: %v", err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(plain.Close)
	if resp, err = client(roots).Get(plain.URL); err != nil {
		t.Errorf("plain http to this machine: %v", err)
	} else {
		_ = resp.Body.Close()
	}
	if passed.Load() != 2 {
		t.Errorf("%d passes of the proxy, want 2: plain http does not go through it", passed.Load())
	}
}
