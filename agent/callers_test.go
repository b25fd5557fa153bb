package agent

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/test/oidc"
	"sallyport/tunnel"
)

const (
	tenantID = "aaaaaaaa-0000-4000-8000-000000000001"
	apiID    = "dddddddd-0000-4000-8000-000000000001"
	annaID   = "cccccccc-0000-4000-8000-000000000001"
	guestID  = "cccccccc-0000-4000-8000-000000000002"
	appID    = "bbbbbbbb-0000-4000-8000-000000000001"
)

// callersForm is what is added to the rig's file; the rules are for orders.
const callersForm = `    allow:
      - {rule: GET /open}
      - {rule: GET /anna, who: "upn=anna@corp.example"}
      - {rule: GET /people, who: [person]}
      - {rule: GET /buyers, who: ["role=Buyer", "group=g-buyers"]}
      - {rule: GET /robots, who: ["app=%s"]}
callers:
  entra: {tenant: %s, authority: %q}
  audience: [%s]
  max_token_age: 30m
  guests: {%s: guest.anna@corp.example}
`

func (r *rig) withCallers(i *oidc.Issuer) {
	r.t.Helper()
	data, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(data), "    allow:")
	c, err := ParseConfig("agent.yaml", []byte(head+fmt.Sprintf(callersForm, appID, tenantID, strings.TrimSuffix(i.URL, "/"+tenantID+"/v2.0"), apiID, guestID)))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.agent.Reload(c); err != nil {
		r.t.Fatal(err)
	}
}

func personToken(i *oidc.Issuer) oidc.Claims {
	return i.Usual(oidc.Claims{
		"ver": "2.0", "tid": tenantID, "oid": annaID, "aud": apiID, "azp": appID, "scp": "Orders.Read", "sub": "x",
		"upn": "Anna@corp.example", "roles": []string{"Buyer"},
	})
}

