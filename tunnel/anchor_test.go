package tunnel

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func auditKey(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// Whatever of a head or a receipt is changed, its signature no longer fits.
func TestAuditSignatures(t *testing.T) {
	t.Parallel()
	relay, agent := auditKey(1), auditKey(2)
	hash := strings.Repeat("A", 43)
	head, err := SignAuditHead(agent, "plant1", AuditHead{N: 7, Hash: hash, Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	check := func(gateway string, change func(*AuditHead)) error {
		h := head
		change(&h)
		body, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ReadAuditHead(body, gateway)
		return err
	}
	if err := check("plant1", func(*AuditHead) {}); err != nil {
		t.Error(err)
	}
	if check("plant2", func(*AuditHead) {}) == nil {
		t.Error("a head for another gateway is taken")
	}
	for name, change := range map[string]func(*AuditHead){
		"n": func(h *AuditHead) { h.N++ }, "hash": func(h *AuditHead) { h.Hash = "B" + hash[1:] }, "short hash": func(h *AuditHead) { h.Hash = "AA" },
		"time": func(h *AuditHead) { h.Time = h.Time.Add(1) }, "key": func(h *AuditHead) { h.Key = relay.Public().(ed25519.PublicKey) },
		"no key": func(h *AuditHead) { h.Key = nil }, "no signature": func(h *AuditHead) { h.Sig = nil },
	} {
		if check("plant1", change) == nil {
			t.Errorf("a head with another %s is taken", name)
		}
	}

	receipt := SignAuditReceipt(relay, AuditReceipt{Gateway: "plant1", Agent: "a1", N: 7, Hash: hash, Time: time.Now()})
	pinned := Fingerprint(receipt.Relay)
	if err := receipt.Check(pinned); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*AuditReceipt){
		"n": func(r *AuditReceipt) { r.N++ }, "hash": func(r *AuditReceipt) { r.Hash = "B" + hash[1:] }, "agent": func(r *AuditReceipt) { r.Agent = "a2" },
		"gateway": func(r *AuditReceipt) { r.Gateway = "plant2" }, "time": func(r *AuditReceipt) { r.Time = r.Time.Add(1) },
		"moved line feed": func(r *AuditReceipt) { r.Gateway, r.Agent = "plant1\na1", "" },
		"relay":           func(r *AuditReceipt) { *r = SignAuditReceipt(agent, *r) },
	} {
		r := receipt
		change(&r)
		if r.Check(pinned) == nil {
			t.Errorf("a receipt with another %s is taken", name)
		}
	}
}

func FuzzAuditHead(f *testing.F) {
	head, err := SignAuditHead(auditKey(2), "plant1", AuditHead{N: 7, Hash: strings.Repeat("A", 43), Time: time.Unix(1, 0)})
	if err != nil {
		f.Fatal(err)
	}
	body, err := json.Marshal(head)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"n":1,"h":"","key":"","sig":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := ReadAuditHead(body, "plant1")
		if err == nil && (h.N != 7 || h.Hash != head.Hash || !h.Time.Equal(head.Time)) {
			t.Errorf("a forged head is taken: %+v", h)
		}
		var r AuditReceipt
		if json.Unmarshal(body, &r) == nil && r.Check("sha256:none") == nil {
			t.Errorf("a receipt of nobody is taken: %+v", r)
		}
	})
}
