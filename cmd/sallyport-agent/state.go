package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/identity"
)

// A stateReport is what 'state' prints.
type stateReport struct {
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

func (p *program) stateCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "state", Short: "Say who this agent is and how its links are", Args: exactly(0, 0, ""),
		Long: `Shows this agent's identity with the fingerprint of its key, and what the running agent last wrote about its links: up,
down and why, waiting for approval, or refused. It reads files of the state directory and calls nobody.`,
		Example: "  sallyport-agent state\n  sallyport-agent state --json",
		RunE:    does(func(context.Context, []string) error { return p.showState(asJSON) }),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return c
}

func (p *program) showState(asJSON bool) error {
	c, _, err := p.configIfThere()
	if err != nil {
		return err
	}
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	r := stateReport{Gateway: c.Gateway, Relay: c.Relay}
	if e := c.Identity.Entra; e != nil {
		r.Entra = e.Credential
	} else {
		id, err := identity.Load(dir)
		if err != nil {
			return err
		}
		r.Gateway, r.Relay, r.Agent, r.Joined = id.Gateway, id.Relay, id.Agent, id.Joined
		r.Fingerprint, r.KeySince = id.Fingerprint(), id.Created
	}
	if r.Status, err = agent.ReadStatus(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r.Told, err = agent.ReadTold(dir); err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	r.print(p.out)
	return nil
}

func (r *stateReport) print(w io.Writer) {
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
	if !r.Running {
		fmt.Fprintln(t, "running\tno")
	}
	for _, l := range r.Links {
		if !r.Running {
			break // what it said before it ended
		}
		fmt.Fprintf(t, "link %d\t%s since %s\n", l.Slot, l.State, l.Since.Local().Format("2006-01-02 15:04:05"))
		if l.Reason != "" {
			fmt.Fprintf(t, "\t%s\n", l.Reason)
		}
	}
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
	if r.Clone != nil {
		fmt.Fprintf(w, "\nWARNING: at %s another process, at %s, showed this agent's key to the relay and was refused.\n"+
			"Was this machine or its key copied? Replace the key: sallyport-agent key rotate\n",
			r.Clone.Seen.Local().Format("2006-01-02 15:04:05"), r.Clone.Peer)
	}
}
