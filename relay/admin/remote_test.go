package admin_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
	"sallyport/test/oidc"
)

// An issuer is an OpenID Connect one for the admin API.
type issuer struct{ *oidc.Issuer }

func newIssuer(t *testing.T) issuer {
	t.Helper()
	return issuer{oidc.Start(t, oidc.Options{})}
}

// claims of a token for the admin API; changes are as those of oidc.Claims.With.
func (i issuer) claims(changes ...any) oidc.Claims {
	return i.Usual(oidc.Claims{"aud": "admin-api", "sub": "s-1", "name": "Ada\nLovelace", "roles": []string{"All"}}).With(changes...)
}

func (i issuer) as(roles any) string { return i.Key().Sign(i.claims("roles", roles)) }

// remote serves the admin API as over HTTPS. There are gateways plant1 and plant2.
func remote(t *testing.T, i issuer) (url string, log *bytes.Buffer) {
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
	all, look, p1, none := i.as("All"), i.as([]string{"x", "Look"}), i.as([]string{"P1"}), i.as(nil)
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
		{"a publisher", p1, "POST", "/v1/connectors/plant1/orders/token", `{"token":"x"}`, 400}, // it takes none
		{"a publisher", p1, "POST", "/v1/connectors/plant2/orders/token", `{"token":"x"}`, 403},
		{"a viewer", look, "POST", "/v1/connectors/plant1/orders/token", `{"token":"x"}`, 403},
		{"a viewer", look, "GET", "/v1/connectors/plant1/orders/issuer", "", 403},
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
	good := i.as("All")
	for name, token := range map[string]string{
		"expired":               i.Key().Sign(i.claims("exp", time.Now().Add(-time.Minute).Unix())),
		"without an end":        i.Key().Sign(i.claims("exp", nil)),
		"another audience":      i.Key().Sign(i.claims("aud", "connector")),
		"no audience":           i.Key().Sign(i.claims("aud", nil)),
		"no subject":            i.Key().Sign(i.claims("sub", nil)),
		"another issuer":        other.as("All"),
		"our issuer's name":     other.Key().Sign(i.claims()),
		"another key":           oidc.NewKey(t, oidc.RS256, "k1").Sign(i.claims()),
		"not signed":            oidc.Unsigned(map[string]any{"alg": "none"}, i.claims()),
		"a shared secret":       oidc.HMAC(i.Key().PublicPEM(), map[string]any{"alg": "HS256", "kid": "k1"}, i.claims()),
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
	ask(t, "POST", url+"/v1/gateways", i.as("All"), `{"name":"plant3"}`)
	ask(t, "DELETE", url+"/v1/gateways/plant1", i.as("Look"), "")
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
	i.Down.Store(true)
	token := i.as("All")
	if status, head, _ := ask(t, "GET", url+"/v1/status", token, ""); status != 503 || head.Get("Retry-After") == "" {
		t.Errorf("in an outage: %d", status)
	}
	i.Down.Store(false)
	if status, _, text := ask(t, "GET", url+"/v1/status", token, ""); status != 200 {
		t.Errorf("after it: %d %s", status, text)
	}
}
