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

// TestUsedCodesAreNotOpen: a code that an agent has joined with is kept for a while, so that the agent can repeat its join, but
// it does not count among those that wait to be used.
func TestUsedCodesAreNotOpen(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := func(i int) ed25519.PublicKey {
		return binary.BigEndian.AppendUint32(make([]byte, ed25519.PublicKeySize-4), uint32(i))
	}
	r := Record{Name: "plant1"}
	for i := range 3 * maxCodes {
		var err error
		if r, err = r.withCode(Code{Key: key(i), Expires: now.Add(time.Hour)}, now); err != nil {
			t.Fatalf("code %d, all before it used: %v", i, err)
		}
		if r, err = r.redeem(key(i), Agent{Key: key(i)}, now); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.Codes) > 2*maxCodes {
		t.Errorf("%d codes are kept", len(r.Codes))
	}
	last := key(3*maxCodes - 1)
	if _, err := r.redeem(last, Agent{Key: last}, now); err != nil {
		t.Errorf("the last join repeated: %v", err)
	}
	if refusal, _ := errors.AsType[*tunnel.Refusal](second(r.redeem(last, Agent{Key: key(9999)}, now))); refusal == nil || refusal.Code != "code-used" {
		t.Errorf("the last code from another agent: %v", refusal)
	}
	for i := range maxCodes {
		var err error
		if r, err = r.withCode(Code{Key: key(1000 + i), Expires: now.Add(time.Hour)}, now); err != nil {
			t.Fatalf("open code %d: %v", i, err)
		}
	}
	full := Code{Key: key(2000), Expires: now.Add(2 * time.Hour)}
	if _, err := r.withCode(full, now); !errors.Is(err, ErrFull) {
		t.Errorf("one open code too many: %v", err)
	}
	if _, err := r.withCode(full, now.Add(time.Hour+time.Second)); err != nil {
		t.Errorf("after the others have expired: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

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
