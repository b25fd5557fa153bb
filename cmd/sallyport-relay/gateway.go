package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/configs"
	"sallyport/relay/admin"
	"sallyport/relay/gateway"
)

func (p *program) gatewayCommand() *cobra.Command {
	return group("gateway", "Manage gateways, the named places that agents answer for",
		p.joinCommand("add NAME", "Make a gateway and print the join string for its first agent",
			func(ctx context.Context, c *admin.Client, name string, how admin.NewJoin) (admin.Join, error) {
				return c.AddGateway(ctx, name, how)
			}),
		p.joinCommand("join NAME", "Print a join string for another agent of a gateway",
			func(ctx context.Context, c *admin.Client, name string, how admin.NewJoin) (admin.Join, error) {
				return c.NewJoin(ctx, name, how)
			}),
		p.allowEntra(), p.disallowEntra(), p.gatewayList(), p.gatewayRemove())
}

type makeJoin func(ctx context.Context, c *admin.Client, name string, how admin.NewJoin) (admin.Join, error)

func (p *program) joinCommand(use, short string, make makeJoin) *cobra.Command {
	var how admin.NewJoin
	verb, _, _ := strings.Cut(use, " ")
	self := "  sallyport-relay gateway " + verb + " plant1"
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactly("NAME"),
		Long: short + `. The join string is good for one agent and one hour.

For a mass roll-out, --uses N --approve makes one that N agents can join with. Each of them then waits until an admin has
compared its fingerprint ('sallyport-relay agent list') and approved it ('agent approve').`,
		Example: self + "\n" + self + " --expires 24h\n" + self + " --uses 40 --approve --expires 72h",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case how.Expires <= 0:
				return usagef("--expires must be longer than nothing, such as 24h")
			case how.Uses < 1:
				return usagef("--uses must be 1 or more")
			case how.Uses > 1 && !how.Approve:
				return usagef("--uses %d needs --approve: whoever sees a join string for many machines could join with it", how.Uses)
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			join, err := make(cmd.Context(), c, args[0], how)
			if err != nil {
				return err
			}
			return p.print(join, func(w io.Writer) { printJoin(w, join) })
		},
	}
	how.Expires = gateway.DefaultCodeLife
	cmd.Flags().Var((*configs.Span)(&how.Expires), "expires", "how `long` the join string can be used")
	cmd.Flags().IntVar(&how.Uses, "uses", 1, "how many agents can join with it; more than one need --approve")
	cmd.Flags().BoolVar(&how.Approve, "approve", false, "an agent that has joined waits until an admin approves it")
	if verb == "join" {
		cmd.ValidArgsFunction = p.completeGateways
	}
	return cmd
}

func printJoin(w io.Writer, j admin.Join) {
	agents := "one agent"
	if j.Uses > 1 {
		agents = fmt.Sprintf("%d agents", j.Uses)
	}
	fmt.Fprintf(w, `Join string for gateway %s, for %s, until %s:

  %s

On the machine inside, run this and paste the join string when it asks:

  sudo sallyport-agent setup     # joins, asks for the first API, tries it, and starts the agent
  sudo sallyport-agent join      # joins, and leaves the rest to you

On Windows as an administrator, without sudo. For an agent that is run by hand, say where its files are:

  sallyport-agent join --config agent.yaml --state agent-data
`, j.Gateway, agents, j.Expires.Local().Format("2006-01-02 15:04 MST"), j.JoinString)
	if j.Approve {
		fmt.Fprintf(w, `
Each agent waits until you have approved it. Compare the fingerprint that its admin sees, then approve:

  sallyport-relay agent list
  sallyport-relay agent approve ID
  sallyport-relay agent approve --all-of-code %s
`, j.Code)
	}
	fmt.Fprint(w, "\nThe join string is a secret until it is used, and is not shown again.\n")
}

