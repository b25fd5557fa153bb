package relay

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/relay/admin"
)

// TestEventsReachTheCollector: calls and what admins did, the wanted ones alone.
func TestEventsReachTheCollector(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ events, want []string }{
		{nil, []string{`"event":"gateway added"`, `"path":"/plant1/none"`}},
		{[]string{"access"}, []string{`"path":"/plant1/none"`}},
		{[]string{"admin"}, []string{`"event":"gateway added"`}},
	} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 1)
		go func() { // ends with the relay's connection
			conn, err := l.Accept()
			if err != nil {
				got <- err.Error()
				return
			}
			text, _ := io.ReadAll(bufio.NewReader(conn))
			got <- string(text)
		}()
		r, stop := running(t, Config{Syslog: &Syslog{To: l.Addr().String(), CA: ca, Events: c.events}})
		client := admin.NewClient(r.config.socket())
		if _, err := client.AddGateway(t.Context(), "plant2", admin.NewJoin{}); err != nil {
			t.Fatal(err)
		}
		conn, br := dial(t, r)
		_, _ = io.WriteString(conn, "GET /plant1/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		_, _ = io.Copy(io.Discard, br)
		waitFor(t, "the collector is connected", func() bool {
			s, err := client.Status(t.Context())
			return err == nil && s.Syslog != nil && s.Syslog.Connected
		})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		text := <-got
		_ = l.Close()
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("of %v the collector lacks %s: %q", c.events, want, text)
			}
		}
		if n := strings.Count(text, "sallyport-relay "+fmt.Sprint(os.Getpid())); n != len(c.want) {
			t.Errorf("of %v the collector got %d messages: %q", c.events, n, text)
		}
	}
}
