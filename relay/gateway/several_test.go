package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/test/fault"
	"sallyport/tunnel"
)

// A link that replaces one of the same process can be used at once: there is no moment without.
func TestANewerLinkTakesOverTheOffer(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	old := g.mustLink("plant1", a, at{"p1", 0, 1}, "orders")
	eventually(t, "the link can be picked", func() bool { _, err := g.r.Pick("plant1", "orders"); return err == nil })
	first, _ := g.r.Pick("plant1", "orders")
	g.mustLink("plant1", a, at{"p1", 0, 2}) // which has not said what it offers
	eventually(t, "the newer link is picked", func() bool {
		l, err := g.r.Pick("plant1", "orders")
		if err != nil {
			t.Fatalf("there is a moment without a link: %v", err)
		}
		return l != first
	})
	eventually(t, "the old link has ended", ended(old))
	// Another process may offer something else.
	other := g.joined("plant1")
	g.mustLink("plant1", other, at{"p2", 0, 1})
	if l, err := g.r.Pick("plant1", "orders"); err != nil || l.Agent != a.id {
		t.Errorf("picked %v, %v", l, err)
	}
}

// replaced gives an agent whose link was replaced while a stream is open on it: the relay's end of that link and the agent's.
func (g *rig) replaced() (a agent, l *gateway.Link, old *tunnel.Link) {
	g.t.Helper()
	a = g.joined("plant1")
	old = g.mustLink("plant1", a, at{"p1", 0, 1}, "orders")
	eventually(g.t, "the link can be picked", func() bool { _, err := g.r.Pick("plant1", "orders"); return err == nil })
	l, _ = g.r.Pick("plant1", "orders")
	s, err := l.Open(&tunnel.Request{ID: "r", API: "orders", Method: "GET", Target: "/"}, false)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { s.Reset(tunnel.Cancelled, "done") })
	g.mustLink("plant1", a, at{"p1", 0, 2}, "orders")
	eventually(g.t, "the old link drains", func() bool { return old.Draining() != "" })
	return a, l, old
}

