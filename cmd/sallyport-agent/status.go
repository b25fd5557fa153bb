package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/identity"
	"sallyport/agent/link"
)

// A statusReport is what 'status' prints.
type statusReport struct {
	Gateway string `json:"gateway"`
	Relay   string `json:"relay"`
	Agent   string `json:"agent,omitempty"`
	Joined  bool   `json:"joined"`
	// Fingerprint is that of the agent's key, made at KeySince.
	Fingerprint string    `json:"fingerprint,omitempty"`
	KeySince    time.Time `json:"keySince,omitzero"`
	// Told is what 'pause' and 'log-level' have told it.
	Told *agent.Told `json:"told,omitempty"`
	// Entra is how the agent signs on there, if it does; it has no key of its own then.
	Entra string `json:"entra,omitempty"`
	agent.Status
}

func (p *program) statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Say who this agent is, how its links are and what became of calls", Args: exactly(0, 0, ""),
		Long: `Shows this agent's identity with the fingerprint of its key, and what the running agent last wrote of itself: its links (up,
down and why, waiting for approval, or refused) with their round trips, the policy in force, and of each API how many calls
there were, how many were refused or failed, and the last problem. It reads files of the state directory and calls nobody;
counts are at most ten seconds old, and begin anew with each start.`,
		Example: "  sallyport-agent status\n  sallyport-agent status --json | jq .apis",
		RunE:    does(func(context.Context, []string) error { return p.showStatus(asJSON) }),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return c
}

func (p *program) showStatus(asJSON bool) error {
	c, _, wrong, err := p.toldBy()
	if err != nil {
		return err
	}
	dir, err := p.openState()                                      // to look at it makes none
	if errors.Is(err, fs.ErrNotExist) && c.Identity.Entra != nil { // it needs none before it runs
		r := statusReport{Gateway: c.Gateway, Relay: c.Relay, Entra: c.Identity.Entra.Credential, Told: &agent.Told{}}
		return r.write(p.out, asJSON)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no state directory %s: this agent has neither joined nor run here; run 'sallyport-agent join', or name the directory with --state",
			p.statePath())
	}
	if err != nil {
		return err
	}
	r := statusReport{Gateway: c.Gateway, Relay: c.Relay}
	if e := c.Identity.Entra; e != nil {
		r.Entra = e.Credential
	} else {
		id, err := identity.Load(dir)
		if err != nil {
			if wrong != nil {
				err = wrong
			}
			return err
		}
		r.Gateway, r.Relay, r.Agent, r.Joined = id.Gateway, id.Relay, id.Agent, id.Joined
		r.Fingerprint, r.KeySince = id.Fingerprint(), id.Created
	}
	if r.Status, err = agent.ReadStatus(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if wrong != nil && r.ConfigProblem == "" {
		r.ConfigProblem = wrong.Error()
	}
	if !r.Running { // else it stands in what is shown
		p.warnWrong(wrong)
	}
	if r.Told, err = agent.ReadTold(dir); err != nil {
		return err
	}
	return r.write(p.out, asJSON)
}

func (r *statusReport) write(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	r.print(w)
	return nil
}

func (r *statusReport) print(w io.Writer) {
	member := "not confirmed by the relay yet; run 'sallyport-agent join' again"
	if r.Joined {
		member = r.Agent
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "gateway\t%s\nrelay\t%s\n", r.Gateway, r.Relay)
	if r.Entra != "" {
		fmt.Fprintf(t, "Entra ID\t%s\n", r.Entra)
	} else {
		fmt.Fprintf(t, "agent\t%s\nfingerprint\t%s\nkey made\t%s\n", member, r.Fingerprint, r.KeySince.Local().Format("2006-01-02 15:04"))
	}
	r.printRun(t)
	for _, pause := range r.Told.Paused {
		fmt.Fprintf(t, "paused\t%s since %s  %s\n", orAll(pause.API), pause.Since.Local().Format("2006-01-02 15:04"), pause.Reason)
	}
	if r.Told.LogLevel != "" && (r.Told.LogUntil.IsZero() || time.Now().Before(r.Told.LogUntil)) {
		until := "until 'sallyport-agent log-level usual'"
		if !r.Told.LogUntil.IsZero() {
			until = "until " + r.Told.LogUntil.Local().Format("15:04:05")
		}
		fmt.Fprintf(t, "log level\t%s %s\n", r.Told.LogLevel, until)
	}
	_ = t.Flush() // to standard output
	r.printAPIs(w)
	if r.Clone != nil {
		fmt.Fprintf(w, "\nWARNING: at %s another process, at %s, showed this agent's key to the relay and was refused.\n"+
			"Was this machine or its key copied? Replace the key: sallyport-agent key rotate\n",
			r.Clone.Seen.Local().Format("2006-01-02 15:04:05"), r.Clone.Peer)
	}
}

// printRun shows what the process said of itself.
func (r *statusReport) printRun(w io.Writer) {
	const form = "2006-01-02 15:04:05"
	if !r.Running {
		fmt.Fprintln(w, "running\tno")
		return // its links are what it said before it ended
	}
	fmt.Fprintf(w, "running\tsince %s, version %s\n", r.Started.Local().Format(form), r.Version)
	if r.Late {
		fmt.Fprintf(w, "\tWARNING: it runs, and what follows is what it said at %s: it could not write since. Is its disk full?\n", r.Written.Local().Format(form))
	}
	if r.Policy != "" {
		fmt.Fprintf(w, "policy\t%s since %s\n", r.Policy, r.PolicySince.Local().Format(form))
	}
	if r.ConfigProblem != "" {
		fmt.Fprintf(w, "\tWARNING: agent.yaml as it is now is not in force: %s\n", strings.ReplaceAll(r.ConfigProblem, "\n", "\n\t"))
	}
	for _, l := range r.Links {
		fmt.Fprintf(w, "link %d\t%s since %s%s\n", l.Slot, l.State, l.Since.Local().Format(form), r.about(l))
		if l.Reason != "" {
			fmt.Fprintf(w, "\t%s\n", l.Reason)
		}
	}
}

// about is what else there is to say of a link that is up.
func (r *statusReport) about(l link.Status) (text string) {
	if l.Node != "" {
		text += ", relay node " + l.Node
	}
	if l.RTT > 0 {
		text += fmt.Sprintf(", round trip %.1f ms", l.RTT)
	}
	if l.Version != "" && l.Version != r.Version {
		text += ", relay version " + l.Version
	}
	return text
}

func (r *statusReport) printAPIs(w io.Writer) {
	if len(r.APIs) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nAPI\tCALLS\tREFUSED\tFAILED\tLAST PROBLEM")
	for _, a := range r.APIs {
		last := "-"
		if p := a.LastProblem; p != nil {
			last = fmt.Sprintf("%s %s %q: %d %s, request %s", p.Time.Local().Format("2006-01-02 15:04:05"), p.Method, p.Path, p.Status, p.Problem, p.Request)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\n", a.Name, a.Calls, a.Refused, a.Failed, last)
	}
	_ = t.Flush() // to standard output
}
