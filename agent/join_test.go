package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/agent/state"
	"sallyport/tunnel"
)

// A door is the relay's side of joining; it can break off after it has admitted an agent.
type door struct {
	url, fingerprint string
	mu               sync.Mutex
	breakOff         bool
	refuse           *tunnel.Refusal
	keys             []string // of those who proved a code
}

func newDoor(t *testing.T) *door {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{fingerprint: tunnel.Fingerprint(public)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_, _, _ = tunnel.Greet(q.Context(), ws, tunnel.RelayIdentity{Key: key, Node: "n1"},
			func(_ context.Context, c tunnel.Claim) (tunnel.Welcome, error) {
				d.mu.Lock()
				defer d.mu.Unlock()
				if d.refuse != nil {
					return tunnel.Welcome{}, d.refuse
				}
				d.keys = append(d.keys, tunnel.Fingerprint(c.Key))
				if d.breakOff {
					_ = ws.NetConn().Close() // admitted, and the agent never hears of it
				}
				return tunnel.Welcome{Agent: "a1"}, nil
			})
	}))
	t.Cleanup(s.Close)
	d.url = s.URL
	return d
}

func (d *door) config(t *testing.T, dir state.Dir) JoinConfig {
	t.Helper()
	dialer, err := link.NewDialer(link.DialConfig{Relay: d.url})
	if err != nil {
		t.Fatal(err)
	}
	return JoinConfig{
		String: tunnel.JoinString{Relay: d.url, RelayKey: d.fingerprint, Gateway: "plant1", Code: tunnel.NewCode()},
		State:  dir, Dialer: dialer, Log: slog.New(slog.DiscardHandler),
	}
}

// An attempt that ended after the relay had admitted the agent is completed by repeating it: with the same key, since
// the code admits no other.
func TestJoinIsCompletedByRepeatingIt(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	c := d.config(t, dir)
	d.breakOff = true
	if _, err := Join(t.Context(), c); err == nil {
		t.Fatal("a join without a verdict succeeded")
	}
	id, err := identity.Load(dir)
	if err != nil || id.Joined {
		t.Fatalf("after the attempt: %v, %v; want a key that has not joined", id, err)
	}
	d.mu.Lock()
	d.breakOff = false
	d.mu.Unlock()
	joined, err := Join(t.Context(), c)
	if err != nil || !joined.Joined || joined.Agent != "a1" {
		t.Fatalf("the repetition: %v, %v", joined, err)
	}
	if len(d.keys) != 2 || d.keys[0] != d.keys[1] || d.keys[0] != id.Fingerprint() {
		t.Errorf("keys %v, want the one of the first attempt twice", d.keys)
	}
	if again, err := identity.Load(dir); err != nil || !again.Joined || again.Agent != "a1" || again.Fingerprint() != id.Fingerprint() {
		t.Errorf("on the disk: %v, %v", again, err)
	}
	if _, err := Join(t.Context(), c); !errors.Is(err, ErrJoined) {
		t.Errorf("a third time: %v, want ErrJoined", err)
	}
	c.Replace = true
	if other, err := Join(t.Context(), c); err != nil || other.Fingerprint() == id.Fingerprint() {
		t.Errorf("with Replace: %v, %v; want another key", other, err)
	}
	if aside, err := filepath.Glob(dir.Path("identity.2*.json")); err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// A code that has expired, or a relay that cannot be reached, costs nobody the key that works.
func TestReplaceThatIsRefusedKeepsTheOldKey(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	c := d.config(t, dir)
	before, err := Join(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	c.Replace = true
	same := func(when string) {
		t.Helper()
		now, err := identity.Load(dir)
		if err != nil || !now.Joined || now.Fingerprint() != before.Fingerprint() {
			t.Errorf("%s: %v, %v; want the identity as it was", when, now, err)
		}
		if aside, err := filepath.Glob(dir.Path("identity.2*.json")); err != nil || len(aside) != 0 {
			t.Errorf("%s: set aside: %v, %v", when, aside, err)
		}
	}
	d.mu.Lock()
	d.refuse = &tunnel.Refusal{Code: "code-expired", Permanent: true, Reason: "this join code has expired"}
	d.mu.Unlock()
	if _, err := Join(t.Context(), c); err == nil {
		t.Error("refused, and joined")
	}
	same("refused")
	nobody := c
	if nobody.Dialer, err = link.NewDialer(link.DialConfig{Relay: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), nobody); err == nil {
		t.Error("nobody there, and joined")
	}
	same("not reached")
	d.mu.Lock()
	d.refuse, d.breakOff = nil, true
	d.mu.Unlock()
	if _, err := Join(t.Context(), c); err == nil {
		t.Error("broken off, and joined")
	}
	if now, err := identity.Load(dir); err != nil || now.Joined || now.Fingerprint() == before.Fingerprint() {
		t.Errorf("broken off: %v, %v; want the key that the relay may have admitted", now, err)
	}
}
