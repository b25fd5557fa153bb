//go:build linux

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// agentState is what 'sallyport-agent status' says of one state directory.
type agentState struct {
	Agent, Fingerprint string
	Running            bool
	Links              []struct{ State, Reason string }
	Clone              *struct{ Peer string }
}

func (b *box) state(args ...string) (s agentState) {
	b.t.Helper()
	text, err := b.command("", b.agentEnv, b.bin.agent, append([]string{"status", "--json", "--config", b.path("agent.yaml")}, args...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (s agentState) all(state string) bool {
	for _, l := range s.Links {
		if l.State != state {
			return false
		}
	}
	return len(s.Links) > 0
}

// TestApproval: an agent with a join string for several waits, says so, and links by itself once it is approved.
func TestApproval(t *testing.T) {
	t.Parallel()
	b := newBox(t, racy)
	b.startRelay()
	var made struct{ Join, Code string }
	b.admin(&made, "gateway", "add", gatewayName, "--uses", "2", "--approve")
	if err := b.join(b.secret("the join string", made.Join)); err != nil {
		t.Fatal(err)
	}
	b.startAgent()
	eventually(t, 20*time.Second, "the agent says that it waits", func() bool { return b.state().all("waiting for approval") })
	s := b.state()
	if log := b.logs["agent"].String(); !strings.Contains(log, "waiting for approval") || !strings.Contains(log, s.Fingerprint) {
		t.Errorf("the agent's log does not say that it waits, with its fingerprint %s", s.Fingerprint)
	}
	if list, err := b.tryAdmin("agent", "list"); err != nil || !strings.Contains(string(list), s.Fingerprint) {
		t.Errorf("agent list: %v\n%s", err, list)
	}
	b.admin(nil, "agent", "approve", "--all-of-code", made.Code)
	eventually(t, 60*time.Second, "the approved agent is up", func() bool { return b.state().all("up") })
	b.agent.stop(t)
	if b.state().Running {
		t.Error("a stopped agent is shown as running")
	}
}

// TestRevokedAndClonedAgents: a copy of an agent's state is refused and shown on both sides, and a revoked agent is cut off
// within two seconds.
func TestRevokedAndClonedAgents(t *testing.T) {
	t.Parallel()
	b := ready(t, racy, nil)
	eventually(t, 30*time.Second, "the agent is up", func() bool { return b.state().all("up") })
	id := b.state().Agent
	copied := b.path("copy")
	if err := os.CopyFS(copied, os.DirFS(b.path("agent"))); err != nil {
		t.Fatal(err)
	}
	tighten(t, copied)
	b.logs["copy"] = &transcript{}
	clone := start(t, "copy", b.logs["copy"], b.agentEnv, b.bin.agent, "run", "--config", b.path("agent.yaml"), "--state", copied)
	eventually(t, 30*time.Second, "the copy is refused", func() bool { return b.state("--state", copied).all("clone") })
	eventually(t, 10*time.Second, "the original was told", func() bool { return b.state().Clone != nil })
	if !b.state().all("up") {
		t.Error("the original was given up")
	}
	for name, text := range map[string]string{
		"agent": "another process has shown this agent's key", "copy": "(clone)", "relay": "a second process uses an agent's key",
	} {
		if !strings.Contains(b.logs[name].String(), text) {
			t.Errorf("%s does not log %q", name, text)
		}
	}
	if list, err := b.tryAdmin("agent", "list"); err != nil || !strings.Contains(string(list), "WARNING: clone seen") {
		t.Errorf("agent list: %v\n%s", err, list)
	}
	clone.stop(t)

	b.admin(nil, "agent", "revoke", id)
	revoked := time.Now()
	var gateways []struct {
		Agents []struct{ Links []any }
	}
	b.admin(&gateways, "gateway", "list")
	for len(gateways[0].Agents[0].Links) > 0 {
		if time.Since(revoked) > 2*time.Second {
			t.Fatal("a revoked agent still has links after two seconds")
		}
		b.admin(&gateways, "gateway", "list")
	}
	eventually(t, 20*time.Second, "the agent says that it was revoked", func() bool { return b.state().all("refused") })
	if !strings.Contains(b.logs["agent"].String(), "(revoked)") {
		t.Error("the agent does not log that it was revoked")
	}
}

// tighten gives a copied directory the modes that a state directory must have.
func tighten(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeyRotation: the key of a running agent is replaced while calls run; none fails, no link is dialed anew, and after a
// restart of both sides the agent links with the new key. Both sides have it on record.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	eventually(t, 30*time.Second, "the agent is up", func() bool { return b.state().all("up") })
	before := b.state()
	stop, calls := make(chan struct{}), make(chan error, 1)
	go func() { calls <- b.keepCalling("web", stop) }()
	var last agentState
	for range 2 { // the second one begins as soon as the first is done
		if _, err := b.command("", b.agentEnv, b.bin.agent, "key", "rotate", "--config", b.path("agent.yaml")); err != nil {
			t.Fatal(err)
		}
		last = b.state()
	}
	if last.Fingerprint == before.Fingerprint || last.Agent != before.Agent {
		t.Errorf("before %s of %s, after %s of %s", before.Fingerprint, before.Agent, last.Fingerprint, last.Agent)
	}
	links := len(before.Links)
	eventually(t, 20*time.Second, "each link proves the new key", func() bool {
		n := 0
		for line := range strings.Lines(b.logs["relay"].String()) {
			if strings.Contains(line, "link proved with the agent's new key") && strings.Contains(line, last.Fingerprint) {
				n++
			}
		}
		return n >= links
	})
	close(stop)
	if err := <-calls; err != nil {
		t.Errorf("a call failed: %v", err)
	}
	if n := strings.Count(b.logs["relay"].String(), "link up"); n != links {
		t.Errorf("%d links were dialed, want %d", n, links)
	}
	list, err := b.tryAdmin("agent", "list", "--json")
	if err != nil || !strings.Contains(string(list), last.Fingerprint) || !strings.Contains(string(list), "keySince") {
		t.Errorf("agent list: %v\n%s", err, list)
	}
	eventually(t, 10*time.Second, "the new key is on record inside", func() bool {
		text, err := os.ReadFile(b.path("agent/audit/audit.jsonl"))
		return err == nil && strings.Contains(string(text), `"event":"key"`) && strings.Contains(string(text), last.Fingerprint)
	})
	b.agent.kill()
	b.relay.kill()
	b.startRelay()
	b.startAgent()
	b.awaitAPI("web")
}

// keepCalling calls until stop is closed, and says what went wrong first.
func (b *box) keepCalling(api string, stop <-chan struct{}) error {
	client := b.client(1)
	for n := 0; ; n++ {
		select {
		case <-stop:
			if n == 0 {
				return errors.New("there was no call at all")
			}
			return nil
		default:
		}
		resp, err := client.Get(b.at(api, "/x/status/204"))
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("call %d was answered %s", n, resp.Status)
		}
	}
}
