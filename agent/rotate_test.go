package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/agent/state"
	"sallyport/tunnel"
)

// A keeper is a relay that knows one agent's key and the one before it, as relays do.
type keeper struct {
	*httptest.Server
	fingerprint string

	mu       sync.Mutex
	key, old []byte // guarded by mu
	overlap  bool   // the old key is still good
	lose     bool   // take the new key, and break off before the answer
	older    bool   // knows nothing of rotation
	deaf     bool   // break off before the new key is taken
	links    int
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{fingerprint: tunnel.Fingerprint(public), overlap: true}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		claim, _, err := tunnel.Greet(q.Context(), ws, tunnel.RelayIdentity{Key: key, Node: "n1"},
			func(_ context.Context, c tunnel.Claim) (tunnel.Welcome, error) {
				return k.decide(c, func() { ws.NetConn().Close() })
			})
		if err == nil && claim.Kind == tunnel.KindLink {
			_ = tunnel.New(ws, tunnel.RelaySide, tunnel.Options{}).Run(q.Context())
		}
	}))
	t.Cleanup(k.Server.Close)
	return k
}

func (k *keeper) decide(c tunnel.Claim, breakOff func()) (tunnel.Welcome, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	current, before := bytes.Equal(c.Key, k.key), bytes.Equal(c.Key, k.old)
	switch c.Kind {
	case tunnel.KindJoin:
		k.key = c.Key
	case tunnel.KindRotate:
		if k.older {
			return tunnel.Welcome{}, &tunnel.Refusal{Code: "bad-claim", Permanent: true}
		}
		if k.deaf {
			breakOff()
			return tunnel.Welcome{}, context.Canceled
		}
		if !current && !(before && bytes.Equal(c.NewKey, k.key)) {
			return tunnel.Welcome{}, &tunnel.Refusal{Code: tunnel.RefusedKeyReplaced, Permanent: true}
		}
		if current {
			k.old, k.key = k.key, c.NewKey
		}
		if k.lose {
			breakOff()
		}
	case tunnel.KindLink:
		if before && !k.overlap {
			return tunnel.Welcome{}, &tunnel.Refusal{Code: tunnel.RefusedKeyReplaced, Permanent: true}
		}
		if !current && !before {
			return tunnel.Welcome{}, &tunnel.Refusal{Code: "unknown-agent", Permanent: true}
		}
		k.links++
	}
	return tunnel.Welcome{Agent: "a1"}, nil
}

func (k *keeper) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

// TestRotateSurvivesEveryCrash: wherever replacing the key was cut off, a newly started agent links, at once and also when
// the relay takes the old key no longer; and the same command completes what was begun.
func TestRotateSurvivesEveryCrash(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(t *testing.T, k *keeper, dir state.Dir, c RotateConfig){
		"before anything": func(*testing.T, *keeper, state.Dir, RotateConfig) {},
		"after the next key was saved": func(t *testing.T, _ *keeper, dir state.Dir, _ RotateConfig) {
			id, err := identity.Load(dir)
			if err == nil {
				err = id.Prepare(dir)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"before the relay took it": func(t *testing.T, k *keeper, _ state.Dir, c RotateConfig) {
			k.set(func() { k.deaf = true })
			if _, err := Rotate(t.Context(), c); err == nil {
				t.Fatal("a rotation that broke off succeeded")
			}
			k.set(func() { k.deaf = false })
		},
		"after the relay took it": func(t *testing.T, k *keeper, _ state.Dir, c RotateConfig) {
			k.set(func() { k.lose = true })
			if _, err := Rotate(t.Context(), c); err == nil {
				t.Fatal("a rotation without an answer succeeded")
			}
			k.set(func() { k.lose = false })
		},
		"after all": func(t *testing.T, _ *keeper, _ state.Dir, c RotateConfig) {
			if _, err := Rotate(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, overlap := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				k := newKeeper(t)
				k.overlap = overlap
				dir, dialer := joinKeeper(t, k)
				c := RotateConfig{State: dir, Dialer: dialer}
				cut(t, k, dir, c)
				linkOnce(t, k, dir, dialer)
				if _, err := Rotate(t.Context(), c); err != nil {
					t.Fatalf("the command again: %v", err)
				}
				linkOnce(t, k, dir, dialer)
				id, err := identity.Load(dir)
				if err != nil || tunnel.Fingerprint(k.key) != id.Fingerprint() {
					t.Errorf("the relay has another key than the disk: %v", err)
				}
			})
		}
	}
}

func joinKeeper(t *testing.T, k *keeper) (state.Dir, *link.Dialer) {
	t.Helper()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := link.NewDialer(link.DialConfig{Relay: k.URL})
	if err != nil {
		t.Fatal(err)
	}
	j := tunnel.JoinString{Relay: k.URL, RelayKey: k.fingerprint, Gateway: "plant1", Code: tunnel.NewCode()}
	if _, err := Join(t.Context(), JoinConfig{String: j, State: dir, Dialer: dialer}); err != nil {
		t.Fatal(err)
	}
	return dir, dialer
}

// linkOnce starts an agent's links as a new process does, and ends them when one was up.
func linkOnce(t *testing.T, k *keeper, dir state.Dir, dialer *link.Dialer) {
	t.Helper()
	id, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	up := false
	links := link.New(link.Config{
		Dialer: dialer, Identity: identity.Follow(dir, id), RelayKey: id.RelayKey, Links: 1,
		Up: func(*tunnel.Link) { up = true; stop() },
	})
	if err := links.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if !up {
		t.Error("the agent could not link")
	}
}

// TestTwoRotationsDoNotMix: each ends with the relay and the disk having the same key.
func TestTwoRotationsDoNotMix(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	dir, dialer := joinKeeper(t, k)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := Rotate(t.Context(), RotateConfig{State: dir, Dialer: dialer}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	id, err := identity.Load(dir)
	if err != nil || tunnel.Fingerprint(k.key) != id.Fingerprint() {
		t.Errorf("the relay has another key than the disk: %v", err)
	}
}

// TestRotateWithAnOlderRelay: it does not know how, the agent's key stays, and nothing is left behind.
func TestRotateWithAnOlderRelay(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	dir, dialer := joinKeeper(t, k)
	before, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	k.set(func() { k.older = true })
	if _, err := Rotate(t.Context(), RotateConfig{State: dir, Dialer: dialer}); err == nil || !strings.Contains(err.Error(), "cannot replace keys") {
		t.Errorf("Rotate: %v", err)
	}
	linkOnce(t, k, dir, dialer)
	after, err := identity.Load(dir)
	if err != nil || after.Fingerprint() != before.Fingerprint() {
		t.Errorf("the key has changed: %v", err)
	}
	if text, err := dir.Read("identity.json", 64<<10); err != nil || strings.Contains(string(text), "next") {
		t.Errorf("a key is left behind: %v", err)
	}
}
