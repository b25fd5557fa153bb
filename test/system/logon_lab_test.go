//go:build linux

package system

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// failures asks the domain controller's own database how many wrong passwords it has counted for an account.
func (l *lab) failures(t *testing.T, account string) int {
	t.Helper()
	out, err := exec.Command("ldbsearch", "-H", filepath.Join(l.state, "samba/private/sam.ldb"), "(sAMAccountName="+account+")", "badPwdCount").Output()
	if err != nil {
		t.Fatalf("ldbsearch: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, "badPwdCount: "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// logon calls an API with a Windows user name and password, and gives the answer, whom the lab's server saw, and what of it the
// caller gets to see of the sign-on.
func logon(b *box, c *http.Client, api, user, password string) (status int, seen string, h http.Header, err error) {
	q, err := http.NewRequest(http.MethodGet, b.at(api, "/whoami"), nil)
	if err != nil {
		return 0, "", nil, err
	}
	if user != "" {
		q.SetBasicAuth(user, password)
	}
	resp, err := c.Do(q)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if m := remoteUser.FindSubmatch(text); m != nil {
		seen = string(m[1])
	}
	return resp.StatusCode, seen, resp.Header, err
}

// passwordBox is a box whose APIs are called with their callers' own passwords.
func passwordBox(t *testing.T, l *lab, apis ...labAPI) *box {
	t.Helper()
	b := newBox(t, racy)
	b.extraAgent = "kerberos: {config: " + filepath.Join(l.state, "krb5.conf") + "}\n"
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatalf("join: %v", err)
	}
	b.configureLab(l, nil, apis)
	b.startAgent()
	for _, a := range apis {
		b.admin(nil, "connector", "publish", gatewayName+"/"+a.name, "--auth", "windows", "--password-alone")
	}
	eventually(t, 30*time.Second, "the agent is linked", func() bool {
		status, _, _, err := logon(b, b.client(1), apis[0].name, "", "")
		return err == nil && status == http.StatusUnauthorized
	})
	return b
}

const byPassword = "auth: {windows: {as: caller-password%s}}\n"

// TestLabCallersPasswords: the domain judges each caller's own password, by Kerberos and by NTLM, in every spelling of the name.
func TestLabCallersPasswords(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	b := passwordBox(t, l,
		labAPI{name: "neg", url: intranet + "/negotiate", auth: fmt.Sprintf(byPassword, "")},
		labAPI{name: "kerb", url: plain + "/kerb", auth: fmt.Sprintf(byPassword, ", protocol: kerberos")},
		labAPI{name: "ntlm", url: epaServer + "/ntlm", auth: fmt.Sprintf(byPassword, ", protocol: ntlm")},
		labAPI{name: "epa", url: epaServer + "/epa-require", auth: fmt.Sprintf(byPassword, "")},
		labAPI{name: "bound", url: epaServer + "/persist", auth: fmt.Sprintf(byPassword, "")})
	for _, c := range []struct{ api, user, account, seen string }{
		{"neg", `CORP\alice`, "alice", "alice"},
		{"neg", "alice@corp.example", "alice", "alice"},
		{"neg", "robert.brown@corp.example", "bob", "bob"},
		{"neg", "carol@corp-mail.example", "carol", "carol"},
		{"neg", `CORP\zoë`, "zoë", "zo"},
		{"kerb", `corp.example\alice`, "alice", "alice"},
		{"kerb", `CORP\heidi`, "heidi", "heidi"},
		{"ntlm", `CORP\alice`, "alice", "alice"},
		{"ntlm", "robert.brown@corp.example", "bob", "bob"},
		{"epa", `CORP\bob`, "bob", "bob"},
	} {
		password := l.accounts[c.account].Password
		b.secret("the password of "+c.account, password)
		status, seen, _, err := logon(b, b.client(1), c.api, c.user, password)
		_, short, down := strings.Cut(seen, `\`)
		if !down {
			short = seen
		}
		if err != nil || status != http.StatusOK || !strings.HasPrefix(strings.ToLower(short), c.seen) {
			t.Errorf("%s at %s: %d as %q, %v", c.user, c.api, status, seen, err)
		}
	}
	for _, c := range []struct{ what, user, password string }{
		{"disabled", `CORP\dave`, l.accounts["dave"].Password},
		{"must change the password", `CORP\erin`, l.accounts["erin"].Password},
		{"expired", `CORP\grace`, l.accounts["grace"].Password},
		{"unknown", `CORP\nobody`, "anything"},
		{"another domain", `OTHER.EXAMPLE\alice`, l.accounts["alice"].Password},
	} {
		status, seen, h, err := logon(b, b.client(1), "kerb", c.user, c.password)
		if err != nil || status == http.StatusOK || seen != "" || c.what != "another domain" && (status != http.StatusUnauthorized ||
			!strings.HasPrefix(h.Get("WWW-Authenticate"), "Basic ")) {
			t.Errorf("%s: %d as %q, %v", c.what, status, seen, err)
		}
	}
	// A connection that a right password has signed on serves no wrong one, and a right one again.
	alice := l.accounts["alice"].Password
	for _, api := range []string{"bound", "ntlm", "neg"} {
		for range 2 {
			if status, seen, _, err := logon(b, b.client(1), api, `CORP\alice`, alice); err != nil || status != 200 || !strings.Contains(strings.ToLower(seen), "alice") {
				t.Errorf("%s: %d as %q, %v", api, status, seen, err)
			}
			if status, seen, _, err := logon(b, b.client(1), api, `CORP\alice`, "wrong for alice"); err != nil || status != 401 || seen != "" {
				t.Errorf("%s with a wrong password: %d as %q, %v", api, status, seen, err)
			}
		}
	}
	b.noSecretsInProcesses()
}

// TestLabPasswordsAreNotGuessed: whatever is guessed through the agent, three failures of an account reach the domain at most,
// and its owner gets in meanwhile.
func TestLabPasswordsAreNotGuessed(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	b := passwordBox(t, l,
		labAPI{name: "neg", url: intranet + "/negotiate", auth: fmt.Sprintf(byPassword, "")},
		labAPI{name: "ntlm", url: epaServer + "/ntlm", auth: fmt.Sprintf(byPassword, ", protocol: ntlm")},
		labAPI{name: "own", url: plain + "/kerb", auth: l.service()})
	out, _ := b.command("", b.agentEnv, b.bin.agent, "check", "--json", "--api", "ntlm", "--config", b.path("agent.yaml"))
	if !strings.Contains(string(out), "after 10 wrong passwords within 45m0s; each agent lets 6 through; so up to 1 agents") || !strings.Contains(string(out), "asked as svc-gw@CORP.EXAMPLE") {
		t.Errorf("check does not say when the domain locks accounts: %s", out)
	}
	for api, account := range map[string]string{"neg": "person15", "ntlm": "person16"} {
		right := l.accounts[account].Password
		if status, seen, _, err := logon(b, b.client(1), api, `CORP\`+account, right); err != nil || status != 200 {
			t.Fatalf("%s: %d as %q, %v", account, status, seen, err)
		}
		before := l.failures(t, account)
		counts := map[int]int{}
		var mu sync.Mutex
		var group sync.WaitGroup
		for n := range 12 {
			group.Go(func() {
				user := []string{`CORP\` + account, account + "@corp.example", strings.ToUpper(account) + "@CORP.EXAMPLE"}[n%3]
				status, seen, h, err := logon(b, b.client(1), api, user, fmt.Sprintf("guess %d", n/2))
				mu.Lock()
				defer mu.Unlock()
				counts[status]++
				if err != nil || seen != "" || status == 429 && h.Get("Retry-After") == "" {
					t.Errorf("guess %d: %d as %q, %v", n, status, seen, err)
				}
			})
		}
		group.Wait()
		if counts[401]+counts[429] != 12 || counts[429] == 0 {
			t.Errorf("%s: answers %v", api, counts)
		}
		if got := l.failures(t, account) - before; got > 3 {
			t.Errorf("%s: %d failed logons of %s reached the domain", api, got, account)
		}
		// The relay slows the address of who guesses for some seconds. The owner, who shares it here, is let in inside.
		eventually(t, 2*time.Minute, account+"'s owner is let in", func() bool {
			status, _, h, err := logon(b, b.client(1), api, `CORP\`+account, right)
			if err == nil && status == http.StatusTooManyRequests && h.Get("Retry-After") != "1" {
				wait, _ := strconv.Atoi(h.Get("Retry-After"))
				time.Sleep(time.Duration(min(wait, 30)) * time.Second)
			}
			return err == nil && status == http.StatusOK
		})
	}
}
