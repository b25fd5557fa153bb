//go:build !windows

package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/internal/eventlog"
	"sallyport/internal/service"
)

// withServe adds nothing: elsewhere a service is 'run'.
func (p *program) withServe(c *cobra.Command) *cobra.Command { return c }

// guarded adds nothing: elsewhere install itself knows the folder's owner.
func guarded(*service.Spec) {}

// machineLog is nothing: what a schedule of systemd's runs is in the journal with all that it says.
func (p *program) machineLog() (log *slog.Logger, end func()) {
	return slog.New(slog.DiscardHandler), func() {}
}

// openEventLog gives nothing where there is none.
func (p *program) openEventLog(*agent.Config) (sink eventlog.Sink, end func(), err error) {
	return p.eventLog, func() {}, nil
}
