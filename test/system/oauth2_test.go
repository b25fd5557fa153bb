//go:build linux

package system

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/oidc"
)

const entraPerson = "eeeeeeee-0000-4000-8000-000000000001"

// issuerOf is an issuer under the box's name and CA; with a tenant it has Entra's shapes.
func issuerOf(b *box, o oidc.Options) *oidc.Issuer {
	b.t.Helper()
	pair, err := tls.LoadX509KeyPair(b.path("tls.pem"), b.path("tls.key"))
	if err != nil {
		b.t.Fatal(err)
	}
	o.TLS, o.Host = &tls.Config{Certificates: []tls.Certificate{pair}}, hostName
	return oidc.Start(b.t, o)
}

// callWith calls an API with an Authorization field, and gives status, problem code and the headers that the upstream saw.
func (b *box) callWith(client *http.Client, name, authorization string, more ...string) (status int, code string, seen http.Header) {
	b.t.Helper()
	q, err := http.NewRequest(http.MethodGet, b.at(name, "/headers"), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if authorization != "" {
		q.Header.Set("Authorization", authorization)
	}
	for i := 0; i < len(more); i += 2 {
		q.Header.Add(more[i], more[i+1])
	}
	resp, err := client.Do(q)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	var body struct {
		Headers http.Header           `json:"headers"`
		Error   struct{ Code string } `json:"error"`
	}
	_ = json.Unmarshal(text, &body)
	return resp.StatusCode, body.Error.Code, body.Headers
}

// TestOAuth2Callers: tokens of a tenant in both versions call through the whole product, and no other token does. The token
// reaches no API but one that takes its callers' own, and is written nowhere.
func TestOAuth2Callers(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := newBox(t, racy)
	i := issuerOf(b, oidc.Options{Tenant: entraTenant})
	i.Down.Store(true) // at the relay's start
	b.relayEnv = []string{"SSL_CERT_FILE=" + b.path("ca.pem")}
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatal(err)
	}
	b.configure(api("web", u.url, "", everything), api("own", u.url, "auth: passthrough", everything))
	b.startAgent()
	rule := []string{"--entra-tenant", entraTenant, "--authority", i.Base, "--audience", "api://" + entraRelay}
	b.admin(nil, append([]string{"connector", "publish", gatewayName + "/web", "--auth", "key,oauth2", "--scope", "Orders.Read", "--role", "Orders.All"}, rule...)...)
	b.admin(nil, append([]string{"connector", "publish", gatewayName + "/own", "--auth", "oauth2"}, rule...)...)
	key := b.addKey("web", "first")

	v2 := i.Usual(oidc.Claims{
		"aud": entraRelay, "ver": "2.0", "tid": entraTenant, "azp": entraClient, "oid": entraPerson, "sub": "s", "scp": "Orders.Read Orders.Write",
	})
	v1 := v2.With("iss", "https://sts.windows.net/"+entraTenant+"/", "aud", "api://"+entraRelay, "ver", "1.0", "azp", nil, "appid", entraClient)
	own := v2.With("scp", nil, "idtyp", "app", "roles", []string{"Orders.All"}, "oid", entraObject)
	good := b.secret("the person's token", i.Key().Sign(v2))
	client := b.client(1)
	eventually(t, 30*time.Second, "the outage is told", func() bool {
		status, code, _ := b.callWith(client, "own", "Bearer "+good)
		return status == 503 && code == "issuer-unreachable"
	})
	if status, _, _ := b.callWith(client, "web", "", "X-API-Key", key); status != 200 {
		eventually(t, 30*time.Second, "keys count in the issuer's outage", func() bool {
			status, _, _ := b.callWith(client, "web", "", "X-API-Key", key)
			return status == 200
		})
	}
	i.Down.Store(false)
	eventually(t, time.Minute, "the issuer's keys are known", func() bool {
		status, _, _ := b.callWith(client, "web", "Bearer "+good)
		return status == 200
	})

	forger := oidc.NewKey(t, oidc.RS256, i.Key().ID)
	head := oidc.Claims{"typ": "JWT", "alg": "RS256", "kid": "k1"}
	for what, c := range map[string]struct {
		raw    string
		status int
		code   string
	}{
		"version 2":                 {good, 200, ""},
		"version 1":                 {i.Key().Sign(v1), 200, ""},
		"an application's own":      {i.Key().Sign(own), 200, ""},
		"expired":                   {i.Key().Sign(v2.With("exp", time.Now().Add(-time.Hour).Unix())), 401, "token-refused"},
		"not yet valid":             {i.Key().Sign(v2.With("nbf", time.Now().Add(time.Hour).Unix())), 401, "token-refused"},
		"without an end":            {i.Key().Sign(v2.With("exp", nil)), 401, "token-refused"},
		"for another API":           {i.Key().Sign(v1.With("aud", "https://graph.microsoft.com")), 401, "token-refused"},
		"of another tenant":         {i.Key().Sign(v2.With("tid", entraClient)), 401, "token-refused"},
		"a guest's":                 {i.Key().Sign(v1.With("idp", "live.com")), 403, "token-insufficient"},
		"without the scope":         {i.Key().Sign(v2.With("scp", "Orders.Write")), 403, "token-insufficient"},
		"without the role":          {i.Key().Sign(own.With("roles", nil)), 403, "token-insufficient"},
		"forged":                    {forger.Sign(v2), 401, "token-refused"},
		"unsigned":                  {oidc.Unsigned(head.With("alg", "none"), v2), 401, "token-refused"},
		"HS256 with the public key": {oidc.HMAC(i.Key().PublicPEM(), head.With("alg", "HS256"), v2), 401, "token-refused"},
		"of an unknown key":         {i.Key().SignHeader(head.With("kid", "k7"), v2), 401, "token-refused"},
		"huge":                      {i.Key().Sign(v2.With("x", strings.Repeat("x", 20_000))), 401, "token-refused"},
		"a claim twice":             {i.Key().SignRaw([]byte(`{"alg":"RS256","kid":"k1"}`), []byte(`{"aud":"`+entraRelay+`","aud":"x"}`)), 401, "token-refused"},
	} {
		status, code, seen := b.callWith(client, "web", "Bearer "+c.raw)
		if status != c.status || code != c.code || seen.Get("Authorization") != "" {
			t.Errorf("%s: %d %s, the API saw %q", what, status, code, seen.Get("Authorization"))
		}
	}
	if _, _, seen := b.callWith(client, "own", "Bearer "+good); seen.Get("Authorization") != "Bearer "+good {
		t.Errorf("an API that takes its callers' own credentials saw %q", seen.Get("Authorization"))
	}
	b.rotateUnderCalls(i, v2)
	b.exportOfAnIssuer()
	b.checkTokens(i, v2)

	eventually(t, 30*time.Second, "the calls are on record", func() bool {
		return strings.Contains(b.logs["relay"].String(), `"principal":"entra:`+entraTenant+"/"+entraPerson+`","client":"`+entraClient+`"`)
	})
	eventually(t, 30*time.Second, "the command shows who called", func() bool {
		out, err := b.tryAdmin("log")
		return err == nil && strings.Contains(string(out), " key=- by=entra:"+entraTenant+"/"+entraPerson+" from=127.0.0.1")
	})
	b.noSecretsInProcesses()
}

