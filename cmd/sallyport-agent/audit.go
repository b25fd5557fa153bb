package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/audit"
	"sallyport/agent/identity"
	"sallyport/agent/state"
)

func (p *program) auditCommand() *cobra.Command {
	return group("audit", "Read and prove the record of calls", p.auditShowCommand(), p.auditVerifyCommand())
}

func (p *program) auditVerifyCommand() *cobra.Command {
	var asJSON bool
	var receipts, relayKey string
	c := &cobra.Command{
		Use: "verify", Short: "Prove that the record of calls is as it was written", Args: exactly(0, 0, ""),
		Long: `Goes over all files of the record, checks that each record follows the one before it and that the seals are by this agent's
keys, and names the first record that was altered or is missing. A last line without an end is what a crash leaves, and no
fault. It reads files of the state directory, beside a running agent too, and changes nothing.

What came after the last seal (a minute at most while the agent runs) could be altered by who may write these files. Who has the
agent's key too could write everything anew: against that the relay signs each seal, and its receipts are compared as well. What came
after the last receipt is called unanchored. Receipts beside the record can be exchanged with it; take those of the relay for a proof
that owes nothing to this machine: 'sallyport-relay agent receipts ID --json', and name the relay's key yourself with --relay-key.

Exit codes: 0 nothing is wrong, 1 it could not be read, 4 the record was altered.`,
		Example: "  sallyport-agent audit verify\n  sallyport-agent audit verify --json --state /mnt/image/var/lib/sallyport-agent\n" +
			"  sallyport-agent audit verify --receipts receipts.json --relay-key sha256:...",
		RunE: does(func(ctx context.Context, _ []string) error { return p.auditVerify(ctx, receipts, relayKey, asJSON) }),
	}
	c.Flags().StringVar(&receipts, "receipts", "", "a file with the relay's receipts, instead of those beside the record")
	c.Flags().StringVar(&relayKey, "relay-key", "", "the fingerprint of the relay's signing key ('sallyport-relay status' shows it). Default: the pinned one")
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return c
}

// witness is what the relay has to say about the record.
func (p *program) witness(c *agent.Config, dir state.Dir, file, relayKey string) (w audit.Witness, err error) {
	w.Relay = relayKey
	switch {
	case relayKey != "":
	case c != nil && c.Identity.Entra != nil:
		w.Relay = c.Identity.Entra.RelayKey
	default:
		if w.Relay, err = identity.RelayKey(dir); err != nil {
			return w, err
		}
	}
	if file == "" {
		return w, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return w, fmt.Errorf("read the receipts: %w", err)
	}
	if w.Receipts, err = audit.ParseReceipts(data); err != nil {
		return w, fmt.Errorf("%s: %w", file, err)
	}
	return w, nil
}

func (p *program) auditVerify(ctx context.Context, receipts, relayKey string, asJSON bool) error {
	c, _, wrong, err := p.toldBy()
	if err != nil {
		return err
	}
	p.warnWrong(wrong)
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	keys, err := identity.RecordKeys(dir)
	if err != nil {
		return err
	}
	relay, err := p.witness(c, dir, receipts, relayKey)
	if err != nil {
		return err
	}
	rep, err := audit.Verify(ctx, dir, keys, relay)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(rep)
	} else {
		err = printProof(p.out, rep)
	}
	if err == nil && rep.Fault != nil {
		return exitError{exitAltered, fmt.Errorf("the record was altered: %w", rep.Fault)}
	}
	return err
}

func printProof(w io.Writer, r *audit.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if r.Last > 0 {
		fmt.Fprintf(t, "records\t%d to %d\n", r.First, r.Last)
	} else {
		fmt.Fprint(t, "records\tnone\n")
	}
	if r.Sealed > 0 {
		fmt.Fprintf(t, "sealed\tup to %d, at %s, by key %s\n", r.Sealed, r.SealedAt.Local().Format("2006-01-02 15:04:05"), r.Key)
	}
	if r.Last > r.Sealed {
		fmt.Fprintf(t, "not sealed yet\t%d\n", r.Last-max(r.Sealed, r.First-1))
	}
	if r.Anchored > 0 {
		fmt.Fprintf(t, "anchored\tup to %d, by the relay's receipt of %s\n", r.Anchored, r.AnchoredAt.Local().Format("2006-01-02 15:04:05"))
	}
	if r.Unanchored > 0 {
		fmt.Fprintf(t, "unanchored\t%d: the relay has not signed them yet\n", r.Unanchored)
	}
	if r.Foreign > 0 {
		fmt.Fprintf(t, "passed over\t%d receipts of other relays\n", r.Foreign)
	}
	if r.Legacy > 0 {
		fmt.Fprintf(t, "before the chain\t%d lines of version 1, which nothing proves but the last one's hash\n", r.Legacy)
	}
	if r.Torn > 0 {
		fmt.Fprintf(t, "unfinished\t%d bytes at the end: a crash, or a record that is being written\n", r.Torn)
	}
	if r.Fault != nil {
		fmt.Fprintf(t, "ALTERED\t%v\n", r.Fault)
	}
	return t.Flush()
}
