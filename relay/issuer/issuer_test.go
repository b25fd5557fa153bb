package issuer_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/relay/issuer"
)

// A server is an OpenID Connect issuer with one key at a time.
type server struct {
	*httptest.Server
	key     atomic.Pointer[rsa.PrivateKey]
	down    atomic.Bool
	fetches atomic.Int32
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	s.key.Store(newKey(t))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		s.fetches.Add(1)
		switch {
		case s.down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case q.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.URL, s.URL+"/keys")
		default:
			key := s.key.Load()
			fmt.Fprintf(w, `{"keys":[{"kty":"RSA","use":"sig","kid":%q,"n":%q,"e":%q}]}`, name(key), b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes()))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func name(key *rsa.PrivateKey) string { return b64(key.N.Bytes()[:6]) }
func b64(b []byte) string             { return base64.RawURLEncoding.EncodeToString(b) }

// token is one of the issuer's, by this key.
func (s *server) token(t *testing.T, key *rsa.PrivateKey, kid string) string {
	t.Helper()
	head, _ := json.Marshal(map[string]string{"alg": "RS256", "kid": kid})
	body, _ := json.Marshal(map[string]any{"iss": s.URL, "sub": "s", "aud": "a", "exp": time.Now().Add(time.Hour).Unix()})
	text := b64(head) + "." + b64(body)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

// verify gives what became of a token: "", "refused" or "unavailable".
func verify(t *testing.T, i *issuer.Issuer, token string) string {
	t.Helper()
	_, err := i.Verify(t.Context(), token, i.URL(), issuer.PublicKeyAlgorithms())
	if _, ok := errors.AsType[*issuer.Unavailable](err); ok {
		return "unavailable"
	} else if err != nil {
		return "refused"
	}
	return ""
}

// Anybody can send tokens that name unknown keys. They make nobody ask the issuer again and again, and lock nobody out.
func TestUnknownKeysDoNotHammerTheIssuer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := issuer.New(s.URL)
	good, stranger := s.token(t, s.key.Load(), name(s.key.Load())), newKey(t)
	if got := verify(t, i, good); got != "" {
		t.Fatalf("a good token: %s", got)
	}
	for n := range 200 {
		if got := verify(t, i, s.token(t, stranger, fmt.Sprint("unknown", n))); got != "refused" {
			t.Fatalf("token %d of a stranger: %q", n, got)
		}
	}
	if n := s.fetches.Load(); n > 12 {
		t.Errorf("the issuer was asked %d times", n)
	}
	if got := verify(t, i, good); got != "" {
		t.Errorf("a good token after that: %s", got)
	}
}

// During an outage each token is told so, and the issuer, which has trouble enough, is left alone.
func TestAnOutageIsNotATokensFault(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := issuer.New(s.URL)
	token := s.token(t, s.key.Load(), name(s.key.Load()))
	s.down.Store(true)
	if got := verify(t, i, token); got != "unavailable" {
		t.Errorf("before its keys were known: %q", got)
	}
	s.down.Store(false)
	if got := verify(t, i, token); got != "" {
		t.Errorf("after it: %q", got)
	}
	s.down.Store(true)
	if got := verify(t, i, token); got != "" {
		t.Errorf("with the keys at hand: %q", got)
	}
	if got := verify(t, i, s.token(t, newKey(t), "new")); got != "unavailable" {
		t.Errorf("an unknown key: %q", got)
	}
	other := issuer.New(s.URL)
	before := s.fetches.Load()
	for range 50 {
		if got := verify(t, other, token); got != "unavailable" {
			t.Fatalf("%q", got)
		}
	}
	if n := s.fetches.Load() - before; n > 12 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// A new key of the issuer's counts at once.
func TestANewKeyCounts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := issuer.New(s.URL)
	if got := verify(t, i, s.token(t, s.key.Load(), name(s.key.Load()))); got != "" {
		t.Fatal(got)
	}
	next := newKey(t)
	s.key.Store(next)
	if got := verify(t, i, s.token(t, next, name(next))); got != "" {
		t.Errorf("a token by the new key: %q", got)
	}
}

// Keys come over TLS, or from this machine itself.
func TestKeysFromPlainHTTPElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://keys.example.com/"}`, s.URL)
	}))
	defer s.Close()
	if got := verify(t, issuer.New(s.URL), "a.b.c"); got != "unavailable" {
		t.Errorf("%q", got)
	}
}
