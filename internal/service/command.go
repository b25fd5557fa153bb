package service

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// A Frame is how a program writes and wraps its commands.
type Frame struct {
	Out io.Writer
	// None is its check that a command has no arguments.
	None cobra.PositionalArgs
	// Group makes a command that only holds others.
	Group func(use, short string, sub ...*cobra.Command) *cobra.Command
	// Does makes the function of a command.
	Does func(func(ctx context.Context) error) func(*cobra.Command, []string) error
	// JSON is the program's own --json, if it has one for all commands.
	JSON *bool
}

// Commands gives 'service' and what is below it. The spec is asked for when a command runs, after its flags are read.
func Commands(name string, spec func() (Spec, error), f Frame) *cobra.Command {
	var account string
	var dry bool
	with := func(do func(ctx context.Context, s Spec) error) func(*cobra.Command, []string) error {
		return f.Does(func(ctx context.Context) error {
			s, err := spec()
			if err != nil {
				return err
			}
			s.Account = account
			return do(ctx, s)
		})
	}
	command := func(use, short string, do func(context.Context, io.Writer, Spec, bool) error) *cobra.Command {
		c := &cobra.Command{
			Use: use, Short: short, Args: f.None,
			Example: "  " + name + " service " + use + "\n  " + name + " service " + use + " --dry-run",
			RunE:    with(func(ctx context.Context, s Spec) error { return do(ctx, f.Out, s, dry) }),
		}
		c.Flags().BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
		return c
	}
	install := command("install", "Make this program a service that starts with the machine", Install)
	install.Long = installHelp
	install.Example += "\n  " + name + " service install --account " + exampleAccount
	install.Flags().StringVar(&account, "account", "", "the `account` to run as (default: one of its own)")
	uninstall := command("uninstall", "Stop the service and remove it; configuration, key and records stay", Uninstall)
	return f.Group("service", "Run as a service of this machine: install, start, stop, look", install, uninstall,
		command("start", "Start the service", Start),
		command("stop", "Drain and stop the service", Stop),
		command("restart", "Drain and stop the service, and start it again", Restart),
		statusCommand(name, with, f))
}

func statusCommand(name string, with func(func(context.Context, Spec) error) func(*cobra.Command, []string) error, f Frame) *cobra.Command {
	asJSON := f.JSON
	if asJSON == nil {
		asJSON = new(bool)
	}
	c := &cobra.Command{
		Use: "status", Short: "Say how the service is", Args: f.None,
		Long: `Says what the machine knows of the service. Exit codes: 0 it runs, 3 it does not, 4 it is not installed, 1 that could
not be found out.`,
		Example: "  " + name + " service status\n  " + name + " service status --json",
		RunE: with(func(ctx context.Context, s Spec) error {
			status, err := Ask(ctx, s)
			if err != nil {
				return err
			}
			if err := status.write(f.Out, *asJSON); err != nil {
				return err
			}
			switch {
			case !status.Installed:
				return ExitError(ExitNotInstalled)
			case status.State != Running:
				return ExitError(ExitNotRunning)
			}
			return nil
		}),
	}
	if f.JSON == nil {
		c.Flags().BoolVar(asJSON, "json", false, "for scripts")
	}
	return c
}

func (s Status) write(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "service\t%s\nstate\t%s\n", s.Name, s.State)
	if s.Detail != "" {
		fmt.Fprintf(t, "\t%s\n", s.Detail)
	}
	if s.Installed {
		when := "by hand"
		if s.Automatic {
			when = "with the machine"
		}
		fmt.Fprintf(t, "starts\t%s\naccount\t%s\ncommand\t%s\n", when, s.Account, s.Command)
	}
	if s.PID != 0 {
		fmt.Fprintf(t, "process\t%d\n", s.PID)
	}
	if s.Unit != "" {
		fmt.Fprintf(t, "unit\t%s\n", s.Unit)
	}
	if s.Restarts != 0 {
		fmt.Fprintf(t, "restarts\t%d since it was started\n", s.Restarts)
	}
	return t.Flush()
}
