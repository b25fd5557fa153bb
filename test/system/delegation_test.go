//go:build linux

package system

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/oidc"
)

// actFor gives the auth lines of an API that is called in the caller's own name.
func (l *lab) actFor(account, more string) string {
	return fmt.Sprintf("auth: {windows: {as: caller, keytab: %s, principal: %s@CORP.EXAMPLE%s}}\n",
		filepath.Join(l.keytabs, account+".keytab"), account, more)
}

// sid asks the domain controller's own tool for an account's SID.
func (l *lab) sid(t *testing.T, account string) string {
	t.Helper()
	out, err := exec.Command("wbinfo", "--name-to-sid", `CORP\`+account).CombinedOutput()
	sid, _, _ := strings.Cut(string(out), " ")
	if err != nil || !strings.HasPrefix(sid, "S-1-5-21-") {
		t.Fatalf("wbinfo: %v: %s", err, out)
	}
	return sid
}

// people is a box whose APIs are called in the name of those whom tokens of the issuer prove.
func people(t *testing.T, l *lab, apis ...labAPI) (*box, *oidc.Issuer) {
	t.Helper()
	b := newBox(t, racy)
	i := issuerOf(b, oidc.Options{Tenant: entraTenant})
	b.relayEnv = []string{"SSL_CERT_FILE=" + b.path("ca.pem")}
	b.extraAgent = "kerberos: {config: " + filepath.Join(l.state, "krb5.conf") + "}\n" +
		fmt.Sprintf("callers: {entra: {tenant: %s, authority: %q}, audience: [%s]}\n", entraTenant, i.Base, entraRelay)
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatal(err)
	}
	b.configureLab(l, nil, apis)
	b.startAgent()
	for _, a := range apis {
		b.admin(nil, "connector", "publish", gatewayName+"/"+a.name, "--auth", "oauth2", "--entra-tenant", entraTenant, "--authority", i.Base,
			"--audience", entraRelay)
	}
	eventually(t, 30*time.Second, "the agent is linked", func() bool {
		status, _, _, err := asWhom(b, b.client(1), apis[0].name, personOf(i))
		return err == nil && status == http.StatusForbidden // the token names nobody
	})
	return b, i
}

// personOf is the token of a person inside.
func personOf(i *oidc.Issuer, more ...any) string {
	return "Bearer " + i.Key().Sign(i.Usual(oidc.Claims{
		"aud": entraRelay, "ver": "2.0", "tid": entraTenant, "azp": entraClient, "oid": entraPerson, "sub": "s", "scp": "Orders.Read",
	}).With(more...))
}

var remoteUser = regexp.MustCompile(`(?m)^REMOTE_USER=(.*)$`)

// asWhom calls, and gives the status, whom the lab's server saw, and the problem's code.
func asWhom(b *box, c *http.Client, api, token string) (status int, user, code string, err error) {
	q, err := http.NewRequest(http.MethodGet, b.at(api, "/whoami"), nil)
	if err != nil {
		return 0, "", "", err
	}
	if token != "" {
		q.Header.Set("Authorization", token)
	}
	resp, err := c.Do(q)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if m := remoteUser.FindSubmatch(text); m != nil {
		user = string(m[1])
	}
	var problem struct{ Error struct{ Code string } }
	_ = json.Unmarshal(text, &problem)
	return resp.StatusCode, user, problem.Error.Code, err
}

// TestLabActsForCallers: a token's person, and nobody else, is whom the API sees; who is not to be acted for is refused.
func TestLabActsForCallers(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	group := l.sid(t, "intranet-users")
	b, i := people(t, l,
		labAPI{name: "kerb", url: plain + "/kerb", auth: l.actFor("svc-gw", "") + "check: GET /whoami\n"},
		labAPI{name: "neg", url: intranet + "/negotiate", auth: l.actFor("svc-gw", "")},
		labAPI{name: "epa", url: epaServer + "/epa-require", auth: l.actFor("svc-gw", "")},
		labAPI{name: "some", url: plain + "/kerb", auth: l.actFor("svc-gw", `, callers: {allow_groups: ["CORP\\intranet-users"], upn_suffixes: [corp.example]}`)},
		labAPI{name: "others", url: plain + "/kerb", auth: l.actFor("svc-gw", ", callers: {deny_groups: ["+group+"]}")},
		labAPI{name: "typo", url: plain + "/kerb", auth: l.actFor("svc-gw", ", callers: {deny_groups: [no-such-group]}")},
		labAPI{name: "unlisted", url: plain + "/kerb", auth: l.actFor("svc-gw", ", spn: HTTP/proxy.corp.example")},
		labAPI{name: "upn", url: plain + "/kerb", auth: "auth: {windows: {as: caller, account: svc-gw@corp.example, secret: svc-gw}}\n"},
		labAPI{name: "netbios", url: plain + "/kerb", auth: "auth: {windows: {as: caller, account: 'CORP\\svc-gw', secret: svc-gw}}\n"},
		labAPI{name: "untrusted", url: plain + "/kerb", auth: l.actFor("svc-gw-kerb", "")},
	)
	alice, bob := l.sid(t, "alice"), l.sid(t, "bob")
	upn := func(v string) string { return personOf(i, "upn", v) }
	for _, c := range []struct {
		name, api, token, user, code string
		status                       int
	}{
		{"a UPN", "kerb", upn("alice@corp.example"), "alice", "", 200},
		{"a UPN that is not the account's name", "kerb", upn("robert.brown@corp.example"), "bob", "", 200},
		{"a UPN of another suffix", "neg", upn("carol@corp-mail.example"), "carol", "", 200},
		{"a name beyond ASCII", "kerb", upn("zoë@corp.example"), "zo", "", 200},
		{"900 groups", "kerb", upn("heidi@corp.example"), "heidi", "", 200},
		{"an account's password in place of a keytab", "upn", upn("robert.brown@corp.example"), "bob", "", 200},
		{"the same, by its NetBIOS name", "netbios", upn("alice@corp.example"), "alice", "", 200},
		{"channel binding", "epa", upn("alice@corp.example"), "alice", "", 200},
		{"a SID alone", "kerb", personOf(i, "onprem_sid", alice), "alice", "", 200},
		{"a SID and a UPN that was another's", "kerb", personOf(i, "onprem_sid", bob, "upn", "alice@corp.example"), "bob", "", 200},
		{"a SID and a UPN of the cloud alone", "kerb", personOf(i, "onprem_sid", bob, "upn", "bob@cloud.example"), "bob", "", 200},
		{"in the group", "some", upn("alice@corp.example"), "alice", "", 200},
		{"not in the group", "some", upn("heidi@corp.example"), "", "person-refused", 403},
		{"another suffix", "some", upn("carol@corp-mail.example"), "", "person-refused", 403},
		{"in a denied group", "others", upn("alice@corp.example"), "", "person-refused", 403},
		{"not in the denied group", "others", upn("heidi@corp.example"), "heidi", "", 200},
		{"a group that is not there", "typo", upn("alice@corp.example"), "", "upstream-auth", 502},
		{"unknown", "kerb", upn("nobody@corp.example"), "", "person-refused", 403},
		{"an account's name is no UPN", "kerb", upn("bob@corp.example"), "", "person-refused", 403},
		{"disabled", "kerb", upn("dave@corp.example"), "", "person-refused", 403},
		{"expired", "kerb", upn("grace@corp.example"), "", "person-refused", 403},
		{"sensitive", "kerb", upn("frank@corp.example"), "", "person-refused", 403},
		{"an administrator", "kerb", upn("adele@corp.example"), "", "person-refused", 403},
		{"a SID of nobody", "kerb", personOf(i, "onprem_sid", alice+"99"), "", "person-refused", 403},
		{"no name", "kerb", personOf(i, "preferred_username", "alice@corp.example"), "", "no-identity", 403},
		{"an application", "kerb", personOf(i, "scp", nil, "idtyp", "app", "oid", entraObject, "upn", "alice@corp.example"), "", "no-identity", 403},
		{"no right towards the service", "unlisted", upn("alice@corp.example"), "", "upstream-auth", 502},
		{"no right to act for anybody", "untrusted", upn("alice@corp.example"), "", "upstream-auth", 502},
	} {
		status, user, code, err := asWhom(b, b.client(1), c.api, c.token)
		if err != nil || status != c.status || code != c.code || c.user == "" && user != "" || c.user != "" && !strings.HasPrefix(strings.ToLower(user), c.user) {
			t.Errorf("%s: %d %q as %q, %v; want %d %q as %q", c.name, status, code, user, err, c.status, c.code, c.user)
		}
	}
	if status, user, _, _ := asWhom(b, b.client(1), "kerb", ""); status != 401 || user != "" {
		t.Errorf("without a token: %d as %q", status, user)
	}
	for person, want := range map[string]string{
		"robert.brown@corp.example": `"200 OK as bob@CORP.EXAMPLE by kerberos"`, bob: `"200 OK as bob@CORP.EXAMPLE by kerberos"`,
		"frank@corp.example": "sensitive and cannot be delegated", "": "name one with --caller",
	} {
		out, _ := b.command("", b.agentEnv, b.bin.agent, "check", "--json", "--api", "kerb", "--caller", person, "--config", b.path("agent.yaml"))
		if !strings.Contains(string(out), want) {
			t.Errorf("check --caller %q does not say %q: %s", person, want, out)
		}
	}
	for api, want := range map[string]string{"kerb": "it signs on, and may act for callers", "upn": "own Kerberos", "untrusted": "Use any authentication protocol"} {
		out, _ := b.command("", b.agentEnv, b.bin.agent, "check", "--json", "--api", api, "--config", b.path("agent.yaml"))
		if !strings.Contains(string(out), `"api.`+api+`.delegation"`) || !strings.Contains(string(out), want) {
			t.Errorf("check of %s does not say %q: %s", api, want, out)
		}
	}
	log := b.logs["agent"].String()
	for _, reason := range []string{"sensitive and cannot be delegated", "Domain Admins", "upn_suffixes", "allow_groups", "deny_groups", "msDS-AllowedToDelegateTo", "Use any authentication protocol"} {
		if !strings.Contains(log, reason) {
			t.Errorf("the agent's log does not say %q", reason)
		}
	}
}

// TestLabCrowd: 64 callers at once, of 20 people, over one agent: every answer names its own caller.
func TestLabCrowd(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	b, i := people(t, l,
		labAPI{name: "kerb", url: plain + "/kerb", auth: l.actFor("svc-gw", "")},
		labAPI{name: "neg", url: intranet + "/negotiate", auth: l.actFor("svc-gw", "")},
		// It signs the connection on and says so: later requests on it carry no token.
		labAPI{name: "bound", url: epaServer + "/persist", auth: l.actFor("svc-gw", "")})
	names := map[string]string{"alice": "alice@corp.example", "bob": "robert.brown@corp.example", "carol": "carol@corp-mail.example", "lockme": "lockme@corp.example"}
	for n := range 16 {
		name := fmt.Sprintf("person%02d", n+1)
		names[name] = name + "@corp.example"
	}
	type person struct{ name, token string }
	var all []person
	for name, upn := range names {
		all = append(all, person{name, personOf(i, "upn", upn)})
	}
	// One after the other first, so that each finds connections idle that were signed on as somebody else.
	for range 3 {
		for _, p := range all {
			status, user, code, err := asWhom(b, b.client(1), "bound", p.token)
			if err != nil || status != http.StatusOK || !strings.HasPrefix(strings.ToLower(user), p.name+"@") {
				t.Fatalf("%s: %d %q as %q, %v", p.name, status, code, user, err)
			}
		}
	}
	var group sync.WaitGroup
	for n := range 64 {
		group.Go(func() {
			c := b.client(1 + n%2)
			for round := range 6 {
				p, api := all[(n*7+round*3)%len(all)], []string{"kerb", "neg", "bound"}[(n+round)%3]
				status, user, code, err := asWhom(b, c, api, p.token)
				if err != nil || status != http.StatusOK || !strings.HasPrefix(strings.ToLower(user), p.name+"@") {
					t.Errorf("%s at %s: %d %q as %q, %v", p.name, api, status, code, user, err)
					return
				}
			}
		})
	}
	group.Wait()
	b.noSecretsInProcesses()
}
