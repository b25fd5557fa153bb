package main

import (
	"strings"
	"testing"
	"time"

	"sallyport/relay/admin"
	"sallyport/relay/gateway"
)

// TestClonesAreShown wherever an admin looks.
func TestClonesAreShown(t *testing.T) {
	t.Parallel()
	cloned := gateway.AgentStatus{ID: "7q0x4m2c9t5v8b1n", Gateway: "plant1", Clone: &gateway.Clone{Seen: time.Now(), Peer: "192.0.2.7"}}
	agents := []gateway.AgentStatus{{ID: "0000000000000000", Gateway: "plant1"}, cloned}
	var list, status strings.Builder
	printAgents(&list, agents)
	printStatus(&status, admin.Status{Gateways: []gateway.Status{{Name: "plant1", Agents: agents}}})
	for _, out := range []string{list.String(), status.String()} {
		if strings.Count(out, "clone seen at") != 1 || !strings.Contains(out, "from 192.0.2.7") || !strings.Contains(out, cloned.ID) {
			t.Errorf("no warning in:\n%s", out)
		}
	}
}
