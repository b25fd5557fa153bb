package connector_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/bearer"
	"sallyport/relay/connector"
	"sallyport/test/oidc"
	"sallyport/tunnel"
)

// withTokens is a rig whose connector takes tokens of an issuer of its own in these ways.
func withTokens(t *testing.T, agent func(*tunnel.Stream), change func(*bearer.Rule), ways ...string) (*rig, *oidc.Issuer) {
	t.Helper()
	i := oidc.Start(t, oidc.Options{Key: oidc.NewKey(t, oidc.ES256, "k1")})
	r := withAuth(t, agent, func(c *connector.Connector) {
		c.OAuth2 = bearer.Rule{Issuer: i.URL, Audience: []string{"orders"}}
		if change != nil {
			change(&c.OAuth2)
		}
	}, ways...)
	if r.key == "" && slices.ContainsFunc(ways, func(w string) bool { return strings.Contains(w, "key") }) {
		var err error
		if _, r.key, err = r.directory.AddKey(t.Context(), "plant1", "orders", "flow-prod", time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	return r, i
}

// TestTokensAmongOtherWays: alone, beside and joined with other ways; what is refused is refused with a challenge for each.
func TestTokensAmongOtherWays(t *testing.T) {
	t.Parallel()
	const (
		keyWay    = `ApiKey realm="plant1/orders", header="X-Api-Key"`
		basicWay  = `Basic realm="plant1/orders", charset="UTF-8"`
		bearerWay = `Bearer realm="plant1/orders"`
		invalid   = bearerWay + `, error="invalid_token", error_description="`
	)
	for name, ways := range map[string][]string{
		"alone": {"oauth2"}, "beside key": {"key", "oauth2"}, "joined": {"oauth2+key"}, "beside basic": {"basic", "oauth2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen *tunnel.Request
			r, i := withTokens(t, func(s *tunnel.Stream) { seen = s.Request(); respond(200, "")(s) }, nil, ways...)
			raw := i.Token(oidc.Claims{"aud": "orders", "sub": "jane", "azp": "flow"})
			who := "oauth2:jane@" + strings.TrimPrefix(i.URL, "http://")
			token, key := []string{"Authorization", "Bearer " + raw}, []string{"X-Api-Key", r.key}
			late := []string{"Authorization", "Bearer " + i.Token(oidc.Claims{"aud": "orders", "sub": "jane", "exp": 1})}
			user, nobody := []string{"Authorization", basic("alice", password)}, []string{"Authorization", basic("alice", "incorrect horse")}
			cases := map[string][]struct {
				fields []string
				want   string // caller, or code of a refusal
				ways   []string
			}{
				"alone": {
					{token, who, nil},
					{[]string{"Authorization", "bEARER  " + raw}, who, nil},
					{nil, "token-required", []string{bearerWay}},
					{late, "token-refused", []string{invalid}},
					{user, "token-refused", []string{invalid}},
					{[]string{"Authorization", "Bearer"}, "token-refused", []string{invalid}},
					{[]string{"Authorization", "Bearer Bearer " + raw}, "token-refused", []string{invalid}},
					{[]string{"Authorization", "Bearer " + raw + ", Bearer " + raw}, "token-refused", []string{invalid}},
					{[]string{"Authorization", raw}, "token-refused", []string{invalid}},
				},
				"beside key": {
					{token, who, nil},
					{key, "key:flow-prod", nil},
					{slices.Concat(key, late), "key:flow-prod", nil},
					{nil, "token-required", []string{keyWay, bearerWay}},
					{late, "token-refused", []string{keyWay, invalid}},
					{[]string{"X-Api-Key", "x"}, "key-refused", []string{keyWay, bearerWay}},
				},
				"joined": {
					{slices.Concat(key, token), "key:flow-prod " + who, nil},
					{key, "token-required", []string{keyWay, bearerWay}},
					{token, "key-required", []string{keyWay, bearerWay}},
					{slices.Concat(key, late), "token-refused", []string{keyWay, invalid}},
				},
				"beside basic": {
					{token, who, nil},
					{user, "user:alice", nil},
					{nil, "token-required", []string{bearerWay, basicWay}},
					{late, "token-refused", []string{invalid, basicWay}},
					{nobody, "logon-refused", []string{bearerWay, basicWay}},
				},
			}[name]
			for _, c := range cases {
				seen = nil
				resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, slices.Clone(c.fields)...)
				if strings.Contains(c.want, ":") {
					if resp.StatusCode != 200 || seen.Caller != c.want || seen.Header["Authorization"] != nil || seen.Header["X-Api-Key"] != nil {
						t.Errorf("want %s: status %d, %+v", c.want, resp.StatusCode, seen)
					}
					continue
				}
				wantProblem(t, resp, 401, c.want, "relay", "no")
				got := resp.Header["Www-Authenticate"]
				if seen != nil || !slices.EqualFunc(got, c.ways, func(got, want string) bool {
					return got == want || strings.HasSuffix(want, `="`) && strings.HasPrefix(got, want)
				}) {
					t.Errorf("%s: challenges %q, want %q; agent saw %v", c.want, got, c.ways, seen)
				}
			}
		})
	}
}

