package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/heap"
	"sallyport/internal/systemd"
	"sallyport/relay"
	"sallyport/relay/admin"
)

// example is relay.yaml with every setting and its default.
//
//go:embed relay.example.yaml
var example string

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run a relay until it is told to stop",
		Long: `Runs a relay in the foreground. It logs to standard error. SIGTERM or Ctrl-C drains it: it takes no new calls, lets
the present ones end, and stops; a second signal stops it at once. SIGHUP has it read the file again: log.level,
limits.body, .calls and .calls_per_connector and timeouts.answer, .power_platform, .idle and .drain are in force at once, what else has
changed is named in the log and counts from the next start; no call is dropped.`,
		Example: `  sallyport-relay serve --config /etc/sallyport/relay.yaml`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.config == "" {
				return usagef("serve needs --config FILE; 'sallyport-relay config example > relay.yaml' makes one")
			}
			config, err := p.load()
			if err != nil {
				return err
			}
			log, level := p.newLog(config.Log)
			manager := systemd.Open(p.get, log)
			again, stop := hangups(cmd.Context())
			defer stop()
			r, err := relay.Open(cmd.Context(), config, relay.Deps{
				Version: programVersion(), Log: log, Level: level, Again: again, Read: p.load, Rereading: manager.Reloading,
				Kept: systemd.Kept(p.get, log), Keep: manager.Keep,
			})
			if err != nil {
				return fmt.Errorf("start the relay: %w", err)
			}
			defer heap.Keep(leastGarbage, p.get("GOGC"))()
			return manager.Supervise(cmd.Context(), systemd.Service{
				Ask: pulse(admin.NewClient(config.SocketPath())), Stop: func() time.Duration { return stopTime(r.DrainLimit()) },
			}, r.Run)
		},
	}
}

// leastGarbage may gather in any case. So little is in use here that under load it would be collected many times a second.
const leastGarbage = 32 << 20

// pulse has the relay answer over its own admin socket how it is, in a line for 'systemctl status': the listener, the handlers and
// the registry of gateways have to take part. Trouble of the store is told and is an answer: a new start would not mend it.
func pulse(c *admin.Client) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		s, err := c.Status(ctx)
		if err != nil {
			return "", err
		}
		return statusLine(s), nil
	}
}

func statusLine(s admin.Status) string {
	agents, linked := 0, 0
	for _, g := range s.Gateways {
		for _, a := range g.Agents {
			if !a.Revoked.IsZero() || a.Pending {
				continue
			}
			agents++
			if len(a.Links) > 0 {
				linked++
			}
		}
	}
	text := fmt.Sprintf("%d of %d agents linked, gateways: %d, connectors: %d", linked, agents, len(s.Gateways), s.Connectors)
	if s.StoreTrouble != "" {
		return text + "; THE STORE TAKES NO CHANGES: " + s.StoreTrouble
	}
	if s.StoreBroken > 0 {
		return text + "; the store cannot be followed for " + s.StoreBroken.Round(time.Second).String()
	}
	return text
}

func (p *program) newLog(c relay.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)              // info
	_ = level.UnmarshalText([]byte(c.Level)) // left out, or a known name: the configuration admits no others
	options := &slog.HandlerOptions{Level: level}
	handler := func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	if c.Format == "json" {
		handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, options) }
	}
	if systemd.IsJournal(p.err, p.get) {
		return slog.New(systemd.NewHandler(p.err, handler)), level
	}
	return slog.New(handler(p.err)), level
}

func (p *program) configCommand() *cobra.Command {
	return group("config", "Show and check configuration files",
		&cobra.Command{
			Use: "example", Short: "Print a configuration with every setting", Args: exactly(),
			Example: `  sallyport-relay config example > relay.yaml`,
			RunE: func(*cobra.Command, []string) error {
				_, err := io.WriteString(p.out, example)
				return err
			},
		},
		&cobra.Command{
			Use: "check FILE", Short: "Check a configuration file and print all that is wrong", Args: exactly("FILE"),
			Long: `Checks the file, and prints all that is wrong with it. It warns of a certificate that cannot be read, by the relay's
account too, or does not fit its key: that is no error here, because the file may be checked on another machine.`,
			Example: `  sallyport-relay config check relay.yaml`,
			RunE:    func(_ *cobra.Command, args []string) error { return p.configCheck(args[0]) },
		})
}

func (p *program) configCheck(path string) error {
	config, err := loadFile(path)
	if err != nil {
		return err
	}
	warnings := []string{}
	for _, problem := range config.CheckFiles() {
		warnings = append(warnings, problem.Error())
	}
	result := struct {
		OK       bool     `json:"ok"`
		Warnings []string `json:"warnings"`
	}{true, warnings}
	return p.print(result, func(w io.Writer) {
		for _, text := range warnings {
			fmt.Fprintln(p.err, "warning:", text)
		}
		fmt.Fprintln(w, path, "is fine")
	})
}
