package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"sallyport/relay/admin"
	"sallyport/relay/gateway"
)

func TestStatusLine(t *testing.T) {
	t.Parallel()
	linked := gateway.AgentStatus{Links: []gateway.LinkStatus{{State: "up"}}}
	s := admin.Status{Connectors: 3, Gateways: []gateway.Status{
		{Agents: []gateway.AgentStatus{linked, {}, {Revoked: time.Now()}, {Pending: true}}},
		{Agents: []gateway.AgentStatus{linked}},
	}}
	const well = "2 of 3 agents linked, gateways: 2, connectors: 3"
	if got := statusLine(s); got != well {
		t.Errorf("%q", got)
	}
	s.StoreBroken = time.Minute
	if got := statusLine(s); got != well+"; the store cannot be followed for 1m0s" {
		t.Errorf("%q", got)
	}
	s.StoreTrouble = "no space left"
	if got := statusLine(s); got != well+"; THE STORE TAKES NO CHANGES: no space left" {
		t.Errorf("%q", got)
	}
}

// A relay that does not answer over its socket has no pulse.
func TestNoAnswerIsNoPulse(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if text, err := pulse(admin.NewClient(filepath.Join(t.TempDir(), "nobody")))(ctx); err == nil {
		t.Errorf("nobody answers %q", text)
	}
}
