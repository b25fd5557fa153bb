package gateway_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

// TestCodeForSeveralAgents: as many join at once as the code is good for and one more; exactly those that it is good for
// become members, and none of them links before it is approved.
func TestCodeForSeveralAgents(t *testing.T) {
	t.Parallel()
	const uses = 12
	g := newRig(t)
	join, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{Uses: uses, Approve: true})
	if err != nil {
		t.Fatal(err)
	}
	agents := make([]agent, uses+1)
	var admitted, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range agents {
		agents[i] = newAgent()
		wg.Go(func() {
			err := g.join("plant1", join.Code, &agents[i])
			r, ok := errors.AsType[*tunnel.Refusal](err)
			switch {
			case err == nil:
				admitted.Add(1)
			case ok && r.Code == "code-used":
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	status := g.r.Status()[0]
	if admitted.Load() != uses || refused.Load() != 1 || len(status.Agents) != uses || status.OpenCodes != 0 {
		t.Fatalf("%d admitted, %d refused, %d on record, %d codes open; want %d, 1, %d, 0",
			admitted.Load(), refused.Load(), len(status.Agents), status.OpenCodes, uses, uses)
	}
	for _, a := range status.Agents {
		if !a.Pending || a.Code != join.ID || a.Peer != "127.0.0.1" || a.Name != "host-a" || a.Fingerprint == "" {
			t.Errorf("an agent that waits: %+v", a)
		}
	}
	waits := byID(t, agents, status.Agents[0].ID)
	if err := g.join("plant1", join.Code, &waits); err != nil {
		t.Errorf("one that joins again after a lost answer: %v", err)
	}
	_, err = g.link("plant1", waits, at{instance: "x"})
	wantRefusal(t, err, tunnel.RefusedPending)
	if r, _ := errors.AsType[*tunnel.Refusal](err); r == nil || r.Permanent || r.RetryAfter == 0 {
		t.Errorf("the agent would not try again: %+v", r)
	}
	if err := g.r.ApproveAgent(t.Context(), waits.id); err != nil {
		t.Fatal(err)
	}
	g.mustLink("plant1", waits, at{instance: "x"})
	if err := g.r.ApproveAgent(t.Context(), waits.id); !errors.Is(err, gateway.ErrNotPending) {
		t.Errorf("approved twice: %v", err)
	}
}

func TestApproveAllOfACodeAndRefuse(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	many := gateway.CodeUse{Uses: 3, Approve: true}
	first, err := g.r.AddGateway(t.Context(), "plant1", many)
	if err != nil {
		t.Fatal(err)
	}
	second, err := g.r.NewJoin(t.Context(), "plant1", many)
	if err != nil {
		t.Fatal(err)
	}
	a, b, bad, other := newAgent(), newAgent(), newAgent(), newAgent()
	if err := errors.Join(g.join("plant1", first.Code, &a), g.join("plant1", first.Code, &b), g.join("plant1", first.Code, &bad),
		g.join("plant1", second.Code, &other)); err != nil {
		t.Fatal(err)
	}
	if err := g.r.RefuseAgent(t.Context(), bad.id); err != nil {
		t.Fatal(err)
	}
	approved, err := g.r.ApproveCode(t.Context(), first.ID)
	if err != nil || len(approved) != 2 {
		t.Fatalf("approved %v, %v", approved, err)
	}
	g.mustLink("plant1", a, at{instance: "a"})
	g.mustLink("plant1", b, at{instance: "b"})
	_, err = g.link("plant1", bad, at{instance: "x"})
	wantRefusal(t, err, "refused")
	_, err = g.link("plant1", other, at{instance: "x"})
	wantRefusal(t, err, tunnel.RefusedPending)
	wantRefusal(t, g.join("plant1", first.Code, &bad), "code-used") // what was refused does not come back by the same code
	if _, err := g.r.ApproveCode(t.Context(), first.ID); !errors.Is(err, gateway.ErrNotPending) {
		t.Errorf("nothing left to approve: %v", err)
	}
	if err := g.r.RefuseAgent(t.Context(), a.id); !errors.Is(err, gateway.ErrNotPending) {
		t.Errorf("an approved agent was refused: %v", err)
	}
}

func TestCodeUsesAreBounded(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for _, use := range []gateway.CodeUse{{Uses: 2}, {Uses: 100000, Approve: true}} {
		if _, err := g.r.AddGateway(t.Context(), "plant1", use); !errors.Is(err, gateway.ErrCodeUses) {
			t.Errorf("%+v: %v", use, err)
		}
	}
	one, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{Approve: true})
	if err != nil {
		t.Fatal(err)
	}
	a, b := newAgent(), newAgent()
	if err := g.join("plant1", one.Code, &a); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, g.join("plant1", one.Code, &b), "code-used")
}

func byID(t *testing.T, agents []agent, id string) agent {
	t.Helper()
	for _, a := range agents {
		if a.id == id {
			return a
		}
	}
	t.Fatalf("no agent %s", id)
	return agent{}
}
