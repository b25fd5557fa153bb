//go:build linux

package system

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	entraTenant = "aaaaaaaa-0000-4000-8000-000000000001"
	entraClient = "bbbbbbbb-0000-4000-8000-000000000001"
	entraObject = "cccccccc-0000-4000-8000-000000000001"
	entraRelay  = "dddddddd-0000-4000-8000-000000000001"
)

// An authority has the shapes of Entra's sign-on for one application, with TLS by the box's CA.
type authority struct {
	url    string
	key    *rsa.PrivateKey
	secret string
	life   time.Duration
	down   atomic.Bool
	given  atomic.Int32
}

func newAuthority(b *box, secret string, life time.Duration) *authority {
	b.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.t.Fatal(err)
	}
	a := &authority{key: key, secret: secret, life: life}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":"%[1]s/%[2]s/v2.0","token_endpoint":"%[1]s/%[2]s/oauth2/v2.0/token",`+
			`"authorization_endpoint":"%[1]s/%[2]s/oauth2/v2.0/authorize","jwks_uri":"%[1]s/%[2]s/discovery/v2.0/keys"}`, a.url, q.PathValue("tenant"))
	})
	mux.HandleFunc("GET /{tenant}/discovery/v2.0/keys", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","use":"sig","kid":"k1","n":%q,"e":%q}]}`,
			b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes()))
	})
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", a.token)
	srv := httptest.NewUnstartedServer(mux)
	pair, err := tls.LoadX509KeyPair(b.path("tls.pem"), b.path("tls.key"))
	if err != nil {
		b.t.Fatal(err)
	}
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	b.t.Cleanup(srv.Close)
	a.url = strings.Replace(srv.URL, "127.0.0.1", hostName, 1)
	return a
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token gives the application one to whoever has its secret.
func (a *authority) token(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if a.down.Load() || q.PostFormValue("client_secret") != a.secret || q.PostFormValue("client_id") != entraClient {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}`)
		return
	}
	a.given.Add(1)
	now := time.Now()
	claims, _ := json.Marshal(map[string]any{
		"iss": a.url + "/" + entraTenant + "/v2.0", "aud": entraRelay, "ver": "2.0", "tid": entraTenant, "azp": entraClient,
		"oid": entraObject, "sub": entraObject, "iat": now.Unix(), "exp": now.Add(a.life).Unix(), "roles": []string{"Agent.Link"},
	})
	signing := b64([]byte(`{"alg":"RS256","typ":"JWT","kid":"k1"}`)) + "." + b64(claims)
	sum := sha256.Sum256([]byte(signing))
	sig, _ := rsa.SignPKCS1v15(nil, a.key, crypto.SHA256, sum[:])
	fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":%d,"access_token":%q}`, int(a.life.Seconds()), signing+"."+b64(sig))
}

// TestEntra: an agent without a join signs on with an application's token, renews it while its links stay up, and its links
// end with the token when no more can be had.
func TestEntra(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := newBox(t, racy)
	a := newAuthority(b, b.secret("the application's secret", "s3cret-of-the-application"), 12*time.Second)
	b.extraRelay = fmt.Sprintf("entra: {tenant: %s, audience: [%s], authority: %s}\n", entraTenant, entraRelay, a.url)
	b.relayEnv = []string{"SSL_CERT_FILE=" + b.path("ca.pem")}
	b.startRelay()
	b.addGateway()
	var status struct{ SigningKey string }
	b.admin(&status, "status")
	b.extraAgent = fmt.Sprintf("identity:\n  entra:\n    credential: client-secret\n    tenant: %s\n    client: %s\n    scope: %s/.default\n"+
		"    relay_key: %s\n    secret: entra\n    authority: %s\n", entraTenant, entraClient, entraRelay, status.SigningKey, a.url)
	b.configure(api("web", u.url, "", everything))
	if _, err := b.command(a.secret+"\n", b.agentEnv, b.bin.agent, "secret", "set", "entra", "--config", b.path("agent.yaml")); err != nil {
		t.Fatal(err)
	}
	b.startAgent()
	eventually(t, 30*time.Second, "the agent says that nobody has let it in", func() bool { return b.state().all("refused") })
	b.agent.stop(t)
	b.admin(nil, "gateway", "allow-entra", gatewayName, "--tenant", entraTenant, "--app", entraClient, "--role", "Agent.Link")
	b.startAgent()
	b.publish("web")
	eventually(t, 30*time.Second, "a fresh token is shown over the live link", func() bool {
		return strings.Count(b.logs["relay"].String(), "link proved with a fresh token") >= 4
	})
	if n := strings.Count(b.logs["relay"].String(), "link up"); n != 2 {
		t.Errorf("%d links were dialed, want 2", n)
	}
	list, err := b.tryAdmin("agent", "list")
	if err != nil || !strings.Contains(string(list), "Entra ID") || !strings.Contains(string(list), "up (") {
		t.Errorf("agent list: %v\n%s", err, list)
	}
	a.down.Store(true)
	lost := time.Now()
	eventually(t, 90*time.Second, "the links end with their token", func() bool {
		return strings.Count(b.logs["relay"].String(), "the agent's token has ended") >= 2 && !b.state().all("up")
	})
	if d := time.Since(lost); d > a.life+time.Minute {
		t.Errorf("the links outlived their token: they ended after %s", d)
	}
	a.down.Store(false)
	b.awaitAPI("web")
}
