package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/relay/gateway"
)

func (p *program) agentCommand() *cobra.Command {
	return group("agent", "See and revoke the agents that have joined", p.agentList(), p.agentRevoke())
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
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", a.ID, a.Gateway, cmp.Or(a.Name, "-"), agentState(a), day(a.Joined)))
	}
	table(w, "AGENT\tGATEWAY\tMACHINE\tSTATE\tJOINED", rows)
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

// agentState puts an agent's links into few words.
func agentState(a gateway.AgentStatus) string {
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
		Long:              "Shuts an agent out. It can come back only by joining again, with a join string from 'gateway join'.",
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
