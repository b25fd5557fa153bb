package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A testAuthority is Pebble, Let's Encrypt's own test authority, with the name server that it asks.
type testAuthority struct {
	t         *testing.T
	dir       string
	directory string // the URL of its ACME directory
	ca        string // the file that its own HTTPS is trusted by
	manage    string // the URL of its management
	names     string // the URL of the name server's management
}

// freePort is a port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// pebble gives the path of one of Pebble's programs, which the Go toolchain builds and keeps.
func pebble(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "tool", "-modfile=../tools.mod", "-n", name).Output()
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// newAuthority starts an authority that looks for http-01 and tls-alpn-01 at these ports of 127.0.0.1.
func newAuthority(t *testing.T, httpPort, tlsPort int) *testAuthority {
	t.Helper()
	a := &testAuthority{t: t, dir: t.TempDir()}
	files := TLS{Cert: filepath.Join(a.dir, "cert.pem"), Key: filepath.Join(a.dir, "key.pem")}
	writePair(t, files, "127.0.0.1")
	a.ca = files.Cert
	listen, manage := freePort(t), freePort(t)
	a.directory, a.manage = fmt.Sprintf("https://127.0.0.1:%d/dir", listen), fmt.Sprintf("https://127.0.0.1:%d", manage)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", listen), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", manage),
		"certificate": files.Cert, "privateKey": files.Key, "httpPort": httpPort, "tlsPort": tlsPort,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "pebble.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	dns, names := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	a.names = "http://" + names
	a.start(pebble(t, "pebble-challtestsrv"), "-dnsserver", dns, "-management", names, "-defaultIPv6", "", "-http01", "",
		"-https01", "", "-tlsalpn01", "", "-doh", "")
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", dns)
	}}
	waitFor(t, "the name server answers", func() bool {
		_, err := resolver.LookupHost(t.Context(), "relay.example.com")
		return err == nil
	})
	a.start(pebble(t, "pebble"), "-config", filepath.Join(a.dir, "pebble.json"), "-dnsserver", dns)
	waitFor(t, "the authority answers", func() bool { return a.root() != nil })
	return a
}

func (a *testAuthority) start(program string, args ...string) {
	a.t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if a.t.Failed() {
			a.t.Logf("%s said:\n%s", filepath.Base(program), &said)
		}
	})
}

// root is the authority's root certificate, nil while it does not answer.
func (a *testAuthority) root() *x509.CertPool {
	own := x509.NewCertPool()
	if pem, err := os.ReadFile(a.ca); err != nil || !own.AppendCertsFromPEM(pem) {
		a.t.Fatal("no certificate in", a.ca, err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: own}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(a.manage + "/roots/0")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	pem, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		return nil
	}
	return pool
}

// TestCertificateByACME: a relay gets its certificates from a real authority by each challenge, keeps them, and serves
// them after a restart without asking again.
func TestCertificateByACME(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"tls-alpn-01", "http-01", "dns-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			// certmagic knows the challenges of a process by their names alone, whichever relay they are of.
			first, second := "relay."+challenge+".example.com", "admin."+challenge+".example.com"
			httpPort, port := freePort(t), freePort(t)
			a := newAuthority(t, httpPort, port)
			settings := &ACME{
				AgreeTerms: true, Directory: a.directory, CA: a.ca, Challenge: challenge, Email: "it@example.com",
				ListenHTTP: fmt.Sprintf("127.0.0.1:%d", httpPort), Hosts: []string{first, second},
			}
			if challenge == "dns-01" {
				settings.Hook = a.hook()
			}
			config := Config{
				Listen: fmt.Sprintf("127.0.0.1:%d", port), PublicURL: "https://" + first, Data: t.TempDir(), TLS: &TLS{ACME: settings},
			}
			r, stop := running(t, config)
			serial := a.served(r, first)
			if other := a.served(r, second); other == serial {
				t.Error("both names have one certificate")
			}
			a.noStranger(r)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			checkPrivate(t, filepath.Join(config.Data, "certificates"))
			r, _ = running(t, config)
			if again := a.served(r, first); again != serial {
				t.Error("after a restart there is another certificate")
			}
		})
	}
}

