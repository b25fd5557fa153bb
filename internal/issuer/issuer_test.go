package issuer_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"sallyport/internal/issuer"
	"sallyport/test/oidc"
)

func newKey(t *testing.T, id string) *oidc.Key {
	t.Helper()
	return oidc.NewKey(t, oidc.RS256, id)
}

// token is one of the issuer's, by this key.
func token(s *oidc.Issuer, key *oidc.Key) string {
	return key.Sign(s.Usual(oidc.Claims{"sub": "s", "aud": "a"}))
}

// renamed is a key under another name.
func renamed(key *oidc.Key, id string) *oidc.Key {
	out := *key
	out.ID = id
	return &out
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
	s := oidc.Start(t, oidc.Options{})
	i := issuer.New(s.URL)
	good, stranger := token(s, s.Key()), newKey(t, "k1")
	if got := verify(t, i, good); got != "" {
		t.Fatalf("a good token: %s", got)
	}
	for n := range 200 {
		if got := verify(t, i, token(s, renamed(stranger, fmt.Sprint("unknown", n)))); got != "refused" {
			t.Fatalf("token %d of a stranger: %q", n, got)
		}
	}
	if n := s.Fetches.Load(); n > 12 {
		t.Errorf("the issuer was asked %d times", n)
	}
	if got := verify(t, i, good); got != "" {
		t.Errorf("a good token after that: %s", got)
	}
}

// During an outage each token is told so, and the issuer, which has trouble enough, is left alone.
func TestAnOutageIsNotATokensFault(t *testing.T) {
	t.Parallel()
	s := oidc.Start(t, oidc.Options{})
	i := issuer.New(s.URL)
	good := token(s, s.Key())
	s.Down.Store(true)
	if got := verify(t, i, good); got != "unavailable" {
		t.Errorf("before its keys were known: %q", got)
	}
	s.Down.Store(false)
	if got := verify(t, i, good); got != "" {
		t.Errorf("after it: %q", got)
	}
	s.Down.Store(true)
	if got := verify(t, i, good); got != "" {
		t.Errorf("with the keys at hand: %q", got)
	}
	if got := verify(t, i, token(s, newKey(t, "new"))); got != "unavailable" {
		t.Errorf("an unknown key: %q", got)
	}
	other := issuer.New(s.URL)
	before := s.Fetches.Load()
	for range 50 {
		if got := verify(t, other, good); got != "unavailable" {
			t.Fatalf("%q", got)
		}
	}
	if n := s.Fetches.Load() - before; n > 12 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// A new key of the issuer's counts at once.
func TestANewKeyCounts(t *testing.T) {
	t.Parallel()
	s := oidc.Start(t, oidc.Options{})
	i := issuer.New(s.URL)
	if got := verify(t, i, token(s, s.Key())); got != "" {
		t.Fatal(got)
	}
	next := newKey(t, "next")
	s.Rotate(next)
	if got := verify(t, i, token(s, next)); got != "" {
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
