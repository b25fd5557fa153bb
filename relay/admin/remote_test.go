package admin_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

// An issuer is an OpenID Connect one, as far as verifying goes.
type issuer struct {
	*httptest.Server
	key  *rsa.PrivateKey
	down atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case i.down.Load():
			http.Error(w, "down", http.StatusServiceUnavailable)
		case q.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"token_endpoint":%q}`, i.URL, i.URL+"/keys", i.URL+"/token")
		default:
			fmt.Fprintf(w, `{"keys":[{"kty":"RSA","use":"sig","kid":"k1","n":%q,"e":%q}]}`,
				b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes()))
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token makes one for the admin API; changes take the place of claims, and nil takes one away.
func (i *issuer) token(t *testing.T, key *rsa.PrivateKey, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": i.URL, "aud": "admin-api", "sub": "s-1", "name": "Ada\nLovelace", "exp": time.Now().Add(time.Hour).Unix(),
		"roles": []string{"All"},
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signing := b64([]byte(`{"alg":"RS256","kid":"k1"}`)) + "." + b64(body)
	sum := sha256.Sum256([]byte(signing))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signing + "." + b64(sig)
}

func (i *issuer) as(t *testing.T, roles any) string {
	t.Helper()
	return i.token(t, i.key, map[string]any{"roles": roles})
}

// remote serves the admin API as over HTTPS. There are gateways plant1 and plant2.
func remote(t *testing.T, i *issuer) (url string, log *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	log = &bytes.Buffer{}
	logger := slog.New(slog.NewJSONHandler(log, nil))
	st, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(dir, "store"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close(context.Background()) })
	gateways, err := gateway.New(t.Context(), st, gateway.Config{URL: "https://relay.example", Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	connectors, err := connector.NewDirectory(t.Context(), st, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plant1", "plant2"} {
		if _, err := gateways.AddGateway(t.Context(), name, gateway.CodeUse{}); err != nil {
			t.Fatal(err)
		}
	}
	a := admin.New(admin.Config{
		Gateways: gateways, Connectors: connectors, Store: st, URL: "https://relay.example", Host: "admin.example.com", Log: logger,
		OIDC: &admin.OIDC{
			Issuer: i.URL, Audience: []string{"admin-api"}, Client: "cli", Scopes: []string{"x"},
			Grants: []admin.Grant{
				{Value: "All", Role: admin.Everyone},
				{Value: "Look", Role: admin.Viewer},
				{Value: "P1", Role: admin.Publisher, Gateways: []string{"plant1"}},
			},
		},
	})
	srv := httptest.NewServer(a.Remote())
	t.Cleanup(srv.Close)
	return srv.URL, log
}

// ask makes a request and gives its status, head and body.
func ask(t *testing.T, method, url, token, body string) (int, http.Header, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	q.Header.Set("Origin", "https://evil.example")
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestRolesDecide(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	url, _ := remote(t, i)
	all, look, p1, none := i.as(t, "All"), i.as(t, []string{"x", "Look"}), i.as(t, []string{"P1"}), i.as(t, nil)
	publish := func(gw string) string { return `{"gateway":"` + gw + `","name":"orders","auth":["key"]}` }
	for _, c := range []struct {
		who, token, method, path, body string
		want                           int
	}{
		{"a viewer", look, "GET", "/v1/status", "", 200},
		{"a viewer", look, "GET", "/v1/gateways", "", 200},
		{"a viewer", look, "POST", "/v1/gateways", `{"name":"plant3"}`, 403},
		{"a viewer", look, "POST", "/v1/connectors", publish("plant1"), 403},
		{"a viewer", look, "POST", "/v1/gateways/plant1/join", `{}`, 403},
		{"a viewer", look, "POST", "/v1/agents/x/approve", "", 403},
		{"a publisher", p1, "GET", "/v1/connectors", "", 200},
		{"a publisher", p1, "POST", "/v1/connectors", publish("plant1"), 201},
		{"a publisher", p1, "POST", "/v1/connectors", publish("plant2"), 403},
		{"a publisher", p1, "POST", "/v1/connectors?dryRun=true", publish("plant2"), 403},
		{"a publisher", p1, "POST", "/v1/connectors/plant1/orders/keys", `{"name":"k"}`, 201},
		{"a publisher", p1, "POST", "/v1/connectors/plant2/orders/keys", `{"name":"k"}`, 403},
		{"a publisher", p1, "PUT", "/v1/connectors/plant2/orders", publish("plant1"), 403},
		{"a publisher", p1, "DELETE", "/v1/connectors/plant2/orders", "", 403},
		{"a publisher", p1, "DELETE", "/v1/gateways/plant1", "", 403},
		{"a viewer", look, "GET", "/v1/log", "", 403},
		{"a viewer", look, "GET", "/v1/backup", "", 403},
		{"a publisher", p1, "GET", "/v1/log?kind=admin", "", 403},
		{"a publisher", p1, "POST", "/v1/gateways/plant1/entra", `{}`, 403},
		{"a publisher", p1, "POST", "/v1/agents/x/revoke", "", 403},
		{"nobody in particular", none, "GET", "/v1/status", "", 403},
		{"nobody in particular", none, "GET", "/v1/whoami", "", 403},
		{"an admin", all, "POST", "/v1/connectors", `{"gateway":"plant1","name":"a","auth":["key"],"hosts":["ADMIN.example.com"]}`, 400},
		{"an admin", all, "DELETE", "/v1/connectors/plant1/orders", "", 204},
		{"an admin", all, "POST", "/v1/gateways", `{"name":"plant3"}`, 201},
		{"an admin", all, "POST", "/v1/gateways", `{"name":"` + strings.Repeat("x", 70<<10) + `"}`, 400},
		{"an admin", all, "OPTIONS", "/v1/gateways", "", 405},
		{"an admin", all, "GET", "/v1/nothing", "", 404},
	} {
		status, head, text := ask(t, c.method, url+c.path, c.token, c.body)
		if status != c.want {
			t.Errorf("%s: %s %s is answered %d, want %d: %s", c.who, c.method, c.path, status, c.want, text)
		}
		for name := range head {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s %s: the answer has %s", c.method, c.path, name)
			}
		}
		if status < 404 && head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: Cache-Control %q", c.method, c.path, head.Get("Cache-Control"))
		}
	}
}

func TestTokensThatDoNotCount(t *testing.T) {
	t.Parallel()
	i, other := newIssuer(t), newIssuer(t)
	url, log := remote(t, i)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := i.as(t, "All")
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"expired":               i.token(t, i.key, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"without an end":        i.token(t, i.key, map[string]any{"exp": nil}),
		"another audience":      i.token(t, i.key, map[string]any{"aud": "connector"}),
		"no audience":           i.token(t, i.key, map[string]any{"aud": nil}),
		"no subject":            i.token(t, i.key, map[string]any{"sub": nil}),
		"another issuer":        other.as(t, "All"),
		"our issuer's name":     other.token(t, other.key, map[string]any{"iss": i.URL}),
		"another key":           i.token(t, stranger, nil),
		"not signed":            b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"a shared secret":       b64([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + parts[1] + "." + parts[2],
		"larger than it may be": good + strings.Repeat("a", 20<<10),
		"no token":              "x",
	} {
		status, head, text := ask(t, "GET", url+"/v1/status", token, "")
		if status != 401 || !strings.Contains(head.Get("WWW-Authenticate"), `error="invalid_token"`) || strings.Contains(text, i.URL) {
			t.Errorf("%s: %d, %q, %s", name, status, head.Get("WWW-Authenticate"), text)
		}
	}
	if status, head, _ := ask(t, "GET", url+"/v1/status", "", ""); status != 401 || head.Get("WWW-Authenticate") != `Bearer realm="sallyport-relay"` {
		t.Errorf("without a token: %d, %q", status, head.Get("WWW-Authenticate"))
	}
	if status, _, _ := ask(t, "GET", url+"/v1/status?access_token="+good, "", ""); status != 401 {
		t.Errorf("a token in the query: %d", status)
	}
	if status, _, text := ask(t, "GET", url+"/v1/login", "", ""); status != 200 || !strings.Contains(text, i.URL) || !strings.Contains(text, `"client":"cli"`) {
		t.Errorf("where to sign on: %d %s", status, text)
	}
	if strings.Contains(log.String(), good) {
		t.Error("the log holds a token")
	}
}

// TestActorIsOnRecord: every event names who did it, and a name cannot forge a line.
func TestActorIsOnRecord(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	url, log := remote(t, i)
	ask(t, "POST", url+"/v1/gateways", i.as(t, "All"), `{"name":"plant3"}`)
	ask(t, "DELETE", url+"/v1/gateways/plant1", i.as(t, "Look"), "")
	for _, want := range []string{`"msg":"admin: gateway added","actor":"oidc:s-1 (AdaLovelace)"`, `"msg":"admin: refused","actor":"oidc:s-1 (AdaLovelace)"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

func TestIssuerOutage(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	url, _ := remote(t, i)
	i.down.Store(true)
	token := i.as(t, "All")
	if status, head, _ := ask(t, "GET", url+"/v1/status", token, ""); status != 503 || head.Get("Retry-After") == "" {
		t.Errorf("in an outage: %d", status)
	}
	i.down.Store(false)
	if status, _, text := ask(t, "GET", url+"/v1/status", token, ""); status != 200 {
		t.Errorf("after it: %d %s", status, text)
	}
}
