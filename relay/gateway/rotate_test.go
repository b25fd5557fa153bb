package gateway_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

// rotate replaces an agent's key as 'sallyport-agent key rotate' does.
func (g *rig) rotate(gw string, a, next agent) error {
	g.t.Helper()
	_, _, err := g.introduce(tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindRotate, Gateway: gw, Agent: a.id}, Key: a.key, NewKey: next.key,
	})
	return err
}

// controlled is a link whose agent sees the relay's control messages.
func (g *rig) controlled(gw string, a agent) (l *tunnel.Link, bond *tunnel.Bond, told chan string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 15*time.Second)
	defer cancel()
	ws, _, err := tunnel.NewDialer().DialContext(ctx, g.url, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	w, err := tunnel.Introduce(ctx, ws, tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: gw, Agent: a.id, Instance: "x", Generation: 1}, Key: a.key,
	}, g.r.Fingerprint())
	if err != nil {
		g.t.Fatal(err)
	}
	told = make(chan string, 8)
	l = tunnel.New(ws, tunnel.AgentSide, tunnel.Options{Control: func(kind string, body []byte) {
		var m tunnel.KeyReplaced
		if kind == tunnel.ControlKeyReplaced && json.Unmarshal(body, &m) == nil {
			told <- m.Key
		}
	}})
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(context.Background()) })
	g.t.Cleanup(func() { l.Close("the test is over"); wg.Wait() })
	return l, w.Bond, told
}

func prove(t *testing.T, l *tunnel.Link, b *tunnel.Bond, a agent) {
	t.Helper()
	p, err := b.Prove(tunnel.AgentIdentity{Key: a.key})
	if err == nil {
		err = l.SendControl(tunnel.ControlProof, p)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestRotate: a link that proves the new key goes on, one that does not is ended after the overlap, and so are dials with
// the old key.
func TestRotate(t *testing.T) {
	t.Parallel()
	g := openRigWith(t, t.TempDir(), func(c *gateway.Config) { c.KeyOverlap = 1500 * time.Millisecond })
	a := g.joined("plant1")
	l, bond, told := g.controlled("plant1", a)
	next := newAgent()
	next.id = a.id
	if err := g.rotate("plant1", a, next); err != nil {
		t.Fatal(err)
	}
	status := g.r.Status()[0].Agents[0]
	if status.ID != a.id || !status.KeySince.After(status.Joined) {
		t.Errorf("status %+v", status)
	}
	if key := <-told; key != status.Fingerprint {
		t.Errorf("the agent is told of the key %s, on record is %s", key, status.Fingerprint)
	}
	if err := g.rotate("plant1", a, next); err != nil {
		t.Errorf("the same again, after a lost answer: %v", err)
	}
	stranger := newAgent()
	wantRefusal(t, g.rotate("plant1", a, stranger), tunnel.RefusedKeyReplaced) // the old key cannot take the agent over
	prove(t, l, bond, stranger)
	eventually(t, "the proof of a stranger's key is refused", func() bool { return len(g.lines("proof over its link was refused")) == 1 })
	prove(t, l, bond, next)
	eventually(t, "the proof is taken", func() bool { return len(g.lines("link proved with the agent's new key")) == 1 })
	stays, _, _ := l, bond, told

	// The same process, with the old key in the overlap: good, told at once, and ended when it is over.
	old, err := g.link("plant1", a, at{instance: "x", slot: 1, generation: 1})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the link with the old key is ended", ended(old))
	if stays.Err() != nil || stays.Draining() != "" {
		t.Errorf("the link that proved the new key: %v, %s", stays.Err(), stays.Draining())
	}
	_, err = g.link("plant1", a, at{instance: "x", slot: 1, generation: 2})
	wantRefusal(t, err, tunnel.RefusedKeyReplaced)
	g.mustLink("plant1", next, at{instance: "x", slot: 1, generation: 3})

	join, err := g.r.NewJoin(t.Context(), "plant1", gateway.CodeUse{})
	if err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, g.join("plant1", join.Code, &a), "key-replaced")
	if err := g.r.RevokeAgent(t.Context(), next.id); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, g.rotate("plant1", next, newAgent()), "revoked")
}
