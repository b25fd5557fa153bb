package service

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/installer/linux"
)

func agentSpec() Spec {
	return Spec{
		Name: "sallyport-agent", Account: "sallyport-agent", Unit: linux.AgentUnit, Packaged: "/usr/bin/sallyport-agent", Arguments: []string{"run"},
		Config: "/etc/sallyport/agent.yaml", DefaultConfig: "/etc/sallyport/agent.yaml",
		State: "/var/lib/sallyport-agent", DefaultState: "/var/lib/sallyport-agent",
	}
}

// changed gives the lines of a unit that the package's does not have.
func changed(t *testing.T, s Spec, program string) []string {
	t.Helper()
	text, err := render(s, program)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(head, "# Written by '"+s.Name+" service install'") {
		t.Errorf("the unit begins with %q: install could not tell it for its own", head)
	}
	packaged := map[string]bool{}
	for line := range strings.Lines(s.Unit) {
		packaged[line] = true
	}
	var lines []string
	for line := range strings.Lines(body) {
		if !packaged[line] {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func TestUnitIsThePackagesWithOtherPaths(t *testing.T) {
	t.Parallel()
	if got := changed(t, agentSpec(), "/usr/bin/sallyport-agent"); got != nil {
		t.Errorf("with everything as in the package: %q", got)
	}
	other := agentSpec()
	other.Account, other.Config, other.State = "svc-orders", "/etc/a b/100%.yaml", `/srv/st"ate`
	want := []string{
		"ConditionPathExists=/etc/a b/100%%.yaml", "User=svc-orders", "Group=",
		`ExecStart=/usr/local/bin/sallyport-agent run --config "/etc/a b/100%%.yaml" --state "/srv/st\"ate"`,
		`ReadWritePaths="/srv/st\"ate"`,
	}
	if diff := cmp.Diff(want, changed(t, other, "/usr/local/bin/sallyport-agent")); diff != "" {
		t.Error(diff)
	}
	relay := agentSpec()
	relay.Name, relay.Account, relay.Unit = "sallyport-relay", "sallyport-relay", linux.RelayUnit
	relay.Arguments, relay.NameConfig, relay.Config, relay.DefaultConfig = []string{"serve"}, true, "/etc/sallyport/relay.yaml", "/etc/sallyport/relay.yaml"
	if got := changed(t, relay, "/usr/bin/sallyport-relay"); got != nil {
		t.Errorf("the relay's, with everything as in the package: %q", got)
	}
}

// TestStopTakesAsLongAsTheDrain: systemd must not end a program in the middle of a drain that was asked for.
func TestStopTakesAsLongAsTheDrain(t *testing.T) {
	t.Parallel()
	s := agentSpec()
	s.Stop = 45 * time.Second
	if got := dropIn(s); got != "" {
		t.Errorf("what the package's unit has already: %q", got)
	}
	s.Stop = 5 * time.Second
	if got := dropIn(s); got != "" {
		t.Errorf("less than the package's unit has: %q", got)
	}
	s.Stop = 315 * time.Second
	if got := dropIn(s); !strings.HasSuffix(got, "\n[Service]\nTimeoutStopSec=315\n") {
		t.Errorf("a long drain: %q", got)
	}
	if diff := cmp.Diff([]string{"TimeoutStopSec=315"}, changed(t, s, "/usr/bin/sallyport-agent")); diff != "" {
		t.Error(diff)
	}
	s.Account = "svc-orders"
	if got := dropIn(s); !strings.HasSuffix(got, "\n[Service]\nUser=svc-orders\nGroup=\nTimeoutStopSec=315\n") {
		t.Errorf("and another account: %q", got)
	}
}

func TestUnitRefusesWhatItCannotName(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/etc/a\nExecStartPre=/bin/evil", "/etc/{{Name}}"} {
		s := agentSpec()
		s.Config = path
		if text, err := render(s, "/usr/bin/sallyport-agent"); err == nil {
			t.Errorf("the path %q is in a unit:\n%s", path, text)
		}
	}
}

func TestStepsEndWithTheFirstThatFails(t *testing.T) {
	t.Parallel()
	var did []string
	broken := errors.New("no space left")
	steps := []step{
		{"make the account", func(context.Context) error { did = append(did, "account"); return nil }},
		{"write the unit", func(context.Context) error { return broken }},
		{"start it", func(context.Context) error { did = append(did, "start"); return nil }},
	}
	var out bytes.Buffer
	if err := carry(t.Context(), &out, true, steps); err != nil || did != nil || strings.Count(out.String(), "would ") != 3 {
		t.Errorf("a dry run: %v, did %q, said\n%s", err, did, &out)
	}
	err := carry(t.Context(), &out, false, steps)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "write the unit") || !cmp.Equal(did, []string{"account"}) {
		t.Errorf("it ended with %v after %q", err, did)
	}
}
