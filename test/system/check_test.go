//go:build linux

package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// 'sallyport-agent check' beside a real relay and a running agent: before joining, when all is well, and when an API has
// another authentication than agent.yaml says.
func TestCheck(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.URL.Path, "/closed") {
			w.Header().Set("WWW-Authenticate", "Negotiate")
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(up.Close)
	b := newBox(t, racy)
	b.startRelay()
	b.configure()
	got, err := b.check()
	if err != nil {
		t.Errorf("before joining: %v", err)
	}
	b.want(got, "identity", "warn", "not joined yet")
	b.want(got, "relay.websocket", "ok", "")
	eventually(t, 30*time.Second, "the relay's log says who opened a WebSocket for nothing", func() bool {
		return strings.Contains(b.logs["relay"].String(), "sallyport-agent check")
	})

	if err := b.join(b.addGateway()); err != nil {
		t.Fatalf("sallyport-agent join: %v", err)
	}
	b.configure(api("orders", up.URL+"/open", "check: GET /x/status/204\n", everything))
	b.startAgent()
	b.publish("orders")
	eventually(t, 30*time.Second, "all links are up", func() bool { // the status is written a moment later
		got, err = b.check()
		return got["links"]["status"] == "ok"
	})
	if err != nil {
		t.Errorf("all is well: %v", err)
	}
	for _, id := range []string{"config", "state", "identity", "relay.dns", "relay.route", "relay.health", "relay.clock", "relay.websocket", "api.orders.auth"} {
		b.want(got, id, "ok", "")
	}
	b.want(got, "api.orders.call", "ok", "200 OK")
	b.want(got, "relay.tls", "warn", "only the authorities of 'ca'")
	b.want(got, "relay.member", "ok", "of gateway plant1")
	b.want(got, "relay.echo", "ok", "link 0 answers, round trip")

	b.configure(api("orders", up.URL+"/closed", "", everything))
	got, err = b.check()
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("an API that asks for Negotiate while auth is none: %v, want exit status 1", err)
	}
	b.want(got, "api.orders.auth", "fail", "asks for Negotiate; auth is none")
	if _, err := b.command("", b.agentEnv, b.bin.agent, "check", "--config", b.path("agent.yaml"), "--api", "nope"); err == nil || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("an unknown API: %v, want exit status 2", err)
	}
}

// check gives the findings by ID, and the command's error.
func (b *box) check() (map[string]map[string]string, error) {
	b.t.Helper()
	out, err := b.command("", b.agentEnv, b.bin.agent, "check", "--json", "--config", b.path("agent.yaml"))
	var list []map[string]string
	if jsonErr := json.Unmarshal(out, &list); jsonErr != nil {
		b.t.Fatalf("check --json: %v, %v\n%s", err, jsonErr, out)
	}
	got := map[string]map[string]string{}
	for _, f := range list {
		got[f["id"]] = f
	}
	return got, err
}

func (b *box) want(got map[string]map[string]string, id, status, found string) {
	b.t.Helper()
	if f := got[id]; f["status"] != status || !strings.Contains(f["found"], found) {
		b.t.Errorf("%s: %s, want %s and %q", id, fmt.Sprint(f), status, found)
	}
}
