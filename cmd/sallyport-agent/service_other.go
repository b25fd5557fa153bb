//go:build !windows

package main

import (
	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/internal/eventlog"
	"sallyport/internal/service"
)

// withServe adds nothing: elsewhere a service is 'run'.
func (p *program) withServe(c *cobra.Command) *cobra.Command { return c }

// guarded adds nothing: elsewhere install itself knows the folder's owner.
func guarded(*service.Spec) {}

// openEventLog gives nothing where there is none.
func (p *program) openEventLog(*agent.Config) (sink eventlog.Sink, end func(), err error) {
	return p.eventLog, func() {}, nil
}
