//go:build !windows

package main

import (
	"github.com/spf13/cobra"

	"sallyport/internal/service"
)

// withServe adds nothing: elsewhere a service is 'run'.
func (p *program) withServe(c *cobra.Command) *cobra.Command { return c }

// guarded adds nothing: elsewhere install itself knows the folder's owner.
func guarded(*service.Spec) {}
