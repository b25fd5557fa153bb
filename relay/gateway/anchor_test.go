package gateway_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

// hashOf is some record's hash.
func hashOf(n int) string { return fmt.Sprintf("%042dA", n) }

// head shows the relay the head of a record, and gives what it answers.
func (g *rig) head(l *tunnel.Link, key ed25519.PrivateKey, gw string, n uint64, hash string) (kind, body string) {
	g.t.Helper()
	h, err := tunnel.SignAuditHead(key, gw, tunnel.AuditHead{N: n, Hash: hash, Time: time.Now()})
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	before := len(g.told)
	g.mu.Unlock()
	if err := l.SendControl(tunnel.ControlAuditHead, h); err != nil {
		g.t.Fatal(err)
	}
	eventually(g.t, "an answer to the head of a record", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, text := range g.told[before:] {
			if strings.HasPrefix(text, "audit-") {
				kind, body, _ = strings.Cut(text, " ")
				return true
			}
		}
		return false
	})
	return kind, body
}

// The relay signs the heads of an agent's record as long as it grows, keeps them over a restart, and takes none back.
func TestAnchors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	events := make(chan string, 100)
	set := func(c *gateway.Config) {
		c.Event = func(_ context.Context, actor, what string, on map[string]any) {
			events <- fmt.Sprint(actor, " ", what, " ", on["gateway"], " ", on["detail"])
		}
	}
	g := openRigWith(t, dir, set)
	a, other := g.joined("plant1"), g.joined("plant1")
	l := g.mustLink("plant1", a, at{instance: "i", generation: 1})
	for _, n := range []int{5, 9} {
		kind, body := g.head(l, a.key, "plant1", uint64(n), hashOf(n))
		var r tunnel.AuditReceipt
		if err := json.Unmarshal([]byte(body), &r); err != nil || kind != tunnel.ControlAuditReceipt {
			t.Fatalf("%s %s, %v; want a receipt", kind, body, err)
		}
		if err := r.Check(g.r.Fingerprint()); err != nil || r.Agent != a.id || r.Gateway != "plant1" || r.N != uint64(n) || r.Hash != hashOf(n) {
			t.Errorf("the receipt is %+v, %v", r, err)
		}
	}
	if kind, body := g.head(l, a.key, "plant1", 9, hashOf(9)); kind != tunnel.ControlAuditReceipt {
		t.Errorf("the same head again: %s %s", kind, body)
	}
	g.close()

	g = openRigWith(t, dir, set)
	l = g.mustLink("plant1", a, at{instance: "j", generation: 1})
	for _, c := range []struct {
		what, gw string
		key      ed25519.PrivateKey
		n        int
		hash     string
	}{
		{"an old head", "plant1", a.key, 5, hashOf(5)},
		{"a shorter record", "plant1", a.key, 8, hashOf(8)},
		{"another record at the same place", "plant1", a.key, 9, hashOf(1)},
		{"the head of another agent", "plant1", other.key, 20, hashOf(20)},
		{"a head for another gateway", "plant2", a.key, 20, hashOf(20)},
	} {
		if kind, body := g.head(l, c.key, c.gw, uint64(c.n), c.hash); kind != tunnel.ControlAuditRefused {
			t.Errorf("%s: %s %s; want a refusal", c.what, kind, body)
		}
	}
	if n := len(events); n != 1 { // once an hour
		t.Errorf("%d events for admins, want 1", n)
	}
	if e := <-events; !strings.HasPrefix(e, "agent:"+a.id+" record of calls altered plant1 the record ends at 5, and had 9") {
		t.Errorf("admins are told: %s", e)
	}
	all, err := g.r.Receipts(t.Context(), a.id)
	if err != nil || len(all) != 2 || all[0].N != 5 || all[1].Hash != hashOf(9) || all[0].Check(g.r.Fingerprint()) != nil {
		t.Errorf("receipts %+v, %v", all, err)
	}
	if none, err := g.r.Receipts(t.Context(), other.id); err != nil || len(none) != 0 {
		t.Errorf("receipts of the other agent: %+v, %v", none, err)
	}
	if _, err := g.r.Receipts(t.Context(), "nobody"); err == nil {
		t.Error("receipts of an agent that there is not")
	}
	if err := g.r.RemoveAgent(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	if _, err := g.r.Receipts(t.Context(), a.id); err == nil {
		t.Error("receipts of an agent that was removed")
	}
}
