package agent

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/ntlm"
	"sallyport/tunnel"
)

// withPasswords gives the rig an API that demands NTLM and answers with the account that has signed on. logons counts those
// that reached it.
func (r *rig) withPasswords() (logons *atomic.Int64) {
	logons = new(atomic.Int64)
	g := &gate.Gate{
		Verifier: &ntlm.Verifier{
			Computer: "API", Domain: "CORP", Realm: "corp.example", Host: "api.corp.example",
			Lookup: func(user, _ string) (ntlm.Hash, bool) {
				logons.Add(1)
				return ntlm.HashOf("right-" + strings.ToLower(user)), true
			},
		},
		Next: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			id, _ := gate.UserOf(q)
			fmt.Fprintf(w, "%s auth=%q", strings.ToLower(id.User), q.Header.Get("Authorization"))
		}),
	}
	s := httptest.NewUnstartedServer(g)
	s.Config.ConnContext = g.ConnContext
	s.Start()
	r.t.Cleanup(s.Close)
	c := fmt.Sprintf("relay: %s\ngateway: plant1\nlinks: 1\napis:\n  - name: people\n    url: %s\n    auth: {windows: {as: caller-password, protocol: ntlm}}\n    allow:\n      - GET /**\n",
		r.agent.config.Relay, s.URL)
	r.write(c)
	r.again <- struct{}{}
	r.until("the API is offered", func() bool { o := r.offered(); return len(o) > 0 && strings.Contains(o[len(o)-1], "people") })
	return logons
}

func (r *rig) logon(l *tunnel.Link, name, password string) (*tunnel.Response, string) {
	r.t.Helper()
	return r.ask(l, tunnel.Request{
		API: "people", Method: "GET", Target: "/me",
		Header: http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))}},
	})
}

// TestCallersPasswords: each caller is signed on with its own, on connections of its own, and guesses are bounded.
func TestCallersPasswords(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	logons := r.withPasswords()
	if resp, body := r.logon(l, `CORP\ann`, "right-ann"); resp.Status != 200 || !strings.HasPrefix(body, "ann ") || strings.Contains(body, "Basic") {
		t.Fatalf("%d %+v %s", resp.Status, resp.Problem, body)
	}
	refused := func(name, password, code string) *tunnel.Response {
		t.Helper()
		resp, _ := r.logon(l, name, password)
		if resp.Problem == nil || resp.Problem.Code != code || len(resp.Header["Www-Authenticate"]) > 0 {
			t.Errorf("%s: %d %+v %v", name, resp.Status, resp.Problem, resp.Header)
		}
		return resp
	}
	refused(`CORP\ann`, "wrong", "logon-refused") // the connection that the right one has signed on is not hers
	for _, name := range []string{"ann", `\ann`, `CORP\`, "@corp", ""} {
		refused(name, "right-ann", "logon-required")
	}
	refused(`CORP\ann`, "", "logon-required")
	before := logons.Load()
	refused("ANN@corp.example", "wrong", "logon-refused")
	if logons.Load() != before {
		t.Error("the same wrong password was tried again")
	}
	refused(`CORP\ann`, "wrong2", "logon-refused")
	refused(`CORP\ann`, "wrong3", "logon-refused")
	before = logons.Load()
	if p := refused(`CORP\ann`, "wrong4", "logon-resting").Problem; p != nil && p.RetryAfter <= 0 {
		t.Error("it does not say when to come again")
	}
	if logons.Load() != before {
		t.Error("a fourth password was tried")
	}
	if resp, _ := r.logon(l, `CORP\ann`, "right-ann"); resp.Status != 200 {
		t.Errorf("guesses shut out who knows the password: %+v", resp.Problem)
	}
	r.until("both proved calls name the account", func() bool {
		proved := 0
		for _, e := range r.events() {
			switch {
			case e.Status == 200 && e.Principal == `windows:CORP\ann`:
				proved++
			case e.Principal != "":
				t.Fatalf("named without proof: %+v", e)
			}
		}
		return proved == 2
	})
	if strings.Contains(r.log.String(), "right-ann") || strings.Contains(r.log.String(), "wrong2") {
		t.Error("a password is in the log")
	}
}

// TestManyCallers at once: every answer names its own caller.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	r.withPasswords()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			user := fmt.Sprint("user", i%20)
			for range 3 {
				if resp, body := r.logon(l, `CORP\`+user, "right-"+user); resp.Status != 200 || !strings.HasPrefix(body, user+" ") {
					t.Errorf("%s got %d %q %+v", user, resp.Status, body, resp.Problem)
				}
			}
		})
	}
	wg.Wait()
}
