package entra

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	tenant = "aaaaaaaa-0000-4000-8000-000000000001"
	other  = "aaaaaaaa-0000-4000-8000-000000000002"
	app    = "bbbbbbbb-0000-4000-8000-000000000001"
	object = "cccccccc-0000-4000-8000-000000000001"
	relay  = "dddddddd-0000-4000-8000-000000000001"
	uri    = "api://sallyport"
)

// An authority is Entra's side, with its shapes.
type authority struct {
	*httptest.Server
	key     *rsa.PrivateKey
	fetched atomic.Int32
	down    atomic.Bool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, `{"issuer":"%[1]s/%[2]s/v2.0","jwks_uri":"%[1]s/%[2]s/discovery/v2.0/keys","token_endpoint":"%[1]s/%[2]s/oauth2/v2.0/token"}`,
			a.URL, q.PathValue("tenant"))
	})
	mux.HandleFunc("GET /{tenant}/discovery/v2.0/keys", func(w http.ResponseWriter, _ *http.Request) {
		a.fetched.Add(1)
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","use":"sig","kid":"k1","n":%q,"e":%q}]}`,
			b64(a.key.N.Bytes()), b64(big.NewInt(int64(a.key.E)).Bytes()))
	})
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if a.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, q)
	}))
	t.Cleanup(a.Close)
	return a
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a token; kid is the key's name in its header.
func sign(t testing.TB, key *rsa.PrivateKey, kid string, claims map[string]any) string {
	t.Helper()
	head, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": kid})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signing := b64(head) + "." + b64(body)
	sum := sha256.Sum256([]byte(signing))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signing + "." + b64(sig)
}

func (a *authority) v1() map[string]any {
	return map[string]any{
		"iss": "https://sts.windows.net/" + tenant + "/", "aud": uri, "ver": "1.0", "tid": tenant, "appid": app, "oid": object,
		"sub": object, "idtyp": "app", "roles": []string{"Agent.Link"}, "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func (a *authority) v2() map[string]any {
	return map[string]any{
		"iss": a.URL + "/" + tenant + "/v2.0", "aud": relay, "ver": "2.0", "tid": tenant, "azp": app, "oid": object,
		"sub": object, "roles": []string{"Agent.Link"}, "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func newVerifier(t testing.TB, a *authority) *Verifier {
	t.Helper()
	v, err := New(Config{Tenant: tenant, Audience: []string{uri, relay}, Authority: a.URL})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBothVersions(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	v := newVerifier(t, a)
	for _, claims := range []map[string]any{a.v1(), a.v2()} {
		id, err := v.Verify(t.Context(), sign(t, a.key, "k1", claims))
		if err != nil || id.App != app || id.Object != object || id.Tenant != tenant || len(id.Roles) != 1 || time.Until(id.Expires) < 59*time.Minute {
			t.Errorf("%v: %+v, %v", claims["ver"], id, err)
		}
	}
	if n := a.fetched.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// TestTokensThatAreRefused: each differs in one thing from a token that is taken.
func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	v := newVerifier(t, a)
	with := func(base map[string]any, changes map[string]any) map[string]any {
		out := maps.Clone(base)
		for k, c := range changes {
			if out[k] = c; c == nil {
				delete(out, k)
			}
		}
		return out
	}
	for name, claims := range map[string]map[string]any{
		"expired":                  with(a.v2(), map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"without an end":           with(a.v2(), map[string]any{"exp": nil}),
		"not yet":                  with(a.v2(), map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"another tenant's":         with(a.v2(), map[string]any{"iss": a.URL + "/" + other + "/v2.0", "tid": other}),
		"another tenant by tid":    with(a.v2(), map[string]any{"tid": other}),
		"any tenant":               with(a.v2(), map[string]any{"iss": a.URL + "/common/v2.0"}),
		"another cloud's":          with(a.v2(), map[string]any{"iss": "https://login.microsoftonline.com/" + tenant + "/v2.0"}),
		"no issuer":                with(a.v2(), map[string]any{"iss": nil}),
		"another audience":         with(a.v2(), map[string]any{"aud": "https://graph.microsoft.com"}),
		"v2 for the URI":           with(a.v2(), map[string]any{"aud": uri}),
		"v1 for the GUID":          with(a.v1(), map[string]any{"aud": relay}),
		"several audiences":        with(a.v2(), map[string]any{"aud": []string{relay, "x"}}),
		"no audience":              with(a.v2(), map[string]any{"aud": nil}),
		"of a person (scp)":        with(a.v2(), map[string]any{"scp": "user_impersonation"}),
		"of a person (empty scp)":  with(a.v2(), map[string]any{"scp": ""}),
		"of a person (idtyp)":      with(a.v1(), map[string]any{"idtyp": "user"}),
		"an ID token (no azp)":     with(a.v2(), map[string]any{"azp": nil}),
		"v2 with v1's application": with(a.v2(), map[string]any{"azp": nil, "appid": app}),
		"v1 with v2's application": with(a.v1(), map[string]any{"appid": nil, "azp": app}),
		"v2 that says v1":          with(a.v2(), map[string]any{"ver": "1.0"}),
		"v1 that says v2":          with(a.v1(), map[string]any{"ver": "2.0"}),
		"no object":                with(a.v2(), map[string]any{"oid": nil}),
	} {
		if id, err := v.Verify(t.Context(), sign(t, a.key, "k1", claims)); !isRefused(err) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, a.key, "k1", a.v2())
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"signed by another key":        sign(t, stranger, "k1", a.v2()),
		"signed by a key nobody knows": sign(t, stranger, "k2", a.v2()),
		"not signed (none)":            b64([]byte(`{"alg":"none","kid":"k1"}`)) + "." + parts[1] + ".",
		"signed with the public key":   b64([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + parts[1] + "." + parts[2],
		"another's claims":             parts[0] + "." + b64([]byte(strings.Replace(string(mustDecode(t, parts[1])), object, other, 1))) + "." + parts[2],
		"no token":                     "hello",
		"empty":                        "",
		"larger than a token can be":   strings.Repeat("a", tokenLimit+1),
	} {
		if id, err := v.Verify(t.Context(), token); !isRefused(err) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func mustDecode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
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
	a.down.Store(true)
	token := sign(t, a.key, "k1", a.v2())
	if _, err := v.Verify(t.Context(), token); err == nil || isRefused(err) {
		t.Errorf("without the tenant's configuration: %v", err)
	}
	a.down.Store(false)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	a.down.Store(true)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("with the keys at hand: %v", err)
	}
	if _, err := v.Verify(t.Context(), sign(t, a.key, "k9", a.v2())); err == nil || isRefused(err) {
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
	f.Add(sign(f, a.key, "k1", map[string]any{"iss": "https://sts.windows.net/" + tenant + "/"}))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := v.Verify(t.Context(), token); err == nil {
			t.Errorf("proved %+v", id)
		}
	})
}