// TestTokenRefusals have the statuses and errors of RFC 6750 section 3.1, and name the principal that was proved.
func TestTokenRefusals(t *testing.T) {
	t.Parallel()
	r, i := withTokens(t, respond(200, ""), func(b *bearer.Rule) { b.Scopes = []string{"Orders.Read", "Orders.List"} }, "oauth2")
	good := oidc.Claims{"aud": "orders", "sub": "jane", "azp": "flow", "scope": "Orders.List Orders.Read"}
	for what, c := range map[string]struct {
		path   string
		fields []string
		status int
		code   string
		want   string // challenge
	}{
		"no token": {"/x", nil, 401, "token-required", `Bearer realm="plant1/orders", scope="Orders.Read Orders.List"`},
		"too little": {
			"/x",
			[]string{"Authorization", "Bearer " + i.Token(good.With("scope", `Orders.List q"\`))},
			403, "token-insufficient",
			`Bearer realm="plant1/orders", error="insufficient_scope", error_description="The token does not count: it has the scopes 'Orders.List q''; ` +
				`the scope Orders.Read is missing.", scope="Orders.Read Orders.List"`,
		},
		"in the query": {
			"/x?a=1&access_token=" + i.Token(good), nil, 400, "token-misplaced",
			`Bearer realm="plant1/orders", error="invalid_request", error_description="A token in the address is not taken: addresses end up in logs. Send it in Authorization."`,
		},
		"in the query, hidden": {"/x?%61ccess_token=x", []string{"Authorization", "Bearer " + i.Token(good)}, 400, "token-misplaced", ""},
		"twice":                {"/x", []string{"Authorization", "Bearer " + i.Token(good), "Authorization", "Bearer " + i.Token(good)}, 400, "token-misplaced", ""},
		"for another": {
			"/x",
			[]string{"Authorization", "Bearer " + i.Token(good.With("aud", "st\"ockä"))},
			401, "token-refused",
			`Bearer realm="plant1/orders", error="invalid_token", error_description="The token does not count: it is for 'st'ock', not for this connector."`,
		},
	} {
		resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders"+c.path, nil, c.fields...)
		wantProblem(t, resp, c.status, c.code, "relay", "no")
		if got := resp.Header.Get("WWW-Authenticate"); c.want != "" && got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
		if e := r.last(); c.code == "token-insufficient" && (e.Client != "flow" || !strings.HasPrefix(e.Principal, "oauth2:jane@")) {
			t.Errorf("%s: event %+v", what, e)
		}
	}
	if resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, "Authorization", "Bearer "+i.Token(good)); resp.StatusCode != 200 {
		t.Errorf("a good token: %d", resp.StatusCode)
	}
	if e := r.last(); e.Client != "flow" || !strings.HasPrefix(e.Principal, "oauth2:jane@") || e.Key != "" {
		t.Errorf("event %+v", e)
	}
}

// last is the record of the newest call.
func (r *rig) last() (e connector.Event) {
	eventually(r.t, "the call is recorded", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.events) > 0 {
			e = r.events[len(r.events)-1]
		}
		return len(r.events) > 0 && r.proxy.Active() == 0
	})
	return e
}