// TestARelayThatLies: the relay's side of the link is the test's own. It names callers, shows others' tokens, and old ones;
// nothing of that makes a rule with "who" hold.
func TestARelayThatLies(t *testing.T) {
	t.Parallel()
	i := oidc.Start(t, oidc.Options{Tenant: tenantID})
	stranger := oidc.NewKey(t, oidc.RS256, "k1") // the same name, another key
	r := newRig(t)
	r.withCallers(i)
	l := r.link()
	good := personToken(i)
	now := time.Now().Unix()
	robot := good.With("scp", nil, "upn", nil, "idtyp", "app")
	bearer := func(raw string) http.Header { return http.Header{"Authorization": {"Bearer " + raw}} }
	for name, c := range map[string]struct {
		target string
		header http.Header
		status int
		says   string
	}{
		"no rule asks":             {"/open", nil, 200, ""},
		"the right person":         {"/anna", bearer(i.Token(good)), 200, ""},
		"a role":                   {"/buyers", bearer(i.Token(good)), 200, ""},
		"a group":                  {"/buyers", bearer(i.Token(good.With("roles", nil, "groups", []string{"g-buyers"}))), 200, ""},
		"an application":           {"/robots", bearer(i.Token(robot)), 200, ""},
		"a mapped guest":           {"/people", bearer(i.Token(good.With("oid", guestID, "idp", "https://sts.windows.net/other/"))), 200, ""},
		"an invented caller":       {"/anna", http.Header{"X-Ms-Client-Principal-Name": {"anna@corp.example"}, "X-Forwarded-User": {"anna@corp.example"}}, 401, "token-required"},
		"Basic in place of it":     {"/anna", http.Header{"Authorization": {"Basic YW5uYTpw"}}, 401, "token-required"},
		"a token that was made up": {"/anna", bearer(stranger.Sign(good)), 401, "signature"},
		"unsigned":                 {"/anna", bearer(oidc.Unsigned(map[string]any{"alg": "none"}, good)), 401, "token-refused"},
		"signed with a public key": {"/anna", bearer(oidc.HMAC(i.Key().PublicPEM(), map[string]any{"alg": "HS256", "kid": "k1"}, good)), 401, "algorithm"},
		"for another audience":     {"/anna", bearer(i.Token(good.With("aud", "dddddddd-0000-4000-8000-000000000002"))), 401, "is for"},
		"another tenant's":         {"/anna", bearer(i.Token(good.With("tid", "aaaaaaaa-0000-4000-8000-000000000002"))), 401, "tenant"},
		"expired":                  {"/anna", bearer(i.Token(good.With("exp", now-600, "iat", now-1000))), 401, "expired"},
		"not valid yet":            {"/anna", bearer(i.Token(good.With("nbf", now+600))), 401, "not valid before"},
		"replayed for too long":    {"/anna", bearer(i.Token(good.With("iat", now-3600))), 401, "max_token_age"},
		"of unknown age":           {"/anna", bearer(i.Key().Sign(good.With("iat", nil))), 401, "when it was issued"},
		"another person's":         {"/anna", bearer(i.Token(good.With("upn", "bert@corp.example"))), 403, "other principals"},
		"a name by preference":     {"/anna", bearer(i.Token(good.With("upn", nil, "preferred_username", "anna@corp.example", "email", "anna@corp.example"))), 403, "other principals"},
		"an unmapped guest":        {"/people", bearer(i.Token(good.With("idp", "https://sts.windows.net/other/"))), 403, "callers.guests"},
		"a guest under her name":   {"/anna", bearer(i.Token(good.With("oid", guestID, "idp", "https://sts.windows.net/other/"))), 403, "other principals"},
		"an application as anna":   {"/anna", bearer(i.Token(robot.With("upn", "anna@corp.example"))), 403, "other principals"},
		"an application as people": {"/people", bearer(i.Token(robot)), 403, "other principals"},
		"a person as application":  {"/robots", bearer(i.Token(good)), 403, "other principals"},
		"two tokens":               {"/anna", http.Header{"Authorization": {"Bearer " + i.Token(good), "Bearer " + i.Token(good)}}, 401, "more than once"},
		"a token without end":      {"/anna", bearer(i.Token(good.With("pad", strings.Repeat("x", 20_000)))), 401, "bytes"},
	} {
		resp, body := r.ask(l, tunnel.Request{Method: "GET", Target: c.target, Header: c.header, Caller: "anna@corp.example"})
		text := body
		if resp.Problem != nil {
			text = resp.Problem.Code + ": " + resp.Problem.Detail
		}
		if resp.Status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %q, want %d with %q", name, resp.Status, text, c.status, c.says)
		}
		if resp.Problem != nil && resp.Problem.Executed != tunnel.ExecutedNo {
			t.Errorf("%s: executed %q", name, resp.Problem.Executed)
		}
	}
	if !strings.Contains(r.wholeOffers(), `"caller_token":true`) {
		t.Errorf("the offer does not ask for the token: %s", r.wholeOffers())
	}
	r.stop()
	for _, line := range strings.Split(r.record(), "\n") {
		if strings.Contains(line, "eyJ") {
			t.Errorf("a token is on record: %s", line)
		}
	}
	if !strings.Contains(r.record(), `"principal":"person:`+tenantID+"/"+annaID+`"`) {
		t.Error("who was proved is not on record")
	}
	if strings.Contains(r.log.String(), "eyJ") {
		t.Error("a token is in the log")
	}
}

// TestTheTokenStaysInside: the API gets the agent's credential, never the caller's token.
func TestTheTokenStaysInside(t *testing.T) {
	t.Parallel()
	i := oidc.Start(t, oidc.Options{Tenant: tenantID})
	r := newRig(t)
	got := make(chan http.Header, 1)
	r.api.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { got <- q.Header })
	r.withCallers(i)
	resp, _ := r.ask(r.link(), tunnel.Request{Method: "GET", Target: "/anna", Header: http.Header{
		"Authorization": {"Bearer " + i.Token(personToken(i))}, "Connection": {"X-API-Key, Authorization"},
	}})
	if resp.Status != 200 {
		t.Fatalf("%d %+v", resp.Status, resp.Problem)
	}
	h := <-got
	if h.Get("Authorization") != "" || h.Get("X-API-Key") != "the-secret-key" {
		t.Errorf("the API got %v", h)
	}
}

// TestAnIssuerThatCannotBeHad: nobody is proved, and nothing is run.
func TestAnIssuerThatCannotBeHad(t *testing.T) {
	t.Parallel()
	i := oidc.Start(t, oidc.Options{Tenant: tenantID})
	r := newRig(t)
	r.withCallers(i)
	i.Down.Store(true)
	resp, _ := r.ask(r.link(), tunnel.Request{Method: "GET", Target: "/anna", Header: http.Header{"Authorization": {"Bearer " + i.Token(personToken(i))}}})
	if resp.Status != 503 || resp.Problem.Code != "issuer-unreachable" || strings.Contains(resp.Problem.Detail, "127.0.0.1") {
		t.Errorf("%d %+v", resp.Status, resp.Problem)
	}
}

