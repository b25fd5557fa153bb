package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTLS: verification is by the roots and the name, or by the pinned key, and cannot be lost.
func TestTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	srv.StartTLS()
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	pin := Pin(srv.Certificate())
	other := "sha256/" + strings.Repeat("A", 43) + "="
	for _, tc := range []struct {
		name string
		tls  TLS
		ok   bool
	}{
		{"roots", TLS{Roots: roots}, true},
		{"name", TLS{Roots: roots, ServerName: "example.com"}, true},
		{"pin", TLS{Pin: pin}, true},
		{"pin, any name", TLS{Pin: pin, ServerName: "erp"}, true},
		{"unknown root", TLS{Roots: x509.NewCertPool()}, false},
		{"other name", TLS{Roots: roots, ServerName: "other.test"}, false},
		{"other key", TLS{Pin: other}, false},
		{"other key, known root", TLS{Pin: other, Roots: roots}, false},
		{"version", TLS{Roots: roots, MinVersion: tls.VersionTLS13}, false},
	} {
		tr := newTransport(t, Config{URL: u, TLS: tc.tls})
		for range 2 { // the second time on the same connection
			_, _, err := ask(t, tr, "GET", "")
			if tc.ok && err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			if e, is := errors.AsType[*Error](err); !tc.ok && (!is || e.Kind != TLSFailed || !e.NotRun) {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
		if want := map[bool]int{true: 1}[tc.ok]; len(tr.pool.idle) != want {
			t.Errorf("%s: %d idle connections, want %d", tc.name, len(tr.pool.idle), want)
		}
	}
}

// TestConfigFaults: every fault is reported at once.
func TestConfigFaults(t *testing.T) {
	t.Parallel()
	u, _ := url.Parse("ftp://user@host/?q")
	_, err := New(Config{Name: "orders", URL: u, Auth: Auth{Kind: "magic"}, TLS: TLS{Pin: "sha256/short"}})
	for _, want := range []string{"orders", "ftp", "magic", "pin"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not speak of %q", err, want)
		}
	}
	ok := &url.URL{Scheme: "http", Host: "h"}
	for _, a := range []Auth{
		{Kind: WindowsAuth}, {Kind: BasicAuth}, {Kind: HeaderAuth, Header: "Host"}, {Kind: HeaderAuth, Header: "a b"}, {Kind: HeaderAuth, Header: "X-Key"},
	} {
		if _, err := New(Config{URL: ok, Auth: a}); err == nil {
			t.Errorf("%+v is taken", a)
		}
	}
}

// TestPoolAges: idle connections end after a while without traffic, and every one by its age.
func TestPoolAges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, time.Second)
		key, other := poolKey{identity: "alice"}, poolKey{identity: "bob"}
		fresh := func(k poolKey) *conn {
			nc := &sink{}
			return newConn(nc, nc, k)
		}
		p.put(fresh(key))
		if p.take(other) != nil {
			t.Error("bob got alice's connection")
		}
		c := p.take(key)
		if c == nil {
			t.Fatal("alice did not get her own")
		}
		p.put(c)
		time.Sleep(maxConnIdle + 2*time.Second)
		synctest.Wait()
		if len(p.idle) != 0 || !c.nc.(*sink).closed.Load() {
			t.Error("an idle connection was kept")
		}
		old := fresh(key)
		time.Sleep(maxConnAge + time.Second)
		p.put(old)
		if len(p.idle) != 0 || !old.nc.(*sink).closed.Load() {
			t.Error("an old connection was kept")
		}
		first := fresh(key)
		p.put(first)
		p.put(fresh(other))
		p.put(fresh(other))
		if len(p.idle) != 2 || !first.nc.(*sink).closed.Load() {
			t.Error("the pool grows, or did not end the one idle longest")
		}
		p.close()
		if len(p.idle) != 0 {
			t.Error("a closed pool holds connections")
		}
	})
}
