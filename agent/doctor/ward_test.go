package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/agent"
	"sallyport/agent/identity"
	"sallyport/agent/secret"
	"sallyport/agent/state"
	"sallyport/tunnel"
)

// An authority issues certificates for 127.0.0.1.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Ward Test Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	return &authority{t, cert, key, file}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// serve answers https with a certificate that lives for so long from now; a negative time has gone by.
func (a *authority) serve(h http.Handler, life time.Duration) *httptest.Server {
	a.t.Helper()
	key := newKey(a.t)
	form := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ward"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2000 * time.Hour), NotAfter: time.Now().Add(life),
	}
	der, err := x509.CreateCertificate(rand.Reader, form, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

const longLife = 900 * time.Hour

// relay is what a relay answers to agents before it knows them.
func relay() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc(tunnel.Path, func(w http.ResponseWriter, q *http.Request) {
		if ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil); err == nil {
			_, _, _ = ws.ReadMessage() // until the doctor has seen enough
			_ = ws.Close()
		}
	})
	return mux
}

// A ward is an installation with its files.
type ward struct {
	t          *testing.T
	dir, state string
	config     string
	options    Options
	limit      time.Duration // of an examination
}

// newWard writes agent.yaml: the relay, and what else stands there.
func newWard(t *testing.T, relay string, more ...string) *ward {
	t.Helper()
	dir := t.TempDir()
	w := &ward{t: t, dir: dir, state: filepath.Join(dir, "state"), config: filepath.Join(dir, "agent.yaml"), limit: 50 * time.Second}
	write(t, w.config, "relay: "+relay+"\ngateway: plant1\n"+strings.Join(more, "\n")+"\n", 0o644)
	w.options = Options{
		Config: w.config, State: func(*agent.Config) string { return w.state },
		Secrets: func(d state.Dir) (*secret.Store, error) { return secret.Open(d, "") },
	}
	return w
}

// join gives the ward an identity, as 'join' does.
func (w *ward) join(relay string) state.Dir {
	w.t.Helper()
	dir, err := state.Open(w.state)
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := identity.New(relay, "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "plant1")
	if err != nil {
		w.t.Fatal(err)
	}
	id.Agent, id.Joined = "a1", true
	if err := id.Save(dir); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// examine gives the findings by ID.
func (w *ward) examine() map[string]Finding {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), w.limit)
	defer cancel()
	list, err := Examine(ctx, w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]Finding{}
	for _, f := range list {
		if f.Tried == "" || f.Found == "" || f.Status == "" {
			w.t.Errorf("a finding that says nothing: %+v", f)
		}
		if bad := f.Status == Warn || f.Status == Fail; bad != (f.Do != "") {
			w.t.Errorf("%s is %s, and what to do is %q", f.ID, f.Status, f.Do)
		}
		if strings.ContainsFunc(f.Tried+f.Found+f.Do, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			w.t.Errorf("%s has control characters: %q", f.ID, f.Found)
		}
		out[f.ID] = f
	}
	return out
}

// want checks one finding: its status, and that its texts have all of the words.
func want(t *testing.T, got map[string]Finding, id string, s Status, words ...string) {
	t.Helper()
	f, ok := got[id]
	if !ok || f.Status != s {
		t.Errorf("%s is %+v, want %s", id, f, s)
		return
	}
	for _, word := range words {
		if !strings.Contains(f.Tried+"\n"+f.Found+"\n"+f.Do, word) {
			t.Errorf("%s does not say %q: %+v", id, word, f)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// api is one API of agent.yaml.
func api(url, auth string, more ...string) string {
	text := "apis:\n  - name: orders\n    url: " + url + "\n    auth: " + auth + "\n    allow: [GET /health]\n"
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return text
}
