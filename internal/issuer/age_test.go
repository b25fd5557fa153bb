package issuer

import (
	"testing"
	"time"

	"sallyport/test/oidc"
)

// TestKeysAreReadAnew: a key that the issuer has withdrawn ends with the next reading, and an issuer that cannot be had then
// ends nothing.
func TestKeysAreReadAnew(t *testing.T) {
	t.Parallel()
	s := oidc.Start(t, oidc.Options{Key: oidc.NewKey(t, oidc.ES256, "old")})
	i := New(s.URL)
	old, next := s.Key(), oidc.NewKey(t, oidc.ES256, "next")
	verify := func(k *oidc.Key) error {
		return i.Signed(t.Context(), k.Sign(s.Usual(nil)), PublicKeyAlgorithms())
	}
	aged := func() {
		i.finding <- struct{}{}
		defer func() { <-i.finding }()
		i.due = time.Now().Add(-time.Second)
	}
	if err := verify(old); err != nil {
		t.Fatal(err)
	}
	s.Rotate(next)
	if err := verify(old); err != nil {
		t.Errorf("a known key, before the keys are read anew: %v", err)
	}
	s.Down.Store(true)
	aged()
	before := s.Fetches.Load()
	for range 20 {
		if err := verify(old); err != nil {
			t.Fatalf("in an outage: %v", err)
		}
	}
	if n := s.Fetches.Load() - before; n == 0 || n > 3 {
		t.Errorf("the issuer was asked %d times in its outage", n)
	}
	s.Down.Store(false)
	aged()
	if err := verify(old); err == nil {
		t.Error("a withdrawn key counts after the keys were read anew")
	}
	if err := verify(next); err != nil {
		t.Errorf("the new key: %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	s := oidc.Start(t, oidc.Options{Key: oidc.NewKey(t, oidc.ES256, "k")})
	at, err := New(s.URL).Endpoints(t.Context())
	if want := (Endpoints{Authorization: s.URL + "/authorize", Token: s.URL + "/token"}); err != nil || at != want {
		t.Errorf("%+v, %v; want %+v", at, err, want)
	}
	s.Down.Store(true)
	if _, err := New(s.URL).Endpoints(t.Context()); err == nil {
		t.Error("an issuer that cannot be had has endpoints")
	}
	if safe("http://login.example.com/token") != "" || safe("javascript:x") != "" || safe("https://a.example/t") == "" {
		t.Error("a place without TLS is taken")
	}
}
