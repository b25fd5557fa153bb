package tunnel

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// bonded makes a handshake and gives both ends of its bond.
func bonded(t *testing.T, tokens bool, id AgentIdentity) (agent, relay *Bond, claim Claim, err error) {
	t.Helper()
	relayKey := newKey(t)
	rws, ws := sockets(t)
	type end struct {
		claim   Claim
		welcome Welcome
	}
	out := make(chan end, 1)
	go func() {
		c, w, _ := Greet(context.Background(), rws, RelayIdentity{Key: relayKey, Node: "n1", Tokens: tokens}, yes)
		out <- end{c, w}
	}()
	w, err := Introduce(context.Background(), ws, id, Fingerprint(relayKey.Public().(ed25519.PublicKey)))
	_ = ws.Close()
	got := <-out
	return w.Bond, got.welcome.Bond, got.claim, err
}

func TestProofsHoldOnTheirLinkAlone(t *testing.T) {
	t.Parallel()
	id := AgentIdentity{Claim: linkClaim(), Key: newKey(t)}
	agent, relay, _, err := bonded(t, true, id)
	if err != nil {
		t.Fatal(err)
	}
	_, other, _, err := bonded(t, true, id)
	if err != nil {
		t.Fatal(err)
	}
	next := AgentIdentity{Key: newKey(t), Token: "a.secret.token"}
	p, err := agent.Prove(next)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "secret") || strings.Contains(string(p.Body), "YS5zZWNyZXQ") {
		t.Errorf("the token travels in the clear: %s", body)
	}
	got, err := relay.Check(body)
	if err != nil || !got.Key.Equal(next.Key.Public()) || got.Token != next.Token {
		t.Errorf("the proof says %+v, %v", got, err)
	}
	if _, err := other.Check(body); err == nil {
		t.Error("another link took the proof")
	}
	p.Body = json.RawMessage(strings.Replace(string(p.Body), `"alg"`, `"agent":"x","alg"`, 1))
	if body, err = json.Marshal(p); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.Check(body); err == nil {
		t.Error("a changed proof was taken")
	}
}

func TestTokensAreSealedForOneHandshake(t *testing.T) {
	t.Parallel()
	id := AgentIdentity{Claim: linkClaim(), Key: newKey(t), Token: strings.Repeat("long.token", 800)}
	_, _, claim, err := bonded(t, true, id)
	if err != nil || claim.Token != id.Token {
		t.Fatalf("the relay has a token of %d bytes, %v", len(claim.Token), err)
	}
	// Who copies the sealed token into a handshake of its own gets nothing from it.
	thief := linkClaim()
	thief.Sealed = claim.Sealed
	_, _, _, err = bonded(t, true, AgentIdentity{Claim: thief, Key: newKey(t)})
	if r, ok := errors.AsType[*Refusal](err); !ok || r.Code != "bad-token" {
		t.Errorf("a sealed token of another handshake: %v", err)
	}
	if _, _, _, err = bonded(t, false, id); !errors.Is(err, ErrNoTokens) {
		t.Errorf("a relay that takes no tokens: %v", err)
	}
}

func TestRotateClaimsNeedBothKeys(t *testing.T) {
	t.Parallel()
	c := linkClaim()
	c.Kind = KindRotate
	present, next := newKey(t), newKey(t)
	_, _, claim, err := bonded(t, false, AgentIdentity{Claim: c, Key: present, NewKey: next})
	if err != nil || string(claim.NewKey) != string(next.Public().(ed25519.PublicKey)) {
		t.Errorf("claim %+v, %v", claim, err)
	}
	raw, err := json.Marshal(Claim{Kind: KindRotate, Alg: algEd25519, Key: present.Public().(ed25519.PublicKey), NewKey: next.Public().(ed25519.PublicKey)})
	if err != nil {
		t.Fatal(err)
	}
	before := []byte("transcript")
	env := envelope{Body: raw, Sig: ed25519.Sign(present, signed("agent rotate", before, raw))}
	var parsed Claim
	if err := json.Unmarshal(raw, &parsed); err != nil {
		t.Fatal(err)
	}
	for name, sig := range map[string][]byte{
		"none": nil, "by the present key": ed25519.Sign(present, signed(newKeyLabel, before, raw)),
		"under another label": ed25519.Sign(next, signed("agent rotate", before, raw)),
	} {
		env.NewSig = sig
		if err := checkClaim(parsed, env, before); err == nil {
			t.Errorf("a signature %s was taken for the new key's", name)
		}
	}
	env.NewSig = ed25519.Sign(next, signed(newKeyLabel, before, raw))
	if err := checkClaim(parsed, env, before); err != nil {
		t.Error(err)
	}
}

// FuzzProof: what an agent sends as a proof never panics and never proves anything by chance.
func FuzzProof(f *testing.F) {
	f.Add([]byte(`{"body":{"kind":"link","alg":"ed25519","key":"AA=="},"sig":"AA=="}`))
	f.Add([]byte(`{"body":{},"sig":null}`))
	f.Add([]byte(`[]`))
	with, err := newSealKey()
	if err != nil {
		f.Fatal(err)
	}
	b := &Bond{hash: []byte("h"), with: with}
	f.Fuzz(func(t *testing.T, body []byte) {
		if p, err := b.Check(body); err == nil {
			t.Errorf("proved %+v", p)
		}
	})
}
