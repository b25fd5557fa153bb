package main

import (
	_ "embed"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"

	"sallyport/relay"
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
the present ones end, and stops; a second signal stops it at once.`,
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
			r, err := relay.New(cmd.Context(), config, programVersion(), newLog(config.Log, p.err))
			if err != nil {
				return fmt.Errorf("start the relay: %w", err)
			}
			ballast := make([]byte, ballastSize)
			defer runtime.KeepAlive(ballast)
			return r.Run(cmd.Context())
		},
	}
}

// ballastSize is address space that is never touched. The garbage collector lets the heap grow to twice what it holds, which
// is so little here that it would run many times a second under load; with the ballast it waits for more.
const ballastSize = 8 << 20

func newLog(c relay.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // left out: the configuration admits known names alone
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
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
			Example: `  sallyport-relay config check relay.yaml`,
			RunE: func(_ *cobra.Command, args []string) error {
				if _, err := loadFile(args[0]); err != nil {
					return err
				}
				return p.print(map[string]bool{"ok": true}, func(w io.Writer) { fmt.Fprintln(w, args[0], "is fine") })
			},
		})
}
