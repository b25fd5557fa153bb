package gateway_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

// check asks the relay how it stands to the agent.
func (g *rig) check(gw string, a agent) (tunnel.Welcome, error) {
	g.t.Helper()
	w, _, err := g.introduce(tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindCheck, Gateway: gw, Agent: a.id, Instance: "the doctor", Generation: 1}, Key: a.key,
	})
	return w, err
}

// TestCheck: an admin's question is answered beside the running agent, whose links it leaves as they are, and by who may not link
// as a link would be.
func TestCheck(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	w, err := g.check("plant1", a)
	if err != nil || w.Agent != a.id || len(w.Echoes) != 0 {
		t.Fatalf("without a link: %+v, %v", w, err)
	}
	one, two := g.mustLink("plant1", a, at{"p1", 0, 1}, "orders"), g.mustLink("plant1", a, at{"p1", 3, 1}, "orders")
	g.mustLink("plant1", g.joined("plant1"), at{"p9", 7, 1}, "orders") // another agent's, which nobody has asked for
	w, err = g.check("plant1", a)
	if err != nil {
		t.Fatal(err)
	}
	var slots []int
	for _, e := range w.Echoes {
		if slots = append(slots, e.Slot); !e.Answered || e.Millis < 0 || e.Millis > 400 {
			t.Errorf("%+v", e)
		}
	}
	if diff := cmp.Diff([]int{0, 3}, slots); diff != "" {
		t.Error(diff)
	}
	if one.Err() != nil || two.Err() != nil {
		t.Errorf("the agent's links: %v, %v", one.Err(), two.Err())
	}
	if s := g.r.Status()[0].Agents; len(s) != 2 || s[0].Clone != nil || s[1].Clone != nil || len(g.lines("a second process")) != 0 {
		t.Errorf("who asked was taken for a clone: %+v", s)
	}

	stranger := newAgent()
	stranger.id = a.id
	_, err = g.check("plant1", stranger)
	wantRefusal(t, err, "unknown-agent")
	_, err = g.check("plant2", a)
	wantRefusal(t, err, "unknown-gateway")
	if err := g.r.RevokeAgent(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	_, err = g.check("plant1", a)
	wantRefusal(t, err, "revoked")
}

// TestCheckOfAFrozenAgent: a link that is up and silent is told as such, within the time of a probe.
func TestCheckOfAFrozenAgent(t *testing.T) {
	t.Parallel()
	g := openRigWith(t, t.TempDir(), func(c *gateway.Config) { c.CloneProbe = 200 * time.Millisecond })
	a := g.joined("plant1")
	// A link that nobody reads: it is made and not run.
	_, make, err := g.introduce(tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: "plant1", Agent: a.id, Instance: "p1", Slot: 2, Generation: 1}, Key: a.key,
	})
	if err != nil {
		t.Fatal(err)
	}
	frozen := make()
	defer frozen.Close("the test is over")
	eventually(t, "the link is up", func() bool { return len(g.r.Status()[0].Agents[0].Links) == 1 })
	w, err := g.check("plant1", a)
	if err != nil || len(w.Echoes) != 1 || w.Echoes[0].Slot != 2 || w.Echoes[0].Answered {
		t.Errorf("%+v, %v", w, err)
	}
}
