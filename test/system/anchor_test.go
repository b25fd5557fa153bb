//go:build linux

package system

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRecordIsAnchored: the relay signs how far the agent's record goes. TestEntra has the same of an agent without a key of its own.
func TestRecordIsAnchored(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	b.recordIsAnchored(b.state().Agent)
}

// recordIsAnchored sees that there are receipts from the running agent's start and its end, and that a record that was cut or put
// back is found by what the relay holds, and by the relay itself when that agent comes back, whose admins see it. The agent is
// the relay's id; its API is "web".
func (b *box) recordIsAnchored(id string) {
	t := b.t
	t.Helper()
	type receipt struct {
		N    uint64 `json:"n"`
		Hash string `json:"h"`
	}
	receipts := func() (all []receipt) { b.admin(&all, "agent", "receipts", id); return all }
	eventually(t, 30*time.Second, "the start is anchored", func() bool { return len(receipts()) > 0 })
	early := b.path("early")
	if err := os.CopyFS(early, os.DirFS(b.path("agent"))); err != nil {
		t.Fatal(err)
	}
	tighten(t, early)
	if resp, err := b.client(1).Get(b.at("web", "/x/status/204")); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%v, %v", resp, err)
	}
	first := len(receipts())
	b.agent.stop(t)
	if n := len(receipts()); n <= first {
		t.Errorf("%d receipts after the agent has stopped, %d before", n, first)
	}
	text, err := b.tryAdmin("agent", "receipts", id, "--json")
	if err != nil {
		t.Fatal(err)
	}
	file := b.path("receipts.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var rep struct{ Last, Anchored, Unanchored uint64 }
	verify := func(args ...string) error {
		out, err := b.command("", b.agentEnv, b.bin.agent, append([]string{"audit", "verify", "--json", "--config", b.path("agent.yaml")}, args...)...)
		if jsonErr := json.Unmarshal(out, &rep); jsonErr != nil {
			t.Fatalf("%v: %s", jsonErr, out)
		}
		return err
	}
	for _, args := range [][]string{nil, {"--receipts", file}} {
		if err := verify(args...); err != nil || rep.Anchored == 0 || rep.Unanchored != rep.Last-rep.Anchored || rep.Unanchored > 6 {
			t.Errorf("%v: %v, %+v; want it anchored nearly to its end", args, err, rep)
		}
	}
	if err := verify("--state", early); err != nil {
		t.Errorf("the early copy in itself: %v", err)
	}
	if err := verify("--state", early, "--receipts", file); err == nil || !strings.Contains(err.Error(), "are missing at the end: the relay gave a receipt") {
		t.Errorf("the early copy against the relay's receipts: %v", err)
	}
	if err := os.Rename(b.path("agent"), b.path("late")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(early, b.path("agent")); err != nil {
		t.Fatal(err)
	}
	b.startAgent()
	eventually(t, 30*time.Second, "the agent is told", func() bool {
		return strings.Contains(b.logs["agent"].String(), "the relay refuses the head of this agent's record")
	})
	eventually(t, 30*time.Second, "admins are told", func() bool {
		out, err := b.tryAdmin("log", "--kind", "admin", "--json")
		return err == nil && strings.Contains(string(out), `"actor":"agent:`+id+`","event":"record of calls altered"`)
	})
}