// A stream on a link that was replaced goes on, and the relay's end does not wait for it beyond its own time.
func TestAReplacedLinkKeepsItsStreams(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	_, l, old := g.replaced()
	if l.Err() != nil {
		t.Errorf("the old link has ended under its stream: %v", l.Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_ = g.r.Drain(ctx)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the relay waited %s for a replaced link", took)
	}
	eventually(t, "the old link has ended", ended(old))
}

// A revoked agent's replaced links end with the others.
func TestRevokingEndsReplacedLinks(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a, _, old := g.replaced()
	if err := g.r.RevokeAgent(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old link has ended", ended(old))
}

// Agents of one gateway may offer different APIs, but should not offer the same one under different policies.
func TestStatusWarnsOfDifferentPolicies(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a, b := g.joined("plant1"), g.joined("plant1")
	one := g.mustLink("plant1", a, at{"p1", 0, 1})
	two := g.mustLink("plant1", b, at{"p2", 0, 1})
	say := func(l *tunnel.Link, text string) {
		t.Helper()
		if err := l.SendControl(gateway.ControlOffer, json.RawMessage(text)); err != nil {
			t.Fatal(err)
		}
	}
	say(one, `{"apis":[{"name":"orders","policy":"sha256:a"},{"name":"stock","policy":"sha256:c"},{"name":"old"}]}`)
	say(two, `{"apis":[{"name":"orders","policy":"sha256:b"},{"name":"stock","policy":"sha256:c"},{"name":"old","policy":"sha256:d"},{"name":"own","policy":"sha256:e"}]}`)
	var warnings []string
	eventually(t, "there is a warning", func() bool { warnings = g.r.Status()[0].Warnings; return len(warnings) > 0 })
	if len(warnings) != 1 || !strings.Contains(warnings[0], "API orders") || !strings.Contains(warnings[0], a.id) || !strings.Contains(warnings[0], b.id) {
		t.Errorf("warned of %q", warnings)
	}
	say(two, `{"apis":[{"name":"orders","policy":"sha256:a"}]}`)
	eventually(t, "the warning is gone", func() bool { return len(g.r.Status()[0].Warnings) == 0 })
}

// Before it goes, a relay asks the agents to come back spread over a time that goes with their number.
func TestARelayThatStopsAsksForAPause(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	for slot := range 2 {
		g.mustLink("plant1", a, at{"p1", slot, 1}, "orders")
	}
	eventually(t, "both links are up", func() bool { return len(g.r.Status()[0].Agents[0].Links) == 2 })
	g.close()
	g.mu.Lock()
	defer g.mu.Unlock()
	if want := `pause {"spread_ns":4000000}`; len(g.told) != 2 || g.told[0] != want || g.told[1] != want {
		t.Errorf("the agents were told %q, want twice %q", g.told, want)
	}
}

// After a link of one agent, one of another agent is picked first, however busy it is.
func TestAnotherAgentIsTriedFirst(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a, b := g.joined("plant1"), g.joined("plant1")
	for slot := range 2 {
		g.mustLink("plant1", a, at{"p1", slot, 1}, "orders")
	}
	g.mustLink("plant1", b, at{"p2", 0, 1}, "orders")
	var first, other *gateway.Link
	eventually(t, "both agents can be picked", func() bool {
		first, _ = g.r.Pick("plant1", "orders")
		if first == nil {
			return false
		}
		other, _ = g.r.Pick("plant1", "orders", first)
		return other != nil && other.Agent != first.Agent
	})
	for range 3 { // it is the busiest now
		s, err := other.Open(&tunnel.Request{ID: "r", API: "orders", Method: "GET", Target: "/"}, true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset(tunnel.Cancelled, "done")
	}
	idle, err := g.r.Pick("plant1", "orders")
	if err != nil || idle.Agent == other.Agent {
		t.Fatalf("picked %v, %v", idle, err)
	}
	if next, err := g.r.Pick("plant1", "orders", idle); err != nil || idle.Agent == a.id && next.Agent != b.id {
		t.Errorf("after a link of %s one of %s was picked, %v", idle.Agent, next.Agent, err)
	}
	if next, err := g.r.Pick("plant1", "orders", other, first); err != nil || next == other || next == first {
		t.Errorf("with two excluded, %v and %v were picked", next, err)
	}
}

// Just after the relay's start a call waits for an agent that comes back; one that nobody will answer does not.
func TestCallsWaitForAgentsThatComeBack(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	picked := make(chan error, 1)
	go func() {
		l, err := g.r.PickSoon(t.Context(), "plant1", "orders")
		if err == nil && l.Agent != a.id {
			t.Errorf("picked a link of %s", l.Agent)
		}
		picked <- err
	}()
	g.mustLink("plant1", a, at{"p1", 0, 1}) // offers nothing yet
	select {
	case err := <-picked:
		t.Fatalf("the call did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	g.mustLink("plant1", a, at{"p1", 1, 1}, "orders")
	if err := <-picked; err != nil {
		t.Errorf("after the agent was back: %v", err)
	}
	if err := g.r.RevokeAgent(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody is waited for", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := g.r.PickSoon(ctx, "plant1", "orders")
		return errors.Is(err, gateway.ErrNoLink)
	})
	if _, err := g.r.PickSoon(t.Context(), "plant2", "orders"); !errors.Is(err, gateway.ErrUnknownGateway) {
		t.Errorf("an unknown gateway gives %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	g.joined("plant3")
	if _, err := g.r.PickSoon(gone, "plant3", "orders"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has gone waits: %v", err)
	}
}

// A call waits for an agent that has said that it goes, as one does that is restarted or updated, for a bounded time and no more
// than so many; for one whose link was lost a moment, and for what it did not offer not at all.
func TestCallsWaitForAnAgentThatRestarts(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.r.Old()
	a := g.joined("plant1")
	pick := func(api string, exclude ...*gateway.Link) (time.Duration, error) {
		began := time.Now()
		_, err := g.r.PickSoon(t.Context(), "plant1", api, exclude...)
		return time.Since(began), err
	}
	const atOnce, wait = time.Second, 5 * time.Second
	up := func(instance string) *tunnel.Link {
		l := g.mustLink("plant1", a, at{instance, 0, 1}, "orders")
		eventually(t, "it is picked", func() bool { _, err := g.r.Pick("plant1", "orders"); return err == nil })
		return l
	}
	down := func() bool { _, err := g.r.Pick("plant1", "orders"); return errors.Is(err, gateway.ErrNoLink) }
	up("p1").Close("crashed")
	eventually(t, "the link is lost", down)
	if took, err := pick("orders"); !errors.Is(err, gateway.ErrNoLink) || took > wait/2 {
		t.Errorf("after a loss: %v after %s", err, took)
	}
	if took, err := pick("orders"); !errors.Is(err, gateway.ErrNoLink) || took > atOnce/2 {
		t.Errorf("a while after a loss: %v after %s", err, took)
	}
	lost := up("p1")
	its, err := g.r.Pick("plant1", "orders")
	if err != nil {
		t.Fatal(err)
	}
	lost.Close("cut")
	eventually(t, "the link is cut", down)
	soon := make(chan error, 3)
	go func() { _, err := pick("orders"); soon <- err }()
	go func() { _, err := pick("orders", its); soon <- err }() // it was on its way over that link, and may be repeated

	l := g.mustLink("plant1", a, at{"p2", 0, 1}) // it has not said yet what it offers
	go func() { _, err := pick("orders"); soon <- err }()
	time.Sleep(100 * time.Millisecond)
	offer(t, l, "orders")
	for range 3 {
		if err := <-soon; err != nil {
			t.Errorf("when a link had come in the place of a lost one: %v", err)
		}
	}
	mine, err := g.r.Pick("plant1", "orders")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Drain(t.Context(), "the agent stops"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent has gone", down)
	if took, err := pick("files"); !errors.Is(err, gateway.ErrNoLink) || took > atOnce {
		t.Errorf("for what was not offered: %v after %s", err, took)
	}
	type outcome struct {
		took time.Duration
		err  error
	}
	calls := make(chan outcome, 600)
	call := func(exclude ...*gateway.Link) { took, err := pick("orders", exclude...); calls <- outcome{took, err} }
	go call()
	go call(mine) // it was on its way when the agent went
	select {
	case o := <-calls:
		t.Fatalf("a call did not wait: %v", o.err)
	case <-time.After(100 * time.Millisecond):
	}
	l = up("p3")
	for range 2 {
		if o := <-calls; o.err != nil || o.took > atOnce+wait/2 {
			t.Errorf("after the agent was back: %v, after %s", o.err, o.took)
		}
	}

	if err := l.Drain(t.Context(), "the agent stops"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent has gone again", down)
	for range 300 {
		go call()
	}
	var waited int
	for range 300 {
		o := <-calls
		if o.took >= wait {
			waited++
		}
		if !errors.Is(o.err, gateway.ErrNoLink) || o.took > 2*wait {
			t.Errorf("an agent that stays away: %v after %s", o.err, o.took)
		}
	}
	if waited != 256 {
		t.Errorf("%d of 300 calls have waited, want 256", waited)
	}
	if took, err := pick("orders"); !errors.Is(err, gateway.ErrNoLink) || took > atOnce {
		t.Errorf("long after an agent went: %v after %s", err, took)
	}
}

// TestWhatVanishesTogether: the packets of both links of an agent vanish. A call that has lost the one does not go over the other,
// which owes a sign of life as well, but over the link that comes a moment later; and if none comes, over the other all the same.
func TestWhatVanishesTogether(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	line, err := fault.New(strings.TrimSuffix(strings.TrimPrefix(g.url, "ws://"), tunnel.Path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = line.Close() })
	straight := g.url
	g.url = "ws://" + line.Addr() + tunnel.Path
	g.mustLink("plant1", a, at{"p1", 0, 1}, "orders")
	g.mustLink("plant1", a, at{"p1", 1, 1}, "orders")
	g.url = straight
	var first, second *gateway.Link
	eventually(t, "both offer", func() bool {
		if first, _ = g.r.Pick("plant1", "orders"); first == nil {
			return false
		}
		second, _ = g.r.Pick("plant1", "orders", first)
		return second != nil
	})
	g.r.Old()
	line.Vanish(fault.Up)
	time.Sleep(5500 * time.Millisecond) // the most that leaves both alive, and owing
	first.Close("lost")
	if !second.Suspect() || !second.Usable() {
		t.Fatal("the other link is not one that owes a sign of life")
	}
	soon := make(chan *gateway.Link, 1)
	go func() {
		l, _ := g.r.PickSoon(t.Context(), "plant1", "orders", first)
		soon <- l
	}()
	g.mustLink("plant1", a, at{"p1", 2, 1}, "orders")
	third := <-soon
	if third == nil || third == second {
		t.Fatal("the call went over the link that owes a sign of life")
	}
	third.Close("lost")
	began := time.Now()
	got, err := g.r.PickSoon(t.Context(), "plant1", "orders", third)
	if took := time.Since(began); err != nil || got != second || took > 2*time.Second {
		t.Errorf("with no better link: %v, the other %v, after %s", err, got == second, took)
	}
}
