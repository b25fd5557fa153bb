package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/relay/gateway/entra"
	"sallyport/tunnel"
)

// TestAnchorsOfEntraAgents: a token does not prove the key that seals a record, so the first key that comes counts, over links and
// restarts. Another key, a shorter record and one that was written anew are refused and shown to admins; agents share nothing.
func TestAnchorsOfEntraAgents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	events := make(chan string, 100)
	v := &tokens{known: map[string]entra.Identity{}}
	var ids []string
	for _, n := range []string{"1", "2"} {
		id := entra.Identity{Tenant: tid, App: app, Object: oid + n, Expires: time.Now().Add(time.Hour)}
		v.set("t"+n, id)
		ids = append(ids, gateway.EntraAgentID(id))
	}
	open := func() *rig {
		return openRigWith(t, dir, func(c *gateway.Config) {
			c.Tokens, c.Tenant = v, tid
			c.Event = func(_ context.Context, actor, what string, on map[string]any) {
				if what == "record of calls altered" {
					events <- fmt.Sprint(actor, " ", on["gateway"], " ", on["detail"])
				}
			}
		})
	}
	up := func(g *rig, token, instance string) *tunnel.Link {
		l, _, err := g.tokenLink(token, instance)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	g := open()
	if _, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.r.AllowEntra(t.Context(), "plant1", gateway.EntraRule{App: app}); err != nil {
		t.Fatal(err)
	}
	sealer, second := newAgent().key, newAgent().key
	kind, body := g.head(up(g, "t1", "x"), sealer, "plant1", 9, hashOf(9))
	var r tunnel.AuditReceipt
	if err := json.Unmarshal([]byte(body), &r); err != nil || kind != tunnel.ControlAuditReceipt {
		t.Fatalf("%s %s, %v; want a receipt", kind, body, err)
	}
	if err := r.Check(g.r.Fingerprint()); err != nil || r.Agent != ids[0] || r.Gateway != "plant1" || r.N != 9 || r.Hash != hashOf(9) {
		t.Errorf("the receipt is %+v, %v; want one of %s", r, err, ids[0])
	}
	g.close()

	g = open()
	l := up(g, "t1", "y")
	if kind, body := g.head(l, second, "plant1", 20, hashOf(20)); kind != tunnel.ControlAuditRefused || !strings.Contains(body, "another key") {
		t.Errorf("a head by another key: %s %s", kind, body)
	}
	if kind, body := g.head(l, sealer, "plant1", 8, hashOf(8)); kind != tunnel.ControlAuditRefused {
		t.Errorf("a shorter record: %s %s", kind, body)
	}
	if kind, body := g.head(l, sealer, "plant1", 9, hashOf(1)); kind != tunnel.ControlAuditRefused {
		t.Errorf("another record at the same place: %s %s", kind, body)
	}
	if kind, body := g.head(l, sealer, "plant1", 12, hashOf(12)); kind != tunnel.ControlAuditReceipt {
		t.Errorf("the record goes on: %s %s", kind, body)
	}
	// Another identity has a record and a key of its own.
	if kind, body := g.head(up(g, "t2", "z"), second, "plant1", 3, hashOf(3)); kind != tunnel.ControlAuditReceipt {
		t.Errorf("the other agent's head: %s %s", kind, body)
	}
	if n := len(events); n != 1 { // once an hour
		t.Fatalf("%d events for admins, want 1", n)
	}
	if e := <-events; !strings.HasPrefix(e, "agent:"+ids[0]+" plant1 another key than before seals the record") {
		t.Errorf("admins are told: %s", e)
	}
	for i, want := range []int{2, 1} {
		if all, err := g.r.Receipts(t.Context(), ids[i]); err != nil || len(all) != want || all[0].Check(g.r.Fingerprint()) != nil {
			t.Errorf("receipts of %s: %+v, %v; want %d", ids[i], all, err, want)
		}
	}
}