// hook writes a program that changes the zone of the authority's name server.
func (a *testAuthority) hook() string {
	path := filepath.Join(a.dir, "hook")
	script := fmt.Sprintf(`#!/bin/sh
case $1 in
present) exec curl -fsS -d '{"host":"'$2'.","value":"'$3'"}' %[1]s/set-txt ;;
cleanup) exec curl -fsS -d '{"host":"'$2'."}' %[1]s/clear-txt ;;
esac
exit 1
`, a.names)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// served waits until the relay has a certificate of the authority for name, calls it, and gives the certificate's number.
func (a *testAuthority) served(r *Relay, name string) string {
	a.t.Helper()
	roots, serial := a.root(), ""
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}
	waitFor(a.t, "the relay serves "+name, func() bool {
		resp, err := (&http.Client{Transport: transport}).Get("https://" + r.Addr().String() + "/_/healthz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		serial = resp.TLS.PeerCertificates[0].SerialNumber.String()
		return resp.StatusCode == http.StatusOK && resp.ProtoMajor == 2
	})
	return serial
}

// noStranger: names that the relay has no certificate for get none.
func (a *testAuthority) noStranger(r *Relay) {
	a.t.Helper()
	conn, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{ServerName: "other.example.com", InsecureSkipVerify: true})
	if err == nil {
		_ = conn.Close()
		a.t.Error("a name that is not the relay's gets", conn.ConnectionState().PeerCertificates[0].DNSNames)
	}
}

// checkPrivate fails if others than the owner can read a file below dir.
func checkPrivate(t *testing.T, dir string) {
	t.Helper()
	keys := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		if strings.HasSuffix(path, ".key") {
			keys++
		}
		return err
	})
	if err != nil || keys < 2 {
		t.Errorf("%d keys are kept: %v", keys, err)
	}
}

// TestAuthorityOutOfReach: the relay starts all the same, and says what is wrong.
func TestAuthorityOutOfReach(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	ctx, cancel := context.WithCancel(context.Background())
	r, err := New(ctx, Config{
		Listen: "127.0.0.1:0", PublicURL: "https://relay.example.com", Data: t.TempDir(),
		TLS: &TLS{ACME: &ACME{AgreeTerms: true, Directory: fmt.Sprintf("https://127.0.0.1:%d/dir", freePort(t))}},
	}, "test", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	waitFor(t, "the log says so", func() bool { return strings.Contains(log.String(), "no certificate could be had") })
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the relay does not stop")
	}
}

// A syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestLoadTellsWhatACMELacks: each mistake is named where it stands.
func TestLoadTellsWhatACMELacks(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{}": "relay.yaml:2:6: tls needs cert and key, or acme",
		"{cert: a, key: b, acme: {agree_terms: true}}": "both files and acme",
		"{acme: {}}": "agree_terms: true",
		"{acme: {agree_terms: true, hosts: [10.0.0.1]}}":               `"10.0.0.1"`,
		"{acme: {agree_terms: true, hosts: [relay.corp.local]}}":       `"relay.corp.local"`,
		"{acme: {agree_terms: true, hosts: [a.example, a.example]}}":   "twice",
		"{acme: {agree_terms: true, challenge: dns-01}}":               "hook and challenge",
		"{acme: {agree_terms: true, hook: /bin/true}}":                 "hook and challenge",
		"{acme: {agree_terms: true, directory: \"http://ca.corp/d\"}}": "no URL of an ACME directory",
		"{acme: {agree_terms: true, account: x}}":                      "account_key_file",
		"{acme: {agree_terms: true, listen_http: nonsense}}":           `"nonsense"`,
	} {
		_, err := Load("relay.yaml", []byte("public_url: https://relay.example.com\ntls: "+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("tls: %s\ngives %v\nwant %s", text, err, want)
		}
	}
	// An authority of one's own gives certificates for names that no public one does.
	own := `tls: {acme: {agree_terms: true, directory: "https://ca.corp.local/dir", hosts: [relay.corp.local, relay]}}`
	if _, err := Load("relay.yaml", []byte("public_url: https://relay.corp.local\n"+own+"\n")); err != nil {
		t.Error(err)
	}
}
