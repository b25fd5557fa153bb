package bearer_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/internal/bearer"
	"sallyport/internal/issuer"
	"sallyport/test/oidc"
)

const (
	tenant = "aaaaaaaa-0000-4000-8000-000000000001"
	other  = "aaaaaaaa-0000-4000-8000-000000000002"
	app    = "bbbbbbbb-0000-4000-8000-000000000001"
	person = "cccccccc-0000-4000-8000-000000000001"
	api    = "dddddddd-0000-4000-8000-000000000001"
	uri    = "api://orders"
)

func judge(t *testing.T, r bearer.Rule) *bearer.Judge {
	t.Helper()
	r, bad := r.Normal()
	if bad != nil {
		t.Fatal(bad)
	}
	return bearer.NewJudge(r, &bearer.Issuers{})
}

// outcome is "" for a token that counts, else the kind of its refusal and the reason.
func outcome(t *testing.T, j *bearer.Judge, raw string) string {
	t.Helper()
	who, err := j.Judge(t.Context(), raw)
	report, outage := j.Explain(t.Context(), raw)
	if report.Accepted != (err == nil) || report.Accepted && !cmp.Equal(*report.Caller, who) || (outage != nil) != unavailable(err) {
		t.Errorf("the judge says %v (%+v), the report %+v, %v", err, who, report, outage)
	}
	if err == nil {
		return ""
	}
	bad, ok := errors.AsType[*bearer.Refused](err)
	if !ok {
		if unavailable(err) {
			return "unavailable"
		}
		t.Fatalf("an error of another kind: %v", err)
	}
	return []string{"unproved", "unfit", "insufficient"}[bad.Kind] + ": " + bad.Reason
}

func unavailable(err error) bool {
	_, ok := errors.AsType[*issuer.Unavailable](err)
	return ok
}

