package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sallyport/relay/gateway"
)

// printPending shows what an admin has to see of the agents that wait for approval.
func printPending(w io.Writer, agents []gateway.AgentStatus) {
	var rows []string
	for _, a := range agents {
		if a.Pending {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", a.ID, cmp.Or(a.Name, "-"), cmp.Or(a.Peer, "-"), a.Code, a.Fingerprint))
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprint(w, "\nWaiting for approval. Compare each fingerprint with the one that 'sallyport-agent status' shows on the machine, then\n"+
		"'sallyport-relay agent approve ID', or 'agent refuse ID':\n\n")
	table(w, "AGENT\tMACHINE\tADDRESS\tCODE\tFINGERPRINT", rows)
}

func (p *program) agentApprove() *cobra.Command {
	var code string
	cmd := &cobra.Command{
		Use: "approve [ID]", Short: "Let an agent link that waits for approval",
		Long: `Approves an agent that joined with a join string made with --approve. Compare its fingerprint first: 'agent list' shows
what came here, 'sallyport-agent status' on the machine what it should be.

--all-of-code approves all agents that have joined with one join string so far; 'gateway join' and 'agent list' show its ID.`,
		Example:           "  sallyport-relay agent approve 7q0x4m2c9t5v8b1n\n  sallyport-relay agent approve --all-of-code 4nzxmer67s",
		ValidArgsFunction: p.completeAgents,
		Args: func(cmd *cobra.Command, args []string) error {
			if code != "" && len(args) > 0 {
				return usagef("name an agent or --all-of-code, not both")
			}
			if code != "" {
				return nil
			}
			return exactly("ID")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			approved := args
			if code != "" {
				approved, err = c.ApproveCode(cmd.Context(), code)
			} else {
				err = c.ApproveAgent(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			return p.print(map[string][]string{"approved": approved}, func(w io.Writer) {
				for _, id := range approved {
					fmt.Fprintln(w, "Approved agent", id)
				}
			})
		},
	}
	cmd.Flags().StringVar(&code, "all-of-code", "", "approve all that have joined with the join code of this `ID`")
	return cmd
}

func (p *program) agentRefuse() *cobra.Command {
	return &cobra.Command{
		Use: "refuse ID", Short: "Shut out an agent that waits for approval", Args: exactly("ID"),
		Long:              "Refuses an agent that waits for approval. It is told, and can come back only with another join string.",
		Example:           "  sallyport-relay agent refuse 7q0x4m2c9t5v8b1n",
		ValidArgsFunction: p.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			if err := c.RefuseAgent(cmd.Context(), args[0]); err != nil {
				return err
			}
			return p.print(map[string]string{"refused": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Refused agent", args[0]) })
		},
	}
}
