package entra

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/test/oidc"
)

const (
	tenant = "aaaaaaaa-0000-4000-8000-000000000001"
	other  = "aaaaaaaa-0000-4000-8000-000000000002"
	app    = "bbbbbbbb-0000-4000-8000-000000000001"
	object = "cccccccc-0000-4000-8000-000000000001"
	relay  = "dddddddd-0000-4000-8000-000000000001"
	uri    = "api://sallyport"
)

// newAuthority is Entra's side, with its shapes.
func newAuthority(t testing.TB) *oidc.Issuer {
	t.Helper()
	return oidc.Start(t, oidc.Options{Tenant: tenant})
}

func v1() oidc.Claims {
	return oidc.Claims{
		"iss": "https://sts.windows.net/" + tenant + "/", "aud": uri, "ver": "1.0", "tid": tenant, "appid": app, "oid": object,
		"sub": object, "idtyp": "app", "roles": []string{"Agent.Link"}, "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func v2(a *oidc.Issuer) oidc.Claims {
	return oidc.Claims{
		"iss": a.URL, "aud": relay, "ver": "2.0", "tid": tenant, "azp": app, "oid": object,
		"sub": object, "roles": []string{"Agent.Link"}, "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func newVerifier(t testing.TB, a *oidc.Issuer) *Verifier {
	t.Helper()
	v, err := New(Config{Tenant: tenant, Audience: []string{uri, relay}, Authority: a.Base})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBothVersions(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	v := newVerifier(t, a)
	for _, claims := range []oidc.Claims{v1(), v2(a)} {
		id, err := v.Verify(t.Context(), a.Key().Sign(claims))
		if err != nil || id.App != app || id.Object != object || id.Tenant != tenant || len(id.Roles) != 1 || time.Until(id.Expires) < 59*time.Minute {
			t.Errorf("%v: %+v, %v", claims["ver"], id, err)
		}
	}
	if n := a.Fetches.Load(); n != 2 {
		t.Errorf("configuration and keys were fetched %d times", n)
	}
}

// TestTokensThatAreRefused: each differs in one thing from a token that is taken.
func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	v := newVerifier(t, a)
	for name, claims := range map[string]oidc.Claims{
		"expired":                  v2(a).With("exp", time.Now().Add(-time.Minute).Unix()),
		"without an end":           v2(a).With("exp", nil),
		"not yet":                  v2(a).With("nbf", time.Now().Add(time.Hour).Unix()),
		"another tenant's":         v2(a).With("iss", a.Base+"/"+other+"/v2.0", "tid", other),
		"another tenant by tid":    v2(a).With("tid", other),
		"any tenant":               v2(a).With("iss", a.Base+"/common/v2.0"),
		"another cloud's":          v2(a).With("iss", "https://login.microsoftonline.com/"+tenant+"/v2.0"),
		"no issuer":                v2(a).With("iss", nil),
		"another audience":         v2(a).With("aud", "https://graph.microsoft.com"),
		"v2 for the URI":           v2(a).With("aud", uri),
		"v1 for the GUID":          v1().With("aud", relay),
		"several audiences":        v2(a).With("aud", []string{relay, "x"}),
		"no audience":              v2(a).With("aud", nil),
		"of a person (scp)":        v2(a).With("scp", "user_impersonation"),
		"of a person (empty scp)":  v2(a).With("scp", ""),
		"of a person (idtyp)":      v1().With("idtyp", "user"),
		"an ID token (no azp)":     v2(a).With("azp", nil),
		"v2 with v1's application": v2(a).With("azp", nil, "appid", app),
		"v1 with v2's application": v1().With("appid", nil, "azp", app),
		"v2 that says v1":          v2(a).With("ver", "1.0"),
		"v1 that says v2":          v1().With("ver", "2.0"),
		"no object":                v2(a).With("oid", nil),
	} {
		if id, err := v.Verify(t.Context(), a.Key().Sign(claims)); !isRefused(err) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	stranger, unknown := oidc.NewKey(t, oidc.RS256, "k1"), oidc.NewKey(t, oidc.RS256, "k2")
	good := a.Key().Sign(v2(a))
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"signed by another key":        stranger.Sign(v2(a)),
		"signed by a key nobody knows": unknown.Sign(v2(a)),
		"not signed (none)":            oidc.Unsigned(map[string]any{"alg": "none", "kid": "k1"}, v2(a)),
		"signed with the public key":   oidc.HMAC(a.Key().PublicPEM(), map[string]any{"alg": "HS256", "kid": "k1"}, v2(a)),
		"another's claims":             parts[0] + "." + strings.Split(a.Key().Sign(v2(a).With("oid", other)), ".")[1] + "." + parts[2],
		"no token":                     "hello",
		"empty":                        "",
		"larger than a token can be":   strings.Repeat("a", tokenLimit+1),
	} {
		if id, err := v.Verify(t.Context(), token); !isRefused(err) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*Refused](err)
	return ok
}

// TestOutage: keys that cannot be had are not the token's fault, and those that were had still serve.
func TestOutage(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	v := newVerifier(t, a)
	a.Down.Store(true)
	token := a.Key().Sign(v2(a))
	if _, err := v.Verify(t.Context(), token); err == nil || isRefused(err) {
		t.Errorf("without the tenant's configuration: %v", err)
	}
	a.Down.Store(false)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	a.Down.Store(true)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("with the keys at hand: %v", err)
	}
	if _, err := v.Verify(t.Context(), oidc.NewKey(t, oidc.RS256, "k9").Sign(v2(a))); err == nil || isRefused(err) {
		t.Errorf("a key that is not known during an outage: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := Config{Tenant: tenant, Audience: []string{uri}}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"the common tenant":   func(c *Config) { c.Tenant = "common" },
		"no tenant":           func(c *Config) { c.Tenant = "" },
		"no audience":         func(c *Config) { c.Audience = nil },
		"an empty audience":   func(c *Config) { c.Audience = []string{""} },
		"a plain authority":   func(c *Config) { c.Authority = "http://login.example.com" },
		"one with a path":     func(c *Config) { c.Authority = "https://login.example.com/x" },
		"one that is no URL":  func(c *Config) { c.Authority = "login" },
		"a name, not a GUID":  func(c *Config) { c.Audience = []string{"sallyport"} },
		"GUID of upper cases": func(c *Config) { c.Tenant = strings.ToUpper(tenant) },
	} {
		c := good
		if change(&c); func() error { _, err := New(c); return err }() == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// FuzzVerify: what an agent sends as a token proves nobody by chance.
func FuzzVerify(f *testing.F) {
	a := newAuthority(f)
	v := newVerifier(f, a)
	f.Add("a.b.c")
	f.Add(a.Key().Sign(oidc.Claims{"iss": "https://sts.windows.net/" + tenant + "/"}))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := v.Verify(t.Context(), token); err == nil {
			t.Errorf("proved %+v", id)
		}
	})
}
