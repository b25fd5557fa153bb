package gateway

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"sallyport/tunnel"
)

// TestRevokedAgentsKeepNobodyOut: the bound is of agents that can link.
func TestRevokedAgentsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := func(i int) ed25519.PublicKey {
		return binary.BigEndian.AppendUint32(make([]byte, ed25519.PublicKeySize-4), uint32(i))
	}
	r := Record{Name: "plant1"}
	join := func(i int) (err error) {
		r.Codes = []Code{{Key: key(i), Expires: now.Add(time.Hour)}}
		r, err = r.redeem(key(i), Agent{Key: key(i)}, now)
		return err
	}
	for i := range maxAgents {
		if err := join(i); err != nil {
			t.Fatal(err)
		}
		r.Agents[i].RevokedAt = now.Add(time.Duration(i))
	}
	for i := range maxAgents {
		if err := join(maxAgents + i); err != nil {
			t.Fatalf("agent %d beside revoked ones: %v", i, err)
		}
	}
	refusal, ok := errors.AsType[*tunnel.Refusal](join(2 * maxAgents))
	if !ok || refusal.Code != "gateway-full" || len(r.Agents) != maxAgents {
		t.Errorf("one agent too many: %v, %d agents", refusal, len(r.Agents))
	}
}

// TestCodesOfEarlierRecordsStayUsed: they had one ID where there is a list now.
func TestCodesOfEarlierRecordsStayUsed(t *testing.T) {
	t.Parallel()
	for text, left := range map[string]int{
		`{"key":"AA==","usedBy":"a1"}`: 0, `{"key":"AA==","usedBy":["a1"]}`: 0, `{"key":"AA=="}`: 1, `{"uses":3,"usedBy":["a1"]}`: 2,
	} {
		var c Code
		if err := json.Unmarshal([]byte(text), &c); err != nil || c.left() != left {
			t.Errorf("%s: %v, %d uses left, want %d", text, err, c.left(), left)
		}
	}
}