// TestKeysFromAFile: the issuer is not asked.
func TestKeysFromAFile(t *testing.T) {
	t.Parallel()
	key := oidc.NewKey(t, oidc.ES256, "k1")
	text, err := key.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	file := filepath.Join(filepath.Dir(r.file), "keys.json")
	if err := os.WriteFile(file, []byte(`{"keys":[`+string(text)+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(data), "    allow:")
	c, err := ParseConfig("agent.yaml", []byte(head+"    allow: [{rule: GET /x, who: person}]\ncallers: {issuer: 'https://login.invalid/realm', audience: orders, keys: keys.json}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.agent.Reload(c); err != nil {
		t.Fatal(err)
	}
	l := r.link()
	claims := oidc.Claims{
		"iss": "https://login.invalid/realm", "aud": "orders", "sub": "anna", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}
	for name, want := range map[string]int{"pinned": 200, "another": 401} {
		k := key
		if name == "another" {
			k = oidc.NewKey(t, oidc.ES256, "k1")
		}
		resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: "/x", Header: http.Header{"Authorization": {"Bearer " + k.Sign(claims)}}})
		if resp.Status != want {
			t.Errorf("%s: %d %+v", name, resp.Status, resp.Problem)
		}
	}
}

// TestConditionsOfRules runs through the whole agent, with what a caller sends.
func TestConditionsOfRules(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	data, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(data), "    allow:")
	c, err := ParseConfig("agent.yaml", []byte(head+`    allow:
      - {rule: GET /orders, query: {required: {plant: [P1, "Q*"]}}, headers: {required: {X-Plant: P1}}}
      - {rule: POST /orders, body: 10B, content_type: application/json}
      - {rule: GET /never, between: "Mon 00:00-00:01 Etc/GMT+12"}
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.agent.Reload(c); err != nil {
		t.Fatal(err)
	}
	l := r.link()
	plant := http.Header{"X-Plant": {"P1"}}
	for _, c := range []struct {
		target string
		header http.Header
		status int
	}{
		{"/orders?plant=P1", plant, 200},
		{"/orders?plant=P2", plant, 403},
		{"/orders?plant=P1&plant=P2", plant, 403},
		{"/orders?plant=P1", nil, 403},
		{"/orders?plant=P1", http.Header{"X-Plant": {"P1"}, "X_plant": {"P2"}}, 403},
		{"/orders?plant=P1", http.Header{"X-Plant": {"P1", "P2"}}, 403},
	} {
		resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: c.target, Header: c.header})
		if resp.Status != c.status {
			t.Errorf("GET %s %v: %d %+v", c.target, c.header, resp.Status, resp.Problem)
		}
	}
	r.post(l, "application/json", 10, 10, 200)
	r.post(l, "application/json; charset=utf-8", 5, 5, 200)
	r.post(l, "text/plain", 5, 5, 403)
	r.post(l, "application/json", 11, 11, 413)
	r.post(l, "application/json", -1, 11, 413)
}

// post sends a body of n bytes, which the head announces as length.
func (r *rig) post(l *tunnel.Link, kind string, length int64, n, want int) {
	r.t.Helper()
	s, err := l.Open(&tunnel.Request{
		ID: "post", API: "orders", Method: "POST", Target: "/orders", Header: http.Header{"Content-Type": {kind}}, ContentLength: length,
	}, false)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _ = s.Write([]byte(strings.Repeat("x", n)))
	_ = s.CloseWrite(nil)
	resp, err := s.ReadResponse(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.Status != want {
		r.t.Errorf("a body of %d bytes of %s, announced as %d: %d %+v", n, kind, length, resp.Status, resp.Problem)
	}
	s.Reset(tunnel.Cancelled, "seen")
}

func (r *rig) wholeOffers() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.full, "\n")
}

// record is the audit record.
func (r *rig) record() string {
	r.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(filepath.Dir(r.file), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "audit") {
			return err
		}
		data, err := os.ReadFile(path)
		b.Write(data)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return b.String()
}
