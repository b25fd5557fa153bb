package syslog_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/syslog"
)

// A collector takes messages over TLS on loopback.
type collector struct {
	t        *testing.T
	pool     *x509.CertPool
	config   *tls.Config
	messages chan string
	conns    chan net.Conn
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "collector"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, pool: x509.NewCertPool(), messages: make(chan string, 10_000), conns: make(chan net.Conn, 100)}
	c.pool.AddCert(cert)
	c.config = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return c
}

// listen takes messages until the listener is closed.
func (c *collector) listen(addr string) net.Listener {
	c.t.Helper()
	l, err := tls.Listen("tcp", addr, c.config)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.take(conn) // ends with the connection
			c.conns <- conn
		}
	}()
	return l
}

// take reads messages by their lengths (RFC 5425 section 4.3).
func (c *collector) take(conn net.Conn) {
	defer conn.Close()
	br := bufio.NewReader(conn)
	for {
		length, err := br.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil {
			c.t.Errorf("a length of %q", length)
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(br, message); err != nil {
			return
		}
		c.messages <- string(message)
	}
}

func (c *collector) next() string {
	c.t.Helper()
	select {
	case m := <-c.messages:
		return m
	case <-time.After(30 * time.Second):
		c.t.Fatal("no message came")
		return ""
	}
}

// running runs a forwarder until stop.
func running(t *testing.T, c syslog.Config) (f *syslog.Forwarder, stop func()) {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	c.App = "sallyport-relay"
	f = syslog.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return f, stop
}

func TestMessagesAreRFC5424(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	l := c.listen("127.0.0.1:0")
	f, stop := running(t, syslog.Config{To: l.Addr().String(), TLS: &tls.Config{RootCAs: c.pool}, Host: "relay 1.example\n"})
	f.Send(syslog.Calls(), []byte(`{"status":200}`))
	f.Send(syslog.Changes(), []byte(`{"event":"gateway added"}`))
	head := `1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z relay1\.example sallyport-relay ` + fmt.Sprint(os.Getpid())
	for _, want := range []string{`^<134>` + head + ` access - \{"status":200\}$`, `^<109>` + head + ` admin - \{"event":"gateway added"\}$`} {
		if got := c.next(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	// A message counts as queued until its write has returned, which the collector may well be ahead of.
	for end := time.Now().Add(20 * time.Second); f.Status().Queued != 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if s := f.Status(); !s.Connected || s.Queued != 0 || s.Dropped != 0 {
		t.Errorf("status %+v", s)
	}
	for i := range 5000 { // the rest goes out when the program stops
		f.Send(syslog.Calls(), fmt.Append(nil, i))
	}
	stop()
	for i := range 5000 {
		if got := c.next(); !strings.HasSuffix(got, fmt.Sprint(" - ", i)) {
			t.Fatalf("message %d is %s", i, got)
		}
	}
}

// TestCollectorThatGoesAndComesBack: what is sent meanwhile waits for it.
func TestCollectorThatGoesAndComesBack(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	l := c.listen("127.0.0.1:0")
	addr := l.Addr().String()
	f, stop := running(t, syslog.Config{To: addr, TLS: &tls.Config{RootCAs: c.pool}})
	defer stop()
	f.Send(syslog.Calls(), []byte("first"))
	if got := c.next(); !strings.HasSuffix(got, " - first") {
		t.Fatal(got)
	}
	_ = l.Close()
	_ = (<-c.conns).Close()
	for end := time.Now().Add(20 * time.Second); f.Status().Connected; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the end of the connection was not noticed")
		}
	}
	for i := range 100 {
		f.Send(syslog.Calls(), fmt.Append(nil, i))
	}
	c.listen(addr)
	for i := range 100 {
		if got := c.next(); !strings.HasSuffix(got, fmt.Sprint(" - ", i)) {
			t.Fatalf("message %d is %s", i, got)
		}
	}
}

// TestQueueIsBounded: without a collector nothing waits, and nothing grows without end.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	f, stop := running(t, syslog.Config{To: "127.0.0.1:1", TLS: &tls.Config{}})
	text := make([]byte, 10_000)
	sent := 0
	for f.Send(syslog.Calls(), text) {
		sent++
	}
	s := f.Status()
	if sent < 700 || sent > 900 || s.Queued > 8<<20 || s.Dropped != 1 || s.Connected {
		t.Errorf("%d messages were taken: %+v", sent, s)
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %s", took)
	}
}

// TestStrangersGetNothing: a collector that nobody vouches for.
func TestStrangersGetNothing(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	l := c.listen("127.0.0.1:0")
	f, stop := running(t, syslog.Config{To: l.Addr().String(), TLS: &tls.Config{RootCAs: newCollector(t).pool}})
	f.Send(syslog.Calls(), []byte("for you alone"))
	select {
	case m := <-c.messages:
		t.Errorf("a stranger got %s", m)
	case <-time.After(time.Second):
	}
	if s := f.Status(); s.Connected || s.Queued == 0 {
		t.Errorf("status %+v", s)
	}
	stop()
}
