package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sallyport/relay/admin"
)

func (p *program) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what the relay is doing", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.Connectors(cmd.Context())
			if err != nil {
				return err
			}
			return p.print(s, func(w io.Writer) {
				printStatus(w, s)
				p.printDefinitions(cmd.Context(), w, c, list)
			})
		},
	}
}

func printStatus(w io.Writer, s admin.Status) {
	fmt.Fprintf(w, "Relay        %s, version %s, up for %s\n", s.URL, s.Version, time.Since(s.Started).Round(time.Second))
	fmt.Fprintf(w, "Signing key  %s\n", s.SigningKey)
	fmt.Fprintf(w, "Connectors   %d\n", s.Connectors)
	if s.StoreBroken > 0 {
		fmt.Fprintf(w, "Store        CANNOT BE FOLLOWED for %s; the relay's log says why\n", s.StoreBroken.Round(time.Second))
	}
	if s.StoreTrouble != "" {
		fmt.Fprintf(w, "Store        TAKES NO CHANGES: %s\n", s.StoreTrouble)
	}
	if s.LogLevel != nil {
		fmt.Fprintf(w, "Log level    %s\n", levelText(*s.LogLevel))
	}
	if s.LogDropped > 0 {
		fmt.Fprintf(w, "Access log   %d events were lost since the start; the relay's log says why\n", s.LogDropped)
	}
	if s.Syslog != nil {
		state := "connected"
		if !s.Syslog.Connected {
			state = "NOT CONNECTED"
		}
		fmt.Fprintf(w, "Syslog       %s, %s, %d bytes wait, %d messages were lost since the start\n", s.Syslog.To, state, s.Syslog.Queued, s.Syslog.Dropped)
	}
	printOpen(w, s.Open)
	fmt.Fprintln(w)
	printGateways(w, s.Gateways)
	for _, g := range s.Gateways {
		printClones(w, g.Agents)
		for _, warning := range g.Warnings {
			fmt.Fprintf(w, "\nWARNING: gateway %s: %s.\n", g.Name, warning)
		}
	}
}

// levelText says which level is in force, and for how long if an admin has set it.
func levelText(l admin.LevelInForce) string {
	switch {
	case !l.Told:
		return l.Level
	case l.Until.IsZero():
		return fmt.Sprintf("%s until 'sallyport-relay log-level usual' or the relay's end, then %s", l.Level, l.Usual)
	}
	return fmt.Sprintf("%s until %s, then %s", l.Level, l.Until.Local().Format("15:04:05"), l.Usual)
}

// completeTimeout keeps the shell from hanging when the relay does.
const completeTimeout = 2 * time.Second

// complete asks the relay for names. A relay that is not there completes nothing.
func (p *program) complete(cmd *cobra.Command, args []string, names func(context.Context, *admin.Client) []string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	c, err := p.client()
	if err != nil || len(args) > 0 {
		return nil, none
	}
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completeTimeout)
	defer cancel()
	return names(ctx, c), none
}

func (p *program) completeGateways(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, func(ctx context.Context, c *admin.Client) (names []string) {
		list, _ := c.Gateways(ctx)
		for _, g := range list {
			names = append(names, g.Name)
		}
		return names
	})
}

func (p *program) completeAgents(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, func(ctx context.Context, c *admin.Client) (names []string) {
		list, _ := c.Gateways(ctx)
		for _, g := range list {
			for _, a := range g.Agents {
				names = append(names, cobra.CompletionWithDesc(a.ID, g.Name+" "+a.Name))
			}
		}
		return names
	})
}

func (p *program) completeAPIs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, func(ctx context.Context, c *admin.Client) (names []string) {
		list, _ := c.Gateways(ctx)
		for _, g := range list {
			for _, api := range offered(g) {
				names = append(names, g.Name+"/"+api)
			}
		}
		return names
	})
}

func (p *program) completeConnectors(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, func(ctx context.Context, c *admin.Client) (names []string) {
		list, _ := c.Connectors(ctx)
		for _, x := range list {
			names = append(names, x.Gateway+"/"+x.Name)
		}
		return names
	})
}