func wants(t *testing.T, what, got, want string) {
	t.Helper()
	kind, reason, _ := strings.Cut(want, ": ")
	if want == "" && got != "" || !strings.HasPrefix(got, kind) || !strings.Contains(got, reason) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestForgedTokens: whoever can write a token, but not sign it with the issuer's key, proves nothing, however it is dressed.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	i := oidc.Start(t, oidc.Options{})
	j := judge(t, bearer.Rule{Issuer: i.URL, Audience: []string{"orders"}})
	claims := i.Usual(oidc.Claims{"aud": "orders", "sub": "jane"})
	key, stranger := i.Key(), oidc.NewKey(t, oidc.RS256, "k1")
	head := func(more ...any) map[string]any {
		return oidc.Claims{"typ": "JWT", "alg": "RS256", "kid": "k1"}.With(more...)
	}
	good := key.Sign(claims)
	parts := strings.Split(good, ".")
	jwk, _ := json.Marshal(stranger)
	var own map[string]any
	_ = json.Unmarshal(jwk, &own)
	for what, c := range map[string]struct{ raw, want string }{
		"a good one":              {good, ""},
		"without a kid":           {key.SignHeader(head("kid", nil), claims), ""},
		"at+jwt":                  {key.SignHeader(head("typ", "at+jwt"), claims), ""},
		"another key, same kid":   {stranger.Sign(claims), "unproved: signature"},
		"another kid":             {key.SignHeader(head("kid", "k2"), claims), "unproved: signature"},
		"kid with a path":         {stranger.SignHeader(head("kid", "../../dev/null"), claims), "unproved: signature"},
		"alg none":                {oidc.Unsigned(head("alg", "none"), claims), "unproved: not signed"},
		"alg none with signature": {oidc.Unsigned(head("alg", "none"), claims) + parts[2], "unproved: algorithm"},
		"alg NoNe":                {oidc.Unsigned(head("alg", "NoNe"), claims) + "AA", "unproved: algorithm"},
		"HS256 by the public key": {oidc.HMAC(key.PublicPEM(), head("alg", "HS256"), claims), "unproved: algorithm"},
		"HS256 called RS256":      {oidc.HMAC(key.PublicPEM(), head(), claims), "unproved: signature"},
		"no alg":                  {key.SignHeader(head("alg", nil), claims), "unproved: algorithm"},
		"alg a list":              {key.SignHeader(head("alg", []string{"RS256"}), claims), "unproved: algorithm"},
		"ES256 of an RSA key":     {key.SignHeader(head("alg", "ES256"), claims), "unproved: signature"},
		"its own key (jwk)":       {stranger.SignHeader(head("jwk", own), claims), "unproved"},
		"a place for keys (jku)":  {stranger.SignHeader(head("jku", "http://127.0.0.1:1/keys"), claims), "unproved: signature"},
		"a certificate (x5u)":     {stranger.SignHeader(head("x5u", "http://127.0.0.1:1/c", "x5c", []string{"AA"}), claims), "unproved"},
		"crit":                    {key.SignHeader(head("crit", []string{"exp"}), claims), "unproved: crit"},
		"b64":                     {key.SignHeader(head("b64", false), claims), "unproved: b64"},
		"a logout token":          {key.SignHeader(head("typ", "logout+jwt"), claims), "unproved: kind"},
		"nested":                  {key.SignHeader(head("cty", "JWT"), claims), "unproved: another token"},
		"encrypted":               {"a.b.c.d.e", "unproved: encrypted"},
		"no token":                {"opaque", "unproved: JWT"},
		"empty":                   {"", "unproved: JWT"},
		"JSON form":               {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, "unproved: JWT"},
		"claims changed":          {parts[0] + "." + strings.Split(key.Sign(claims.With("sub", "eve")), ".")[1] + "." + parts[2], "unproved: signature"},
		"header changed":          {strings.Split(key.SignHeader(head("x", 1), claims), ".")[0] + "." + parts[1] + "." + parts[2], "unproved: signature"},
		"signature cut":           {good[:len(good)-6] + "AAAAAA", "unproved: signature"},
		"padded":                  {good + "==", "unproved: JWT"},
		"a line end":              {good[:50] + "\n" + good[50:], "unproved: JWT"},
		"claims twice":            {key.SignRaw(encode(head()), []byte(strings.Replace(string(encode(claims)), `{`, `{"sub":"eve",`, 1))), `unproved: "sub" twice`},
		"header twice":            {key.SignRaw([]byte(`{"alg":"none","alg":"RS256","kid":"k1"}`), encode(claims)), `unproved: "alg" twice`},
		"two objects":             {key.SignRaw(encode(head()), append(encode(claims), encode(claims)...)), "unproved: single"},
		"deep":                    {key.SignRaw(encode(head()), []byte(`{"a":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`}`)), "unproved: deep"},
		"huge":                    {key.Sign(claims.With("x", strings.Repeat("x", bearer.MaxToken))), "unproved: bytes"},
		"no issuer":               {key.Sign(claims.With("iss", nil)), "unproved: iss"},
		"another issuer":          {key.Sign(claims.With("iss", "https://evil.example")), "unproved: issued by"},
		"issuer with a slash":     {key.Sign(claims.With("iss", i.URL+"/")), "unproved: issued by"},
		"issuer a list":           {key.Sign(claims.With("iss", []string{i.URL})), "unproved: iss"},
		"issuer in capitals":      {key.Sign(claims.With("iss", "https://evil.example", "isS", i.URL)), "unproved: issued by"},
	} {
		wants(t, what, outcome(t, j, c.raw), c.want)
	}
}

func encode(v any) []byte {
	text, _ := json.Marshal(v)
	return text
}

// TestTokensOfTheIssuer that do not count: for another API, at another time, or without what the rule demands.
func TestTokensOfTheIssuer(t *testing.T) {
	t.Parallel()
	i := oidc.Start(t, oidc.Options{Key: oidc.NewKey(t, oidc.ES256, "k1")})
	now := time.Now()
	base := bearer.Rule{Issuer: i.URL, Audience: []string{"orders", "orders-2"}}
	claims := i.Usual(oidc.Claims{"aud": "orders", "sub": "jane", "client_id": "flow", "scope": "read write", "roles": []string{"clerk"}})
	with := func(change func(*bearer.Rule)) bearer.Rule { r := base; change(&r); return r }
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for what, c := range map[string]struct {
		rule   bearer.Rule
		claims oidc.Claims
		want   string
	}{
		"good":                        {base, claims, ""},
		"another audience":            {base, claims.With("aud", "stock"), "unfit: stock"},
		"no audience":                 {base, claims.With("aud", nil), "unfit: aud"},
		"an audience of several":      {base, claims.With("aud", []string{"stock", "orders-2"}), ""},
		"none of several":             {base, claims.With("aud", []string{"stock", "Orders"}), "unfit: stock Orders"},
		"an empty list":               {base, claims.With("aud", []string{}), "unfit"},
		"a list of other things":      {base, claims.With("aud", []any{"orders", 1}), "unfit: aud"},
		"an audience as object":       {base, claims.With("aud", map[string]any{"orders": 1}), "unfit: aud"},
		"audience in capitals":        {base, claims.With("aud", "stock", "AUD", "orders"), "unfit: stock"},
		"expired":                     {base, claims.With("exp", at(-2*time.Minute)), "unfit: expired"},
		"expired within the leeway":   {base, claims.With("exp", at(-30*time.Second)), ""},
		"beyond a short leeway":       {with(func(r *bearer.Rule) { r.Leeway = time.Second }), claims.With("exp", at(-30*time.Second)), "unfit: expired"},
		"no end":                      {base, claims.With("exp", nil), "unfit: exp"},
		"an end as text":              {base, claims.With("exp", "9999999999"), "unfit: exp is no time"},
		"an end as null":              {base, claims.With("exp", json.RawMessage("null")), "unfit: exp is no time"},
		"an end beyond all times":     {base, claims.With("exp", json.RawMessage("1e300")), "unfit: exp is no time"},
		"a negative end":              {base, claims.With("exp", -5), "unfit: exp is no time"},
		"an end with a fraction":      {base, claims.With("exp", float64(at(time.Hour))+0.5), ""},
		"end in capitals":             {base, claims.With("exp", at(-time.Hour), "EXP", at(time.Hour)), "unfit: expired"},
		"not yet":                     {base, claims.With("nbf", at(2*time.Minute)), "unfit: not valid before"},
		"not yet, within the leeway":  {base, claims.With("nbf", at(30*time.Second)), ""},
		"issued in the future":        {base, claims.With("iat", at(10*time.Minute)), "unfit: not valid before"},
		"no subject":                  {base, claims.With("sub", nil), "unfit: sub"},
		"a subject as number":         {base, claims.With("sub", 7), "unfit: sub"},
		"an ID token":                 {base, claims.With("at_hash", "x"), "unfit: ID token"},
		"an ID token of a code":       {base, claims.With("c_hash", "x"), "unfit: ID token"},
		"an ID token of Keycloak's":   {base, claims.With("typ", "ID"), "unfit: ID token"},
		"a long subject":              {base, claims.With("sub", strings.Repeat("s", 300)), "unfit: sub"},
		"an allowed client":           {with(func(r *bearer.Rule) { r.Clients = []string{"x", "flow"} }), claims, ""},
		"another client":              {with(func(r *bearer.Rule) { r.Clients = []string{"x"} }), claims, `insufficient: application "flow"`},
		"no client":                   {with(func(r *bearer.Rule) { r.Clients = []string{"x"} }), claims.With("client_id", nil), "insufficient: application"},
		"scopes":                      {with(func(r *bearer.Rule) { r.Scopes = []string{"write", "read"} }), claims, ""},
		"scopes as list":              {with(func(r *bearer.Rule) { r.Scopes = []string{"write", "read"} }), claims.With("scope", nil, "scp", []string{"read", "write"}), ""},
		"a scope is missing":          {with(func(r *bearer.Rule) { r.Scopes = []string{"read", "admin"} }), claims, "insufficient: scope admin"},
		"part of a scope":             {with(func(r *bearer.Rule) { r.Scopes = []string{"rea"} }), claims, "insufficient: scope rea"},
		"a role":                      {with(func(r *bearer.Rule) { r.Roles = []string{"boss", "clerk"} }), claims, ""},
		"no role":                     {with(func(r *bearer.Rule) { r.Roles = []string{"boss"} }), claims, "insufficient: roles"},
		"scope or role, a person":     {with(func(r *bearer.Rule) { r.Scopes, r.Roles = []string{"read"}, []string{"boss"} }), claims, ""},
		"scope or role, an app":       {with(func(r *bearer.Rule) { r.Scopes, r.Roles = []string{"admin"}, []string{"clerk"} }), claims.With("sub", "flow"), ""},
		"role only, an app":           {with(func(r *bearer.Rule) { r.Scopes, r.Roles = []string{"read"}, []string{"boss"} }), claims.With("sub", "flow"), "insufficient: roles"},
		"scope only, an app":          {with(func(r *bearer.Rule) { r.Scopes = []string{"read"} }), claims.With("sub", "flow", "scope", nil), "insufficient: own token, without scopes"},
		"apps only, a person":         {with(func(r *bearer.Rule) { r.Callers = bearer.AppsOnly }), claims, "insufficient: person"},
		"apps only, an app":           {with(func(r *bearer.Rule) { r.Callers = bearer.AppsOnly }), claims.With("sub", "flow@clients", "gty", "client-credentials"), ""},
		"users only, an app":          {with(func(r *bearer.Rule) { r.Callers = bearer.UsersOnly }), claims.With("idtyp", "app"), "insufficient: own token"},
		"an app with a person's":      {base, claims.With("idtyp", "app", "scp", "read"), "unfit: contradicts"},
		"a claim":                     {with(func(r *bearer.Rule) { r.Claims = []string{"dept=sales"} }), claims.With("dept", "sales"), ""},
		"a claim in a list":           {with(func(r *bearer.Rule) { r.Claims = []string{"dept=sales"} }), claims.With("dept", []string{"x", "sales"}), ""},
		"another value":               {with(func(r *bearer.Rule) { r.Claims = []string{"dept=sales"} }), claims.With("dept", "salesmen"), "insufficient: dept"},
		"a claim is missing":          {with(func(r *bearer.Rule) { r.Claims = []string{"dept=null"} }), claims.With("dept", json.RawMessage("null")), "insufficient: dept"},
		"one of two values":           {with(func(r *bearer.Rule) { r.Claims = []string{"dept=a", "dept=b"} }), claims.With("dept", "b"), ""},
		"one of two claims":           {with(func(r *bearer.Rule) { r.Claims = []string{"dept=a", "site=b"} }), claims.With("site", "b"), "insufficient: dept"},
		"a claim inside":              {with(func(r *bearer.Rule) { r.Claims = []string{"realm.roles=x"} }), claims.With("realm", map[string]any{"roles": []string{"x"}}), ""},
		"a name with dots":            {with(func(r *bearer.Rule) { r.Claims = []string{"https://x.y/z=true"} }), claims.With("https://x.y/z", true), ""},
		"an algorithm that is barred": {with(func(r *bearer.Rule) { r.Algorithms = []string{"RS256"} }), claims, "unproved: ES256"},
	} {
		wants(t, what, outcome(t, judge(t, c.rule), i.Key().Sign(c.claims)), c.want)
	}
	who, err := judge(t, base).Judge(t.Context(), i.Key().Sign(claims.With("sub", "a b\né%")))
	if want := "oauth2:a%20b%0A%C3%A9%25@" + strings.TrimPrefix(i.URL, "http://"); err != nil || who.Principal != want || who.Client != "flow" || who.App {
		t.Errorf("%+v, %v; want %s", who, err, want)
	}
}

// TestAlgorithms of every kind of public key count, each with its own.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{oidc.RS256, oidc.PS256, oidc.ES256, oidc.EdDSA} {
		i := oidc.Start(t, oidc.Options{Key: oidc.NewKey(t, alg, "k")})
		j := judge(t, bearer.Rule{Issuer: i.URL, Audience: []string{"a"}})
		wants(t, alg, outcome(t, j, i.Token(oidc.Claims{"aud": "a", "sub": "s"})), "")
	}
}

// TestTokensEndWhileTheyAreKnown: that a token was good a moment ago does not make it last longer, and a token that is good
// costs the issuer nothing.
func TestTokensEndWhileTheyAreKnown(t *testing.T) {
	t.Parallel()
	i := oidc.Start(t, oidc.Options{Key: oidc.NewKey(t, oidc.ES256, "k1")})
	j := judge(t, bearer.Rule{Issuer: i.URL, Audience: []string{"a"}, Leeway: time.Second})
	lasting := i.Token(oidc.Claims{"aud": "a", "sub": "s"})
	short := i.Token(oidc.Claims{"aud": "a", "sub": "s", "exp": time.Now().Add(2 * time.Second).Unix()})
	known := false
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := j.Judge(t.Context(), short)
		if known = known || err == nil; err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the token never ended")
		}
	}
	if !known {
		t.Log("the machine was too slow to see the token while it was good")
	}
	wants(t, "a token that lasts", outcome(t, j, lasting), "")
	i.Down.Store(true)
	before := i.Fetches.Load()
	for range 100 {
		if _, err := j.Judge(t.Context(), lasting); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.Fetches.Load() - before; n != 0 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// TestEntra: both versions of one tenant's tokens, and nobody else's.
func TestEntra(t *testing.T) {
	t.Parallel()
	i := oidc.Start(t, oidc.Options{Tenant: tenant})
	sts := "https://sts.windows.net/" + tenant + "/"
	base := bearer.Rule{Tenant: strings.ToUpper(tenant), Authority: i.Base, Audience: []string{uri, strings.ToUpper(api)}}
	v2 := i.Usual(oidc.Claims{
		"aud": api, "ver": "2.0", "tid": tenant, "azp": app, "oid": person, "sub": "pairwise", "scp": "Orders.Read", "preferred_username": "x@y",
	})
	v1 := v2.With("iss", sts, "aud", uri, "ver", "1.0", "azp", nil, "appid", app)
	own := v2.With("scp", nil, "idtyp", "app", "roles", []string{"Orders.Read.All"}, "oid", app)
	with := func(change func(*bearer.Rule)) bearer.Rule { r := base; change(&r); return r }
	defaultURI := with(func(r *bearer.Rule) { r.Audience = []string{"api://" + api} })
	for what, c := range map[string]struct {
		rule   bearer.Rule
		claims oidc.Claims
		want   string
	}{
		"version 2":                  {base, v2, ""},
		"version 1":                  {base, v1, ""},
		"version 1 for the GUID":     {base, v1.With("aud", api), ""},
		"the default URI, version 2": {defaultURI, v2, ""},
		"the default URI, version 1": {defaultURI, v1.With("aud", "api://"+api), ""},
		"an application's own":       {base, own, ""},
		"another tenant":             {base, v2.With("iss", strings.Replace(i.URL, tenant, other, 1), "tid", other), "unproved: issued by"},
		"another tenant, version 1":  {base, v1.With("iss", "https://sts.windows.net/"+other+"/", "tid", other), "unproved: issued by"},
		"another tenant inside":      {base, v2.With("tid", other), "unfit: tenant"},
		"no tenant inside":           {base, v1.With("tid", nil), "unfit: tenant"},
		"versions mixed":             {base, v2.With("ver", "1.0"), "unfit: version"},
		"versions mixed otherwise":   {base, v1.With("ver", "2.0"), "unfit: version"},
		"no version":                 {base, v2.With("ver", nil), "unfit: version"},
		"for Graph":                  {base, v1.With("aud", "00000003-0000-0000-c000-000000000000"), "unfit: 00000003"},
		"for two":                    {base, v2.With("aud", []string{api, "x"}), "unfit: audiences"},
		"no object":                  {base, v2.With("oid", nil), "unfit: oid"},
		"no application":             {base, v2.With("azp", nil), "unfit: azp"},
		"the other version's azp":    {base, v1.With("appid", nil, "azp", app), "unfit: azp"},
		"a guest":                    {base, v1.With("idp", "https://sts.windows.net/"+other+"/"), "insufficient: guest"},
		"a guest by acct":            {base, v2.With("acct", 1), "insufficient: guest"},
		"a guest by mail":            {base, v1.With("idp", "live.com"), "insufficient: guest"},
		"a guest who may":            {with(func(r *bearer.Rule) { r.Guests = true }), v1.With("idp", "live.com"), ""},
		"a member with idp":          {base, v2.With("idp", sts, "acct", 0), ""},
		"an allowed application":     {with(func(r *bearer.Rule) { r.Clients = []string{strings.ToUpper(app)} }), v1, ""},
		"another application":        {with(func(r *bearer.Rule) { r.Clients = []string{api} }), v2, "insufficient: application"},
		"persons only":               {with(func(r *bearer.Rule) { r.Callers = "user" }), v2, ""},
		"persons only, own":          {with(func(r *bearer.Rule) { r.Callers = "user" }), own, "insufficient: own token"},
		"own, without idtyp":         {with(func(r *bearer.Rule) { r.Callers = "user" }), own.With("idtyp", nil), "insufficient: own token"},
		"applications only":          {with(func(r *bearer.Rule) { r.Callers = "app" }), own, ""},
		"applications only, person":  {with(func(r *bearer.Rule) { r.Callers = "app" }), v2, "insufficient: person"},
		"scope, person":              {with(func(r *bearer.Rule) { r.Scopes = []string{"Orders.Read"} }), v1, ""},
		"scope, own":                 {with(func(r *bearer.Rule) { r.Scopes = []string{"Orders.Read"} }), own, "insufficient: without scopes"},
		"scope or role, own": {with(func(r *bearer.Rule) {
			r.Scopes, r.Roles = []string{"Orders.Read"}, []string{"Orders.Read.All"}
		}), own, ""},
	} {
		wants(t, what, outcome(t, judge(t, c.rule), i.Key().Sign(c.claims)), c.want)
	}
	for _, c := range []struct {
		claims oidc.Claims
		object string
		app    bool
	}{{v1, person, false}, {v2, person, false}, {own, app, true}} {
		who, err := judge(t, base).Judge(t.Context(), i.Key().Sign(c.claims))
		if err != nil || who.Principal != "entra:"+tenant+"/"+c.object || who.Client != app || who.App != c.app {
			t.Errorf("%+v, %v", who, err)
		}
	}
	es := oidc.NewKey(t, oidc.ES256, "es")
	i.Rotate(i.Key(), es)
	wants(t, "ES256 of Entra", outcome(t, judge(t, base), es.Sign(v2)), "unproved: ES256")
}

// TestRules: what is wrong with a rule is said, all at once.
func TestRules(t *testing.T) {
	t.Parallel()
	entra := bearer.Rule{Tenant: tenant, Audience: []string{uri}}
	for want, r := range map[string]bearer.Rule{
		"name who issues":      {Audience: []string{"a"}},
		"name the API":         {Issuer: "https://a.example"},
		"exclude each other":   {Issuer: "https://a.example", Tenant: tenant, Audience: []string{uri}},
		"no address such as":   {Issuer: "http://a.example", Audience: []string{"a"}},
		`"https://u:p@a.b" is`: {Issuer: "https://u:p@a.b", Audience: []string{"a"}},
		`"https://a.b/?x" is`:  {Issuer: "https://a.b/?x", Audience: []string{"a"}},
		"many tenants":         {Issuer: "https://login.microsoftonline.com/common/v2.0", Audience: []string{"a"}},
		"no tenant's GUID":     {Tenant: "contoso.com", Audience: []string{uri}},
		"neither an app":       {Tenant: tenant, Audience: []string{"orders"}},
		"client GUID":          {Tenant: tenant, Audience: []string{uri}, Clients: []string{"flow"}},
		"authority: ":          {Tenant: tenant, Audience: []string{uri}, Authority: "http://login.example"},
		"belongs to entra":     {Issuer: "https://a.example", Audience: []string{"a"}, Authority: "https://x.example"},
		"tell guests":          {Issuer: "https://a.example", Audience: []string{"a"}, Guests: true},
		"given twice":          {Issuer: "https://a.example", Audience: []string{"a", "a"}},
		"not one scope":        {Tenant: tenant, Audience: []string{uri}, Scopes: []string{"a b"}},
		"name=value":           {Tenant: tenant, Audience: []string{uri}, Claims: []string{"dept"}},
		"leeway: 1h":           {Tenant: tenant, Audience: []string{uri}, Leeway: time.Hour},
		`"none" is not one`:    {Tenant: tenant, Audience: []string{uri}, Algorithms: []string{"none"}},
		`"HS256" is not one`:   {Tenant: tenant, Audience: []string{uri}, Algorithms: []string{"RS256", "HS256"}},
		`callers: "x"`:         {Tenant: tenant, Audience: []string{uri}, Callers: "x"},
		"1 to 255 bytes":       {Tenant: tenant, Audience: []string{uri}, Roles: []string{""}},
		"65 of them":           {Tenant: tenant, Audience: []string{uri}, Roles: slices.Repeat([]string{"a"}, 65)},
	} {
		_, bad := r.Normal()
		if len(bad) != 1 || !strings.Contains(bad[0], want) {
			t.Errorf("%+v: %q, want %q", r, bad, want)
		}
	}
	if _, bad := (bearer.Rule{Issuer: "http://127.0.0.1:5/x", Audience: []string{"a"}}).Normal(); bad != nil {
		t.Errorf("an issuer on this machine: %q", bad)
	}
	if r, bad := entra.Normal(); bad != nil || !strings.Contains(r.Note(), "version 2") {
		t.Errorf("%v, %q", bad, r.Note())
	}
	if r, _ := (bearer.Rule{Tenant: tenant, Audience: []string{"api://" + api}}).Normal(); r.Note() != "" {
		t.Error(r.Note())
	}
}

// FuzzJudge: whatever is shown, nothing counts that the issuer's key has not signed, and nothing breaks.
func FuzzJudge(f *testing.F) {
	i := oidc.Start(f, oidc.Options{Key: oidc.NewKey(f, oidc.EdDSA, "k1")})
	r, _ := bearer.Rule{Issuer: i.URL, Audience: []string{"orders"}, Claims: []string{"a.b=c"}}.Normal()
	j := bearer.NewJudge(r, &bearer.Issuers{})
	for _, payload := range []string{`{}`, `{"aud":["a"],"exp":1e9}`, `{"aud":"orders","sub":"s","exp":99999999999,"a":{"b":["c"]}}`, `[`, `{"a":{"a":{}}}`, `{"exp":"1"}`} {
		f.Add(`{"alg":"EdDSA","kid":"k1"}`, payload)
	}
	f.Add(`{"alg":"none"}`, `{}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		payload = strings.Replace(payload, "{", fmt.Sprintf(`{"iss":%q,`, i.URL), 1)
		raw := i.Key().SignRaw([]byte(header), []byte(payload))
		who, err := j.Judge(t.Context(), raw)
		if err == nil && (who.Principal == "" || !json.Valid([]byte(payload))) {
			t.Errorf("%s.%s is accepted as %+v", header, payload, who)
		}
		forged := raw[:strings.LastIndexByte(raw, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
		if _, err := j.Judge(t.Context(), forged); err == nil {
			t.Errorf("%s.%s is accepted without a signature", header, payload)
		}
		j.Explain(t.Context(), raw)
	})
}
