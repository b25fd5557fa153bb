package gateway_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/relay/gateway/entra"
	"sallyport/tunnel"
)

const (
	tid = "aaaaaaaa-0000-4000-8000-000000000001"
	app = "bbbbbbbb-0000-4000-8000-000000000001"
	oid = "cccccccc-0000-4000-8000-00000000000"
)

// tokens is a verifier that knows some tokens.
type tokens struct {
	mu    sync.Mutex
	known map[string]entra.Identity // guarded by mu
	away  bool                      // guarded by mu; its keys cannot be had
}

func (v *tokens) set(token string, id entra.Identity) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known[token] = id
}

func (v *tokens) Verify(_ context.Context, token string) (entra.Identity, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id, ok := v.known[token]
	switch {
	case v.away:
		return id, errors.New("no route to Entra")
	case !ok || time.Now().After(id.Expires):
		return id, &entra.Refused{Reason: "it is not known"}
	}
	return id, nil
}

// withEntra is a rig that takes the tokens "t1" and "t2", of two objects of one application, for an hour.
func withEntra(t *testing.T) (*rig, *tokens) {
	t.Helper()
	v := &tokens{known: map[string]entra.Identity{}}
	for _, n := range []string{"1", "2"} {
		v.set("t"+n, entra.Identity{Tenant: tid, App: app, Object: oid + n, Roles: []string{"Agent.Link"}, Expires: time.Now().Add(time.Hour)})
	}
	g := openRigWith(t, t.TempDir(), func(c *gateway.Config) { c.Tokens, c.Tenant = v, tid })
	if _, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{}); err != nil {
		t.Fatal(err)
	}
	return g, v
}

// tokenLink brings a link up with a token.
func (g *rig) tokenLink(token, instance string) (*tunnel.Link, *tunnel.Bond, error) {
	g.t.Helper()
	a := newAgent()
	welcome, open, err := g.introduce(tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: "plant1", Instance: instance, Generation: 1, Name: "host-a"}, Key: a.key, Token: token,
	})
	if err != nil {
		return nil, nil, err
	}
	l := open()
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(context.Background()) })
	g.t.Cleanup(func() { l.Close("the test is over"); wg.Wait() })
	return l, welcome.Bond, nil
}

func TestEntraRulesDecide(t *testing.T) {
	t.Parallel()
	g, v := withEntra(t)
	_, _, err := g.tokenLink("t1", "x")
	wantRefusal(t, err, "not-allowed") // nobody is let in by the token alone
	for name, rule := range map[string]gateway.EntraRule{
		"the whole tenant": {}, "another tenant": {Tenant: app, App: app}, "no GUID": {App: "sallyport"},
	} {
		if _, err := g.r.AllowEntra(t.Context(), "plant1", rule); !errors.Is(err, gateway.ErrEntra) {
			t.Errorf("%s: %v", name, err)
		}
	}
	allow := func(rule gateway.EntraRule) {
		if _, err := g.r.AllowEntra(t.Context(), "plant1", rule); err != nil {
			t.Fatal(err)
		}
	}
	allow(gateway.EntraRule{App: app, Role: "Another.Role"})
	_, _, err = g.tokenLink("t1", "x")
	wantRefusal(t, err, "not-allowed")
	allow(gateway.EntraRule{Object: oid + "1", Role: "Agent.Link"})
	_, _, err = g.tokenLink("t2", "x")
	wantRefusal(t, err, "not-allowed")
	l, _, err := g.tokenLink("t1", "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.tokenLink("t0", "x"); err == nil {
		t.Error("an unknown token was taken")
	}
	v.mu.Lock()
	v.away = true
	v.mu.Unlock()
	_, _, err = g.tokenLink("t1", "x")
	wantRefusal(t, err, "busy")

	// The relay counts a link a moment after its agent has been welcomed.
	eventually(t, "the link is up", func() bool { return len(g.r.Status()[0].Agents[0].Links) == 1 })
	a := g.r.Status()[0].Agents[0]
	if a.Entra == nil || a.Entra.Object != oid+"1" || a.Name != "host-a" || len(a.Links) != 1 {
		t.Errorf("status %+v", a)
	}
	// The ID alone, with a key of one's own, opens nothing.
	thief := newAgent()
	thief.id = a.ID
	_, err = g.link("plant1", thief, at{instance: "y"})
	wantRefusal(t, err, "unknown-agent")
	wantRefusal(t, g.rotate("plant1", thief, newAgent()), tunnel.RefusedKeyReplaced)
	if err := g.r.DisallowEntra(t.Context(), "plant1", gateway.EntraRule{Object: oid + "1"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the link of an application that is no longer let in is closed", ended(l))
	if err := g.r.DisallowEntra(t.Context(), "plant1", gateway.EntraRule{Object: oid + "1"}); !errors.Is(err, gateway.ErrEntra) {
		t.Errorf("a rule that is not there: %v", err)
	}
}

// TestLinksEndWithTheirToken unless the agent shows a fresh one of the same identity.
func TestLinksEndWithTheirToken(t *testing.T) {
	t.Parallel()
	g, v := withEntra(t)
	if _, err := g.r.AllowEntra(t.Context(), "plant1", gateway.EntraRule{App: app}); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(2 * time.Second)
	v.set("short1", entra.Identity{Tenant: tid, App: app, Object: oid + "1", Expires: end})
	v.set("short2", entra.Identity{Tenant: tid, App: app, Object: oid + "2", Expires: end})
	renewed, bond, err := g.tokenLink("short1", "x")
	if err != nil {
		t.Fatal(err)
	}
	stale, staleBond, err := g.tokenLink("short2", "y")
	if err != nil {
		t.Fatal(err)
	}
	show := func(l *tunnel.Link, b *tunnel.Bond, token string) {
		p, err := b.Prove(tunnel.AgentIdentity{Key: newAgent().key, Token: token})
		if err == nil {
			err = l.SendControl(tunnel.ControlProof, p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	show(renewed, bond, "t1")
	show(stale, staleBond, "t1") // of another identity
	eventually(t, "the fresh token is taken", func() bool { return len(g.lines("link proved with a fresh token")) == 1 })
	eventually(t, "the token of another is refused", func() bool { return len(g.lines("proof over its link was refused")) == 1 })
	eventually(t, "the link whose token has ended is closed", ended(stale))
	if late := time.Since(end); late > time.Minute {
		t.Errorf("it ended %s after its token", late)
	}
	if renewed.Err() != nil || renewed.Draining() != "" {
		t.Errorf("the link with a fresh token: %v, %s", renewed.Err(), renewed.Draining())
	}
	id := gateway.EntraAgentID(entra.Identity{Tenant: tid, Object: oid + "1"})
	if err := g.r.RevokeAgent(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revoked application is cut off", ended(renewed))
	_, _, err = g.tokenLink("t1", "x")
	wantRefusal(t, err, "revoked")
}

// TestOneProcessForEachEntraIdentity: a second process with the same identity is a clone, as with a key.
func TestOneProcessForEachEntraIdentity(t *testing.T) {
	t.Parallel()
	g, _ := withEntra(t)
	if _, err := g.r.AllowEntra(t.Context(), "plant1", gateway.EntraRule{App: app}); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"t1", "t2"} {
		if _, _, err := g.tokenLink(token, "x"+token); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := g.tokenLink("t1", "another")
	wantRefusal(t, err, tunnel.RefusedClone)
}
