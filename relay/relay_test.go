package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

// running starts a relay that publishes plant1/orders, also as orders.example.com, and stops it when the test ends.
func running(t *testing.T, config Config) (r *Relay, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	config.Listen = orElse(config.Listen, "127.0.0.1:0")
	if config.Data == "" {
		config.Data = t.TempDir()
	}
	config.AccessLog.To = filepath.Join(config.Data, "access.log")
	r, err := New(ctx, config, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	if r.connectors.ByPath("plant1", "orders") == nil {
		if _, err := r.gateways.AddGateway(ctx, "plant1", gateway.CodeUse{Life: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.connectors.Publish(ctx, connector.Connector{
			Gateway: "plant1", Name: "orders", Auth: []string{"none"}, Hosts: []string{"orders.example.com"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	return r, stop
}

func dial(t *testing.T, r *Relay) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn, bufio.NewReader(conn)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	r, _ := running(t, Config{})
	for _, c := range []struct {
		line, host string
		status     int
		says       string
	}{
		{"GET /_/healthz", "x", 200, "ok"},
		{"GET /_/readyz?x", "x", 200, "ready"},
		{"HEAD /_/readyz", "x", 200, ""},
		{"POST /_/healthz", "x", 404, "not-found"},
		{"GET /_/link", "x", 426, "agents link"},
		{"GET /_/other", "x", 404, "not-found"},
		{"GET /_/../plant1/orders", "x", 404, "not-found"},
		{"GET /plant1/orders", "x", 503, "no-agent"},
		{"GET /plant1/orders/../../x", "x", 503, "no-agent"}, // the connector's: not cleaned, not redirected
		{"GET //plant1/orders", "x", 404, "not-found"},
		{"GET /plant1%2forders/x", "x", 404, "not-found"},
		{"GET /plant1/ord%65rs/x", "x", 404, "not-found"},
		{"GET /plant1/other/x", "x", 404, "not-found"},
		{"GET /nowhere/orders/x", "x", 404, "not-found"},
		{"GET /", "x", 404, "not-found"},
		{"OPTIONS *", "x", 400, "bad-target"},
		{"CONNECT db.corp.example:443", "x", 405, "method-refused"},
		{"GET http://relay/plant1/orders/x", "other", 503, "no-agent"},
		{"GET http://user:pw@relay/plant1/orders/x", "relay", 400, "bad-target"},
		{"GET gopher://relay/plant1/orders/x", "relay", 400, "bad-target"},
		{"GET /", "orders.example.com", 503, "no-agent"},
		{"GET /_/healthz", "Orders.Example.COM.:8080", 404, "not-found"}, // nothing else is on a connector's own host
		{"GET /_/link", "orders.example.com", 404, "not-found"},
		{"GET http://orders.example.com/x", "relay", 503, "no-agent"},
		{"GET http://relay/x", "orders.example.com", 404, "not-found"},
	} {
		conn, br := dial(t, r)
		_, _ = fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Host: orders.example.com\r\n\r\n", c.line, c.host)
		resp, err := http.ReadResponse(br, &http.Request{Method: strings.Fields(c.line)[0]})
		if err != nil {
			t.Errorf("%s on %s: %v", c.line, c.host, err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.says) || resp.Header.Get("Location") != "" {
			t.Errorf("%s on %s: %d %s, want %d %s", c.line, c.host, resp.StatusCode, body, c.status, c.says)
		}
	}
}

// Calls under way when the relay is stopped may end; nobody new is admitted; everything is on disk afterwards.
func TestDrain(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	r, stop := running(t, Config{Data: data})
	conn, br := dial(t, r)
	_, _ = io.WriteString(conn, "PUT /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nContent-Length: 5\r\n\r\nab")
	waitFor(t, "the call is under way", func() bool { return r.proxy.Active() == 1 })
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	waitFor(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", r.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	_, _ = io.WriteString(conn, "cde")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || !bytes.Contains(body, []byte("no-agent")) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if line := read(filepath.Join(data, "access.log")); !strings.Contains(line, `"in":5`) {
		t.Errorf("the access log holds %q", line)
	}
	again, _ := running(t, Config{Data: data})
	if again.connectors.ByPath("plant1", "orders") == nil {
		t.Error("the connector is gone")
	}
}

// A caller that sends one request after the other over one connection is told that it closes before it is closed, and one that
// has just connected is answered too: no request ends with a connection.
func TestNoConnectionClosesUnderARequest(t *testing.T) {
	t.Parallel()
	r, stop := running(t, Config{})
	ask := func(conn net.Conn, br *bufio.Reader) (closes bool) {
		t.Helper()
		_, _ = io.WriteString(conn, "GET /plant1/orders/x HTTP/1.1\r\nHost: relay\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("a request got no answer: %v", err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Close
	}
	conn, br := dial(t, r)
	if ask(conn, br) {
		t.Fatal("the connection closes before the relay stops")
	}
	fresh, freshReader := dial(t, r)
	dial(t, r) // and one that says nothing
	waitFor(t, "all are taken", func() bool { return r.callers.Load() == 3 })
	began, stopped := time.Now(), make(chan error)
	go func() { stopped <- stop() }()
	waitFor(t, "the relay drains", r.draining.Load)
	time.Sleep(partingTime / 5) // the first one seems idle
	if !ask(conn, br) || !ask(fresh, freshReader) {
		t.Error("an answer does not say that its connection closes")
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the relay stopped after %s", took)
	}
}

// A caller far away, who has connected before the stop, and whose first request comes when others have long been told, is answered.
func TestAStopWaitsForWhoHasJustConnected(t *testing.T) {
	t.Parallel()
	r, stop := running(t, Config{})
	conn, br := dial(t, r)
	waitFor(t, "it is taken", func() bool { return r.callers.Load() == 1 })
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	waitFor(t, "the relay drains", r.draining.Load)
	time.Sleep(2 * partingTime)
	_, _ = io.WriteString(conn, "GET /plant1/orders/x HTTP/1.1\r\nHost: relay\r\n\r\n")
	if resp, err := http.ReadResponse(br, nil); err != nil || !resp.Close {
		t.Errorf("the first request was answered %v, %v", resp, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// What does not end in time is broken off: a caller that is stuck in its body is told why, and does not hold up the end.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	r, stop := running(t, Config{Timeouts: Timeouts{Drain: 100 * time.Millisecond}})
	conn, br := dial(t, r)
	_, _ = io.WriteString(conn, "PUT /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nContent-Length: 5\r\n\r\nab")
	waitFor(t, "the call is under way", func() bool { return r.proxy.Active() == 1 })
	began := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the relay ended after %s, its drain timeout is 100ms", took)
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("the caller was told nothing: %v", err)
	}
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || !bytes.Contains(b, []byte("relay-stopping")) || !bytes.Contains(b, []byte(`"executed":"no"`)) {
		t.Errorf("answered %d %s", resp.StatusCode, b)
	}
	if n := r.proxy.Active(); n != 0 {
		t.Errorf("%d calls are still under way", n)
	}
}

// A connection from before the change goes on with what it was made with.
func TestCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	writePair(t, files, "first")
	r, _ := running(t, Config{TLS: &files})
	name := func() string {
		conn, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "first" {
		t.Fatalf("the certificate is %s", got)
	}
	old, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()

	writePair(t, files, "second")
	waitFor(t, "the new certificate is in use", func() bool { return name() == "second" })
	_, _ = io.WriteString(old, "GET /_/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(old), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("the connection from before: %v %v", resp, err)
	}
}

// refresh keeps the old pair until a whole new one is there.
func TestBrokenCertificateIsNotUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	if _, err := loadCertificate(files, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a relay starts without its certificate")
	}
	writePair(t, files, "first")
	var said bytes.Buffer
	c, err := loadCertificate(files, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	name := func() string { return c.current.Load().Leaf.Subject.CommonName }
	for _, step := range []struct {
		what    string
		breakIt func() error
	}{
		{"broken", func() error { return os.WriteFile(files.Cert, []byte("broken"), 0o600) }},
		{"missing", func() error { return os.Remove(files.Key) }},
	} {
		said.Reset()
		if err := step.breakIt(); err != nil {
			t.Fatal(err)
		}
		c.refresh()
		c.refresh() // says it once
		if got := name(); got != "first" || strings.Count(said.String(), "old") != 1 {
			t.Errorf("%s: the certificate is %s, and the log says %q", step.what, got, &said)
		}
	}
	writePair(t, files, "second")
	c.refresh()
	if got := name(); got != "second" {
		t.Errorf("the certificate is %s", got)
	}
}

func writePair(t *testing.T, files TLS, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		files.Cert: {Type: "CERTIFICATE", Bytes: cert}, files.Key: {Type: "PRIVATE KEY", Bytes: raw},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTooManyConnectionsAreClosedAtOnce(t *testing.T) {
	t.Parallel()
	r, _ := running(t, Config{Limits: Limits{Connections: 1}})
	first, br := dial(t, r)
	_, _ = io.WriteString(first, "GET /_/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	_, second := dial(t, r)
	if b, err := second.ReadByte(); err == nil {
		t.Errorf("the second connection was served %q", b)
	}
	_ = first.Close()
	waitFor(t, "the place is free again", func() bool {
		conn, br := dial(t, r)
		_, _ = io.WriteString(conn, "GET /_/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		_, err := http.ReadResponse(br, nil)
		return err == nil
	})
}

// TestEventsAreKeptUnlessUnwanted: 'sallyport-relay log' reads them.
func TestEventsAreKeptUnlessUnwanted(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]int{"": 1, "off": 0, "on": 1} {
		data := t.TempDir()
		r, stop := running(t, Config{Data: data, AccessLog: AccessLog{Store: setting}})
		conn, br := dial(t, r)
		_, _ = io.WriteString(conn, "GET /plant1/orders/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 503 {
			t.Fatal(resp, err)
		}
		if err := stop(); err != nil { // it writes what is queued
			t.Fatal(err)
		}
		st, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(data, "store"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		events := 0
		err = st.Read(t.Context(), store.Calls, time.Time{}, false, func([]byte) error { events++; return nil })
		if err != nil || events != want {
			t.Errorf("store %q: %d events, %v; want %d", setting, events, err, want)
		}
		if err := st.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestNewLeavesNothingOpenWhenItFails(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	ctx := context.Background()
	taken := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := Config{Listen: "127.0.0.1:0", Data: data, Socket: taken}
	if _, err := New(ctx, bad, "test", slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("started without its admin socket")
	}
	running(t, Config{Data: data}) // the store was closed, or this would find it in use
}
