//go:build linux

package system

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/test/oidc"
)

const (
	entraTenant = "aaaaaaaa-0000-4000-8000-000000000001"
	entraClient = "bbbbbbbb-0000-4000-8000-000000000001"
	entraObject = "cccccccc-0000-4000-8000-000000000001"
	entraRelay  = "dddddddd-0000-4000-8000-000000000001"
)

// An authority has the shapes of Entra's sign-on for one application, with TLS by the box's CA.
type authority struct {
	*oidc.Issuer
	secret string
	life   time.Duration
	down   atomic.Bool // it gives no tokens
	given  atomic.Int32
}

func newAuthority(b *box, secret string, life time.Duration) *authority {
	b.t.Helper()
	a := &authority{secret: secret, life: life}
	a.Issuer = issuerOf(b, oidc.Options{Tenant: entraTenant, Token: a.token})
	return a
}

// token gives the application one to whoever has its secret. It is good for no less than expires_in says, as Entra's are.
func (a *authority) token(w http.ResponseWriter, q *http.Request) {
	if a.down.Load() || q.PostFormValue("client_secret") != a.secret || q.PostFormValue("client_id") != entraClient {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}`)
		return
	}
	a.given.Add(1)
	fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":%d,"access_token":%q}`, int(a.life.Seconds()), a.Token(oidc.Claims{
		"aud": entraRelay, "ver": "2.0", "tid": entraTenant, "azp": entraClient, "oid": entraObject, "sub": entraObject,
		"exp": time.Now().Add(a.life + time.Second).Unix(), "roles": []string{"Agent.Link"},
	}))
}

// TestEntra: an agent without a join signs on with an application's token, renews it while its links stay up, and its links
// end with the token when no more can be had. Its record is anchored as that of an agent with a key.
func TestEntra(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := newBox(t, racy)
	a := newAuthority(b, b.secret("the application's secret", "s3cret-of-the-application"), 12*time.Second)
	b.extraRelay = fmt.Sprintf("entra: {tenant: %s, audience: [%s], authority: %s}\n", entraTenant, entraRelay, a.Base)
	b.relayEnv = []string{"SSL_CERT_FILE=" + b.path("ca.pem")}
	b.startRelay()
	b.addGateway()
	var status struct{ SigningKey string }
	b.admin(&status, "status")
	b.extraAgent = fmt.Sprintf("identity:\n  entra:\n    credential: client-secret\n    tenant: %s\n    client: %s\n    scope: %s/.default\n"+
		"    relay_key: %s\n    secret: entra\n    authority: %s\n", entraTenant, entraClient, entraRelay, status.SigningKey, a.Base)
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
	var agents []struct{ ID string }
	b.admin(&agents, "agent", "list")
	if len(agents) != 1 {
		t.Fatalf("agents: %+v", agents)
	}
	b.recordIsAnchored(agents[0].ID)
}
