package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/configs"
)

func (p *program) pauseCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "pause [API...]", Short: "Refuse the calls of an API, or of all, until they are resumed", Args: cobra.ArbitraryArgs,
		Long: `Has the running agent refuse the calls of these APIs, or of all, without ending its links: for the maintenance of an API, or
to shut the door at once. Calls under way end by themselves. Callers get 503 'paused', which was not run; another agent of the
gateway that offers the API goes on. It holds over restarts, until 'resume', and is on record.`,
		Example: "  sallyport-agent pause orders --reason 'ERP update'\n  sallyport-agent pause",
		RunE:    does(func(ctx context.Context, args []string) error { return p.pause(ctx, args, reason) }),
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the log, the record and 'status'; callers do not see it")
	return c
}

func (p *program) pause(ctx context.Context, apis []string, reason string) error {
	if len(reason) > 200 || strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("the reason has to be one line of at most 200 bytes")
	}
	c, there, wrong, err := p.toldBy()
	if err != nil {
		return err
	}
	p.warnWrong(wrong)
	names, of := apiNames(c), p.config
	if wrong != nil {
		names, of = p.apisInForce(c), "the running agent"
	}
	if wrong != nil && len(apis) > 0 && len(names) == 0 {
		return fmt.Errorf("which APIs there are is not known, for %s is wrong and no agent has run by another one: pause all of them, without a name", p.config)
	}
	for _, name := range apis {
		if there && !slices.Contains(names, name) {
			return fmt.Errorf("%s has no API %q (it has %s)", of, name, cmp.Or(strings.Join(names, ", "), "none"))
		}
	}
	if len(apis) == 0 {
		apis = []string{""}
	}
	return p.tell(ctx, c, func(t *agent.Told, say io.Writer) {
		for _, name := range apis {
			if t.Pause(agent.Pause{API: name, Since: time.Now().UTC().Truncate(time.Second), Reason: reason}) {
				fmt.Fprintf(say, "Paused: %s\n", orAll(name))
			} else {
				fmt.Fprintf(say, "Paused already: %s\n", orAll(name))
			}
		}
	})
}

func apiNames(c *agent.Config) []string {
	names := make([]string, len(c.APIs))
	for i, a := range c.APIs {
		names[i] = a.Name
	}
	return names
}

// apisInForce are those that the agent said it has when it last wrote its status; none if it never did.
func (p *program) apisInForce(c *agent.Config) (names []string) {
	dir, err := p.stateDir(c)
	if err != nil {
		return nil
	}
	s, err := agent.ReadStatus(dir)
	if err != nil {
		return nil
	}
	for _, a := range s.APIs {
		names = append(names, a.Name)
	}
	return names
}

func orAll(api string) string {
	if api == "" {
		return "all APIs"
	}
	return api
}

func (p *program) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume [API...]", Short: "Take the calls of paused APIs again", Args: cobra.ArbitraryArgs,
		Long:    "Ends what 'pause' began: for these APIs, or every pause.",
		Example: "  sallyport-agent resume orders\n  sallyport-agent resume",
		RunE: does(func(ctx context.Context, args []string) error {
			c, _, wrong, err := p.toldBy()
			if err != nil {
				return err
			}
			p.warnWrong(wrong)
			if len(args) == 0 {
				args = []string{""}
			}
			return p.tell(ctx, c, func(t *agent.Told, say io.Writer) {
				for _, name := range args {
					if !t.Resume(name) {
						fmt.Fprintf(say, "Not paused: %s\n", orAll(name))
						continue
					}
					fmt.Fprintf(say, "Resumed: %s\n", orAll(name))
					if name != "" && slices.ContainsFunc(t.Paused, func(p agent.Pause) bool { return p.API == "" }) {
						fmt.Fprintln(say, "All APIs are still paused; 'sallyport-agent resume' without a name ends that.")
					}
				}
			})
		}),
	}
}

func (p *program) logLevelCommand() *cobra.Command {
	var length time.Duration
	c := &cobra.Command{
		Use: "log-level LEVEL", Short: "Change the running agent's log level", Args: exactly(1, 1, "debug, info, warn, error, or usual"),
		Long: `Changes what the running agent logs, within about a second and without a restart: debug, info, warn or error; 'usual' goes back to
what agent.yaml says. It holds over restarts; --for ends it by itself. No level logs bodies, credentials or queries.`,
		Example: "  sallyport-agent log-level debug --for 10m\n  sallyport-agent log-level usual",
		RunE: does(func(ctx context.Context, args []string) error {
			var level slog.Level
			name := strings.ToLower(args[0])
			if name == "usual" {
				name = ""
			} else if level.UnmarshalText([]byte(name)) != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, name) {
				return fmt.Errorf("log level %q is none of debug, info, warn, error, usual", args[0])
			}
			c, _, wrong, err := p.toldBy()
			if err != nil {
				return err
			}
			p.warnWrong(wrong)
			return p.tell(ctx, c, func(t *agent.Told, _ io.Writer) {
				t.LogLevel, t.LogUntil = name, time.Time{}
				if name != "" && length > 0 {
					t.LogUntil = time.Now().UTC().Add(length).Truncate(time.Second)
				}
			})
		}),
	}
	c.Flags().Var((*configs.Span)(&length), "for", "go back to the usual level after this time, such as 10m")
	return c
}

// tell changes what the running agent is told, and says what that was once it is done, and whether there is one to hear it.
func (p *program) tell(ctx context.Context, c *agent.Config, change func(t *agent.Told, say io.Writer)) error {
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	err = agent.Tell(ctx, dir, func(t *agent.Told) error {
		change(t, &said)
		return nil
	})
	if err != nil {
		return err
	}
	_, _ = p.out.Write(said.Bytes()) // run looks at its error
	if s, err := agent.ReadStatus(dir); err != nil || !s.Running {
		fmt.Fprintln(p.out, "The agent does not run; it counts from its next start.")
	}
	return nil
}
