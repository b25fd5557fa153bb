package entra

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/agent/link"
	"sallyport/agent/secret"
)

const (
	tenant = "aaaaaaaa-0000-4000-8000-000000000001"
	client = "bbbbbbbb-0000-4000-8000-000000000001"
	scope  = "api://sallyport/.default"
	hidden = "s3cret-of-the-application"
)

// An authority has the shapes of Entra's sign-on: discovery and the token endpoint.
type authority struct {
	*httptest.Server
	t        *testing.T
	life     int // of tokens, seconds
	given    atomic.Int32
	down     atomic.Bool
	public   crypto.PublicKey // of the application's certificate
	federate string           // the token of the workload
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, life: 3600}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":"%[1]s/%[2]s/v2.0","token_endpoint":"%[1]s/%[2]s/oauth2/v2.0/token","authorization_endpoint":"%[1]s/%[2]s/oauth2/v2.0/authorize"}`,
			a.URL, q.PathValue("tenant"))
	})
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", a.token)
	a.Server = httptest.NewTLSServer(mux)
	t.Cleanup(a.Close)
	return a
}

func (a *authority) token(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := a.proves(q); err != nil || a.down.Load() {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":"invalid_client","error_description":"AADSTS7000215: %v; sent %s"}`, err, q.PostFormValue("client_secret"))
		return
	}
	fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":%d,"access_token":"token-%d"}`, a.life, a.given.Add(1))
}

// proves says why a request for a token is not the application's.
func (a *authority) proves(q *http.Request) error {
	form := func(name string) string { return q.PostFormValue(name) }
	switch {
	case q.PathValue("tenant") != tenant || form("client_id") != client || form("grant_type") != "client_credentials":
		return fmt.Errorf("another application: %v", q.PathValue("tenant"))
	case !strings.Contains(form("scope"), scope):
		return fmt.Errorf("another scope: %s", form("scope"))
	case form("client_secret") != "":
		if form("client_secret") != hidden {
			return fmt.Errorf("another secret")
		}
		return nil
	case form("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
		return fmt.Errorf("no proof at all")
	case a.federate != "":
		if form("client_assertion") != a.federate {
			return fmt.Errorf("another federated token")
		}
		return nil
	}
	return a.signed(form("client_assertion"))
}

// signed verifies a certificate's assertion.
func (a *authority) signed(assertion string) error {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return fmt.Errorf("no assertion")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	key := a.public.(*rsa.PublicKey)
	if rsa.VerifyPSS(key, crypto.SHA256, sum[:], sig, nil) != nil && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) != nil {
		return fmt.Errorf("the assertion is not signed by the certificate's key")
	}
	return nil
}

// config is an identity that reaches the authority as the agent reaches its relay.
func (a *authority) config() Config {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	d, err := link.NewDialer(link.DialConfig{Relay: "https://relay.example.com", Roots: roots})
	if err != nil {
		a.t.Fatal(err)
	}
	return Config{
		Tenant: tenant, Client: client, Scope: scope, Authority: a.URL, Gateway: "plant1", HTTP: d.HTTPClient(),
		Log: slog.New(slog.NewTextHandler(a.t.Output(), nil)),
	}
}

// claim gets a token.
func claim(t *testing.T, c Config) string {
	t.Helper()
	i, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	who, err := i.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if who.Claim.Gateway != "plant1" || who.Key == nil {
		t.Errorf("claim %+v", who.Claim)
	}
	return who.Token
}

