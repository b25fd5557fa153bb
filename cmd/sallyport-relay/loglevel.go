package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/configs"
	"sallyport/relay/admin"
)

func (p *program) logLevelCommand() *cobra.Command {
	var length time.Duration
	cmd := &cobra.Command{
		Use: "log-level LEVEL", Short: "Change the running relay's log level", Args: exactly("LEVEL"),
		Long: `Changes what the running relay logs, at once and without a restart: debug, info, warn or error; 'usual' goes back to what
relay.yaml says. It holds until the relay ends; --for ends it before that. No level logs bodies, credentials or queries.`,
		Example:   "  sallyport-relay log-level debug --for 10m\n  sallyport-relay log-level usual",
		ValidArgs: []string{"debug", "info", "warn", "error", "usual"},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			set, err := c.SetLogLevel(cmd.Context(), admin.LogLevel{Level: strings.ToLower(args[0]), For: length})
			if err != nil {
				return err
			}
			return p.print(set, func(w io.Writer) {
				if set.For > 0 {
					fmt.Fprintf(w, "The log level is %s for %s.\n", set.Level, set.For)
					return
				}
				fmt.Fprintf(w, "The log level is %s.\n", set.Level)
			})
		},
	}
	cmd.Flags().Var((*configs.Span)(&length), "for", "go back to the usual level after this time, such as 10m")
	return cmd
}