// exportOfAnIssuer makes a connector's files, for which the relay asks the issuer where tokens come from; key and token are
// demanded together.
func (b *box) exportOfAnIssuer() {
	b.t.Helper()
	i := issuerOf(b, oidc.Options{Key: oidc.NewKey(b.t, oidc.ES256, "e1")})
	b.admin(nil, "connector", "publish", gatewayName+"/web", "--name", "erp", "--auth", "key+oauth2", "--issuer", i.URL, "--audience", "erp")
	key := b.addKey("erp", "only")
	token := b.secret("a token of the issuer's", i.Token(oidc.Claims{"aud": "erp", "sub": "jane"}))
	client := b.client(2)
	for what, c := range map[string]struct {
		authorization, key string
		status             int
	}{
		"both": {"Bearer " + token, key, 200}, "no key": {"Bearer " + token, "", 401}, "no token": {"", key, 401},
	} {
		if status, code, _ := b.callWith(client, "erp", c.authorization, "X-API-Key", c.key); status != c.status {
			b.t.Errorf("%s: %d %s, want %d", what, status, code, c.status)
		}
	}
	b.admin(nil, "connector", "export", gatewayName+"/erp", "--out", b.path("files"))
	properties, err := os.ReadFile(b.path("files/apiProperties.json"))
	for _, want := range []string{i.URL + "/authorize", i.URL + "/token", `"api_key"`, `"setheader"`} {
		if err != nil || !strings.Contains(string(properties), want) {
			b.t.Errorf("apiProperties.json lacks %s: %v\n%s", want, err, properties)
		}
	}
}

// rotateUnderCalls has the issuer change its key under callers that get a fresh token for each call, and fall silent after.
func (b *box) rotateUnderCalls(i *oidc.Issuer, claims oidc.Claims) {
	b.t.Helper()
	client := b.client(1)
	next := oidc.NewKey(b.t, oidc.RS256, "k2")
	var wg sync.WaitGroup
	half := make(chan struct{})
	for worker := range 4 {
		wg.Go(func() {
			for n := range 40 {
				if n == 20 {
					if worker == 0 {
						i.Rotate(next, i.Key()) // the old one stays published for a while, as issuers do
						close(half)
					} else {
						<-half
					}
				}
				raw := i.Key().Sign(claims.With("jti", fmt.Sprint(worker, n)))
				if status, code, _ := b.callWith(client, "web", "Bearer "+raw); status != 200 {
					b.t.Errorf("call %d of caller %d: %d %s", n, worker, status, code)
				}
			}
		})
	}
	wg.Wait()
	i.Down.Store(true)
	defer i.Down.Store(false)
	if status, code, _ := b.callWith(client, "web", "Bearer "+next.Sign(claims)); status != 200 {
		b.t.Errorf("in an outage, by a known key: %d %s", status, code)
	}
}

// checkTokens asks the command what it makes of tokens; they go by standard input.
func (b *box) checkTokens(i *oidc.Issuer, claims oidc.Claims) {
	b.t.Helper()
	check := func(raw string) (string, error) {
		out, err := b.command(raw+"\n", nil, b.bin.relay, "connector", "check-token", gatewayName+"/web", "--config", b.path("relay.yaml"))
		return string(out), err
	}
	out, err := check("Bearer " + i.Key().Sign(claims))
	if err != nil || !strings.Contains(out, "accepts the token") || !strings.Contains(out, "entra:"+entraTenant+"/"+entraPerson+", a person") {
		b.t.Errorf("a good token: %v\n%s", err, out)
	}
	out, err = check(i.Key().Sign(claims.With("aud", "https://graph.microsoft.com", "scp", "User.Read")))
	for _, want := range []string{"audience", `REFUSED  it is for "https://graph.microsoft.com"`, "the scope Orders.Read is missing", "signature  ok"} {
		if err == nil || !strings.Contains(out, want) {
			b.t.Errorf("a token for Graph: %v, want %q\n%s", err, want, out)
		}
	}
}
