package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/relay/admin"
	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

func (p *program) agentCommand() *cobra.Command {
	return group("agent", "See, approve, revoke and remove the agents that have joined",
		p.agentList(), p.agentApprove(), p.agentRefuse(), p.agentRevoke(), p.agentRemove(), p.agentReceipts())
}

func (p *program) agentList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the agents and their links", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			gateways, err := c.Gateways(cmd.Context())
			if err != nil {
				return err
			}
			agents := []gateway.AgentStatus{}
			for _, g := range gateways {
				agents = append(agents, g.Agents...)
			}
			return p.print(agents, func(w io.Writer) { printAgents(w, agents) })
		},
	}
}

func printAgents(w io.Writer, agents []gateway.AgentStatus) {
	if len(agents) == 0 {
		fmt.Fprintln(w, "No agent has joined yet. 'sallyport-relay gateway add NAME' prints what the first one needs.")
		return
	}
	var rows []string
	for _, a := range agents {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", a.ID, a.Gateway, cmp.Or(a.Name, "-"), agentState(a),
			day(a.Joined), keyAge(a)))
	}
	table(w, "AGENT\tGATEWAY\tMACHINE\tSTATE\tJOINED\tKEY AGE", rows)
	printPending(w, agents)
	printClones(w, agents)
}

// printClones warns of agents whose key was shown by a second process.
func printClones(w io.Writer, agents []gateway.AgentStatus) {
	for _, a := range agents {
		if a.Clone != nil {
			fmt.Fprintf(w, "\nWARNING: clone seen at %s from %s: a second process showed the key of agent %s (%s) and was refused.\n"+
				"Was the machine or its key copied? Let each machine join by itself, or revoke the agent.\n",
				day(a.Clone.Seen), a.Clone.Peer, a.ID, cmp.Or(a.Name, a.Gateway))
		}
	}
}

// keyAge says how old an agent's key is, or that it needs none.
func keyAge(a gateway.AgentStatus) string {
	if a.Entra != nil {
		return "Entra ID"
	}
	return age(a.KeySince)
}

// age says how old a key is, in the unit that fits.
func age(since time.Time) string {
	switch d := time.Since(since); {
	case since.IsZero():
		return "-"
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", int(d/time.Hour))
	default:
		return fmt.Sprintf("%d min", int(d/time.Minute))
	}
}

// agentState puts an agent's links into few words.
func agentState(a gateway.AgentStatus) string {
	switch {
	case !a.Refused.IsZero():
		return "refused " + day(a.Refused)
	case a.Pending:
		return "waits for approval"
	}
	if !a.Revoked.IsZero() {
		return "revoked " + day(a.Revoked)
	}
	if len(a.Links) == 0 {
		return "not connected"
	}
	var links []string
	for _, l := range a.Links {
		links = append(links, fmt.Sprintf("%s (%s, %d streams)", l.State, l.RTT.Round(100*time.Microsecond), l.Streams))
	}
	return strings.Join(links, ", ")
}

func (p *program) agentRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Shut an agent out and close its links", Args: exactly("ID"),
		Long: "Shuts an agent out. It can come back only by joining again, with a join string from 'gateway join'. It stays in\n" +
			"the list; 'agent remove' takes it out of that.",
		Example:           "  sallyport-relay agent revoke 7q0x4m2c9t5v8b1n",
		ValidArgsFunction: p.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			if err := c.RevokeAgent(cmd.Context(), args[0]); err != nil {
				return err
			}
			return p.print(map[string]string{"revoked": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Revoked agent", args[0]) })
		},
	}
}

func (p *program) agentReceipts() *cobra.Command {
	return &cobra.Command{
		Use: "receipts ID", Short: "Show how far an agent's record of calls is anchored here", Args: exactly("ID"),
		Long: `Lists the heads of the agent's record of calls that this relay has seen: each number, its hash, and when. They are signed by the
relay's key. On the agent's machine 'sallyport-agent audit verify --receipts FILE', with what --json prints here, proves the
record against them, also if somebody has exchanged everything on that machine.`,
		Example:           "  sallyport-relay agent receipts 7q0x4m2c9t5v8b1n\n  sallyport-relay agent receipts 7q0x4m2c9t5v8b1n --json >receipts.json",
		ValidArgsFunction: p.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			all, err := c.Receipts(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.print(all, func(w io.Writer) { printReceipts(w, all) })
		},
	}
}

func printReceipts(w io.Writer, all []tunnel.AuditReceipt) {
	if len(all) == 0 {
		fmt.Fprintln(w, "The agent has shown nothing of its record yet. Agents of this version show it each minute.")
		return
	}
	var rows []string
	for _, r := range all {
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s", r.Time.Local().Format("2006-01-02 15:04:05"), r.N, r.Hash))
	}
	table(w, "SEEN\tRECORD\tHASH", rows)
}

func (p *program) agentRemove() *cobra.Command {
	var yes, dry bool
	cmd := &cobra.Command{
		Use: "remove ID", Short: "Take an agent off the record, and shut it out", Args: exactly("ID"),
		Long: `Forgets an agent. One that is not revoked is shut out by it: its links are closed, and it can come back only by
joining again. It asks first, unless --yes is given.`,
		Example:           "  sallyport-relay agent remove 7q0x4m2c9t5v8b1n --dry-run\n  sallyport-relay agent remove 7q0x4m2c9t5v8b1n --yes",
		ValidArgsFunction: p.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.removeAgent(cmd.Context(), args[0], yes, dry)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

// agentRemoval is what goes with an agent.
type agentRemoval struct {
	Agent   string `json:"agent"`
	Gateway string `json:"gateway"`
	Machine string `json:"machine,omitempty"`
	// Links is how many links are closed by it, Streams how many calls are cut off.
	Links   int  `json:"links"`
	Streams int  `json:"streams"`
	Revoked bool `json:"revoked"`
	Removed bool `json:"removed"`
}

func (r agentRemoval) String() string {
	s := fmt.Sprintf("agent %s of gateway %s", r.Agent, r.Gateway)
	if r.Machine != "" {
		s += ", on " + r.Machine
	}
	if r.Revoked {
		return s + ", which was revoked"
	}
	return s + fmt.Sprintf(", which could link until now (%d link(s), %d call(s) under way)", r.Links, r.Streams)
}

func (p *program) removeAgent(ctx context.Context, id string, yes, dry bool) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	r, err := agentThatGoes(ctx, c, id)
	if err != nil {
		return err
	}
	return p.remove(ctx, removing{what: r, name: id, kind: "agent's ID", yes: yes, dry: dry}, func() (any, error) {
		if dry {
			return r, nil
		}
		r.Removed = true
		return r, c.RemoveAgent(ctx, id)
	})
}

func agentThatGoes(ctx context.Context, c *admin.Client, id string) (agentRemoval, error) {
	gateways, err := c.Gateways(ctx)
	if err != nil {
		return agentRemoval{}, err
	}
	for _, g := range gateways {
		for _, a := range g.Agents {
			if a.ID != id {
				continue
			}
			r := agentRemoval{Agent: id, Gateway: g.Name, Machine: a.Name, Links: len(a.Links), Revoked: !a.Revoked.IsZero()}
			for _, l := range a.Links {
				r.Streams += l.Streams
			}
			return r, nil
		}
	}
	return agentRemoval{}, fmt.Errorf("unknown agent %q; 'sallyport-relay agent list' shows the agents", id)
}