func TestClientSecret(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	c := a.config()
	c.Credential, c.Secret = ClientSecret, secret.New(hidden)
	if got := claim(t, c); got != "token-1" {
		t.Errorf("token %q", got)
	}
	c.Secret = secret.New("another-and-wrong-one")
	i, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = i.Claim(t.Context()); err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Errorf("a wrong secret: %v", err)
	}
	for what, text := range map[string]string{
		"the error": err.Error(), "%v": fmt.Sprintf("%v %+v %#v", i, i, i), "the log": i.LogValue().String(),
	} {
		if strings.Contains(text, "another-and-wrong-one") {
			t.Errorf("%s holds the secret: %s", what, text)
		}
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "agent"}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.public = key.Public()
	c := a.config()
	c.Credential = Certificate
	c.Certificate = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if got := claim(t, c); got != "token-1" {
		t.Errorf("token %q", got)
	}
	c.Certificate = []byte("no certificate")
	if _, err := New(c); err == nil {
		t.Error("a file without a certificate was taken")
	}
}

// The credentials below are found by azidentity's own environment variables, so these tests do not run beside others.

func TestWorkload(t *testing.T) {
	a := newAuthority(t)
	a.federate = "a.federated.token"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(a.federate), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	c := a.config()
	c.Credential = Workload
	if got := claim(t, c); got != "token-1" {
		t.Errorf("token %q", got)
	}
}

func TestEnvironment(t *testing.T) {
	a := newAuthority(t)
	t.Setenv("AZURE_TENANT_ID", tenant)
	t.Setenv("AZURE_CLIENT_ID", client)
	t.Setenv("AZURE_CLIENT_SECRET", hidden)
	c := a.config()
	c.Credential, c.Tenant, c.Client = Environment, "", ""
	if got := claim(t, c); got != "token-1" {
		t.Errorf("token %q", got)
	}
}

// metadata is what answers managed identities, on plain http.
func metadata(t *testing.T, path, resource string) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != path || q.Header.Get("Metadata") != "true" || q.FormValue("resource") != resource {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{
			"access_token": "managed", "expires_in": "3600", "expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix()),
			"resource": resource, "token_type": "Bearer",
		})
	}))
	t.Cleanup(srv.Close)
	return srv
}

// TestManagedIdentity: azidentity asks at a fixed link-local address, which the test leads to loopback.
func TestManagedIdentity(t *testing.T) {
	imds := metadata(t, "/metadata/identity/oauth2/token", "api://sallyport")
	for _, name := range []string{"IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT"} { // another platform's
		t.Setenv(name, "")
	}
	c := newAuthority(t).config()
	asked := ""
	c.HTTP = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		asked = address
		return new(net.Dialer).DialContext(ctx, network, imds.Listener.Addr().String())
	}}}
	c.Credential, c.Tenant, c.Client = ManagedIdentity, "", ""
	if got := claim(t, c); got != "managed" || asked != "169.254.169.254:80" {
		t.Errorf("token %q, asked at %s", got, asked)
	}
}

// TestRenewal: a token is renewed before it ends, links hear of it, and an outage lets the present one serve to its end.
func TestRenewal(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.life = 6
	c := a.config()
	var log bytes.Buffer
	c.Credential, c.Secret, c.Log = ClientSecret, secret.New(hidden), slog.New(slog.NewTextHandler(&log, nil))
	i, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	first, err := i.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := i.Claim(t.Context()); err != nil || again.Token != first.Token {
		t.Errorf("a token that need not be renewed was: %v", err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	began := time.Now()
	i.Run(ctx, stop)
	next, err := i.Claim(t.Context())
	if err != nil || next.Token == first.Token || time.Since(began) > 6*time.Second {
		t.Errorf("after %s: the token is %q, %v", time.Since(began), next.Token, err)
	}
	a.down.Store(true)
	i.mu.Lock()
	i.got = i.got.Add(-time.Hour) // it is due
	until := i.token.ExpiresOn
	i.mu.Unlock()
	if still, err := i.Claim(t.Context()); err != nil || still.Token != next.Token {
		t.Errorf("in an outage: %v", err)
	}
	if _, err := i.fresh(t.Context(), until.Add(time.Second)); err == nil {
		t.Error("a token that has ended still serves")
	}
	if strings.Contains(log.String(), hidden) || strings.Contains(log.String(), next.Token) {
		t.Errorf("the log holds a secret: %s", log.String())
	}
}