// TestForgedTokensAreSlowed: and neither good ones nor those that have merely ended, whose callers must read 401 to get others.
func TestForgedTokensAreSlowed(t *testing.T) {
	t.Parallel()
	r, i := withTokens(t, respond(200, ""), nil, "oauth2")
	status := func(raw string) (int, string) {
		resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, "Authorization", "Bearer "+raw)
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	claims := oidc.Claims{"aud": "orders", "sub": "jane"}
	for range 15 {
		if s, _ := status(i.Token(claims.With("exp", 1))); s != 401 {
			t.Fatalf("a token that has ended: %d", s)
		}
	}
	forger := oidc.NewKey(t, oidc.ES256, "k1")
	for n := range 11 {
		s, after := status(forger.Sign(i.Usual(claims)))
		if n < 10 && s != 401 || n == 10 && (s != 429 || after == "") {
			t.Errorf("forged token %d: %d, %q", n, s, after)
		}
	}
	if s, _ := status(i.Token(claims)); s != 200 {
		t.Errorf("a good token after that: %d", s)
	}
	if s, _ := status(i.Token(claims.With("exp", 1))); s != 401 {
		t.Errorf("a token that has ended after that: %d", s)
	}
}

// TestIssuerOutage: without keys nobody can judge, which is no fault of the token's; with known keys the outage is not felt.
func TestIssuerOutage(t *testing.T) {
	t.Parallel()
	r, i := withTokens(t, respond(200, ""), nil, "oauth2")
	call := func(raw string) *http.Response {
		return r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, "Authorization", "Bearer "+raw)
	}
	claims := oidc.Claims{"aud": "orders", "sub": "jane"}
	i.Down.Store(true)
	for range 3 {
		resp := call(i.Token(claims))
		wantProblem(t, resp, 503, "issuer-unreachable", "relay", "no")
		if resp.Header.Get("Retry-After") != "15" {
			t.Errorf("retry after %q", resp.Header.Get("Retry-After"))
		}
	}
	i.Down.Store(false)
	if resp := call(i.Token(claims)); resp.StatusCode != 200 {
		t.Errorf("after the outage: %d", resp.StatusCode)
	}
	i.Down.Store(true)
	if resp := call(i.Token(claims.With("sub", "joe"))); resp.StatusCode != 200 {
		t.Errorf("with the keys at hand: %d", resp.StatusCode)
	}
}

// TestTokenSettings that cannot be meant are refused when the connector is published.
func TestTokenSettings(t *testing.T) {
	t.Parallel()
	rule := bearer.Rule{Issuer: "https://a.example", Audience: []string{"a"}}
	for want, c := range map[string]connector.Connector{
		"name who issues":     {Auth: []string{"oauth2"}},
		"make sense with":     {Auth: []string{"key"}, OAuth2: rule},
		"cannot be joined":    {Auth: []string{"oauth2+basic"}, OAuth2: rule},
		"name the API":        {Auth: []string{"key+oauth2"}, OAuth2: bearer.Rule{Issuer: "https://a.example"}},
		"demands nothing":     {Auth: []string{"oauth2", "key+oauth2"}, OAuth2: rule},
		"exclude each other:": {Auth: []string{"oauth2", "none"}, OAuth2: rule},
	} {
		c.Gateway, c.Name = "plant1", "orders"
		if err := connector.Check(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	c := connector.Connector{Gateway: "plant1", Name: "orders", Auth: []string{"key", "oauth2"}, OAuth2: rule}
	if err := connector.Check(c); err != nil {
		t.Error(err)
	}
	changed := c
	changed.OAuth2.Leeway, changed.OAuth2.Scopes = 5*time.Second, []string{"read"}
	want := []connector.Difference{{Setting: "scope", Before: "none", After: "read"}, {Setting: "leeway", Before: "1m0s", After: "5s"}}
	if got := changed.Differences(&c); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