func (p *program) gatewayList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the gateways", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			list, err := c.Gateways(cmd.Context())
			if err != nil {
				return err
			}
			return p.print(list, func(w io.Writer) { printGateways(w, list) })
		},
	}
}

func printGateways(w io.Writer, list []gateway.Status) {
	if len(list) == 0 {
		fmt.Fprintln(w, "There are no gateways yet. Make one: sallyport-relay gateway add NAME")
		return
	}
	rows := make([]string, 0, len(list))
	for _, g := range list {
		agents, up, streams := 0, 0, 0
		for _, a := range g.Agents {
			if a.Revoked.IsZero() {
				agents++
			}
			for _, l := range a.Links {
				if l.State == "up" {
					up++
				}
				streams += l.Streams
			}
		}
		rows = append(rows, fmt.Sprintf("%s\t%d\t%d\t%d\t%s\t%d\t%s", g.Name, agents, up, streams,
			cmp.Or(strings.Join(offered(g), ","), "-"), g.OpenCodes, day(g.Created)))
	}
	table(w, "GATEWAY\tAGENTS\tLINKS UP\tSTREAMS\tAPIS\tOPEN CODES\tMADE", rows)
}

// offered are the APIs that the gateway's agents offer, each once.
func offered(g gateway.Status) (apis []string) {
	seen := map[string]bool{}
	for _, a := range g.Agents {
		for _, l := range a.Links {
			for _, api := range l.APIs {
				if !seen[api] {
					seen[api] = true
					apis = append(apis, api)
				}
			}
		}
	}
	return apis
}

func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func (p *program) gatewayRemove() *cobra.Command {
	var yes, dry bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Remove a gateway with its agents, connectors and keys", Args: exactly("NAME"),
		Long: `Removes a gateway. Its links are closed, its agents must join again to be of use, and its connectors and their keys
are gone. It asks first, unless --yes is given.`,
		Example:           "  sallyport-relay gateway remove plant1 --dry-run\n  sallyport-relay gateway remove plant1 --yes",
		ValidArgsFunction: p.completeGateways,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.removeGateway(cmd.Context(), args[0], yes, dry)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

// removal is what goes with a gateway. Agents are those that could link; revoked ones are lost to nobody.
type removal struct {
	Gateway    string   `json:"gateway"`
	Agents     []string `json:"agents"`
	Connectors []string `json:"connectors"`
	Removed    bool     `json:"removed"`
}

func (p *program) removeGateway(ctx context.Context, name string, yes, dry bool) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	r, err := whatGoes(ctx, c, name)
	if err != nil {
		return err
	}
	return p.remove(ctx, removing{what: r, name: name, kind: "gateway's name", yes: yes, dry: dry}, func() (any, error) {
		if dry {
			return r, nil
		}
		r.Removed = true
		return r, c.RemoveGateway(ctx, name)
	})
}

func (r removal) String() string {
	s := fmt.Sprintf("gateway %s, %d agent(s), %d connector(s)", r.Gateway, len(r.Agents), len(r.Connectors))
	if len(r.Connectors) > 0 {
		s += " with their keys: " + strings.Join(r.Connectors, ", ")
	}
	return s
}

func whatGoes(ctx context.Context, c *admin.Client, name string) (removal, error) {
	r := removal{Gateway: name, Agents: []string{}, Connectors: []string{}}
	gateways, err := c.Gateways(ctx)
	if err != nil {
		return r, err
	}
	found := false
	for _, g := range gateways {
		if g.Name == name {
			found = true
			for _, a := range g.Agents {
				if a.Revoked.IsZero() {
					r.Agents = append(r.Agents, a.ID)
				}
			}
		}
	}
	if !found {
		return r, fmt.Errorf("unknown gateway %q; 'sallyport-relay gateway list' shows the gateways", name)
	}
	connectors, err := c.Connectors(ctx)
	for _, c := range connectors {
		if c.Gateway == name {
			r.Connectors = append(r.Connectors, c.Gateway+"/"+c.Name)
		}
	}
	return r, err
}
