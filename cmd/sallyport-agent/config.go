package main

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/agent"
)

// example is configs/agent.example.yaml; a test keeps them the same.
//
//go:embed agent.example.yaml
var example string

func (p *program) configCommand() *cobra.Command {
	return group("config", "Check agent.yaml, or show an example",
		&cobra.Command{
			Use: "check [FILE]", Short: "Say everything that is wrong with a configuration", Args: exactly(0, 1, ""),
			Long: `Reads the file as 'run' does and lists every error with line and column, and says what leaves of each API's description. It
touches neither the network nor the secrets.`,
			Example: "  sallyport-agent config check agent.yaml",
			RunE: does(func(ctx context.Context, args []string) error {
				if len(args) == 1 {
					p.config = args[0]
				}
				return p.checkConfig(ctx)
			}),
		},
		&cobra.Command{
			Use: "example", Short: "Print a configuration with its settings explained", Args: exactly(0, 0, ""),
			RunE: does(func(context.Context, []string) error {
				_, err := fmt.Fprint(p.out, example)
				return err
			}),
		},
	)
}

func (p *program) checkConfig(ctx context.Context) error {
	c, err := agent.ReadConfig(p.config)
	if err != nil {
		return err
	}
	for _, w := range c.Warnings {
		fmt.Fprintln(p.err, "warning:", w)
	}
	rules := 0
	for i := range c.APIs {
		rules += len(c.APIs[i].Allow)
	}
	p.checkDefinitions(ctx, c)
	_, err = fmt.Fprintf(p.out, "%s is valid: gateway %s at %s, %d APIs, %d rules.\n", p.config, c.Gateway, c.Relay, len(c.APIs), rules)
	return err
}
