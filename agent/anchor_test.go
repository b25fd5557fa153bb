package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/agent/audit"
	"sallyport/tunnel"
)

// A lying relay gives receipts that are not what was asked for; they are named in the log and count for nothing, and the
// honest one that comes in the end does.
func TestReceiptsOfALyingRelay(t *testing.T) {
	t.Parallel()
	_, thief, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var pinned string
	var honest tunnel.AuditReceipt
	r := newRigAs(t, yamlForm, func(r *rig) {
		r.anchors = func(key ed25519.PrivateKey, l *tunnel.Link, body []byte) {
			h, err := tunnel.ReadAuditHead(body, "plant1")
			if err != nil {
				t.Errorf("the head is not signed: %v", err)
			}
			right := tunnel.AuditReceipt{Gateway: "plant1", Agent: "a1", N: h.N, Hash: h.Hash, Time: time.Now()}
			other, agent, gateway := right, right, right
			other.N++
			agent.Agent, gateway.Gateway = "a2", "plant2"
			altered := tunnel.SignAuditReceipt(key, right)
			altered.Time = altered.Time.Add(time.Hour)
			for _, lie := range []any{
				tunnel.SignAuditReceipt(thief, right), altered, tunnel.SignAuditReceipt(key, other), tunnel.SignAuditReceipt(key, agent),
				tunnel.SignAuditReceipt(key, gateway),
				map[string]any{"n": h.N},
				"no object",
			} {
				_ = l.SendControl(tunnel.ControlAuditReceipt, lie)
			}
			_ = l.SendControl(tunnel.ControlAuditRefused, tunnel.AuditRefusal{N: h.N + 1, Reason: "\x1b[2Jlie"})
			mu.Lock()
			defer mu.Unlock()
			if honest.N == 0 { // once: else one lie would take the other's place in the log
				honest, pinned = tunnel.SignAuditReceipt(key, right), tunnel.Fingerprint(key.Public().(ed25519.PublicKey))
			}
		}
	})
	l := r.link()
	r.until("the first lie is named", func() bool { return strings.Contains(r.log.String(), "the audit record has no receipt") })
	if strings.Contains(r.log.String(), "\x1b") {
		t.Error("the relay writes to the admin's terminal")
	}
	var good tunnel.AuditReceipt
	var relay string
	r.until("the honest receipt is made", func() bool { // behind the lies
		mu.Lock()
		defer mu.Unlock()
		good, relay = honest, pinned
		return good.N > 0
	})
	key := r.events()[1].Key
	if rep, err := audit.Verify(t.Context(), r.state, []string{key}, audit.Witness{Relay: relay}); err != nil || rep.Anchored != 0 {
		t.Errorf("a lie counts: %+v, %v", rep, err)
	}
	if err := l.SendControl(tunnel.ControlAuditReceipt, good); err != nil {
		t.Fatal(err)
	}
	r.until("the honest receipt counts", func() bool {
		rep, err := audit.Verify(t.Context(), r.state, []string{key}, audit.Witness{Relay: relay})
		return err == nil && rep.Fault == nil && rep.Anchored == good.N
	})
	_ = l.SendControl(tunnel.ControlAuditRefused, json.RawMessage(`{"n":0,"reason":"x"}`))
	r.stop()
}
