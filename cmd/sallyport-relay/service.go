package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sallyport/installer/linux"
	"sallyport/internal/service"
)

// Where the relay's service has its files.
const (
	serviceConfig = "/etc/sallyport/relay.yaml"
	serviceState  = "/var/lib/sallyport-relay"
)

// serviceStop is how long the relay's service may take to stop, which is its unit's TimeoutStopSec and some more.
const serviceStop = 75 * time.Second

func (p *program) serviceCommand() *cobra.Command {
	return service.Commands("sallyport-relay", p.serviceSpec, service.Frame{
		Out: p.out, None: exactly(), Group: group, JSON: &p.json,
		Does: func(f func(context.Context) error) func(*cobra.Command, []string) error {
			return func(cmd *cobra.Command, _ []string) error { return f(cmd.Context()) }
		},
	})
}

func (p *program) serviceSpec() (service.Spec, error) {
	config, err := filepath.Abs(cmp.Or(p.config, serviceConfig))
	if err != nil {
		return service.Spec{}, fmt.Errorf("--config: %w", err)
	}
	return service.Spec{
		Name: "sallyport-relay", WindowsName: "SallyportRelay", Display: "Sallyport relay",
		Description: "Publishes internal REST APIs that agents reach from inside.",
		Unit:        linux.RelayUnit, Packaged: "/usr/bin/sallyport-relay", Arguments: []string{"serve"},
		Config: config, DefaultConfig: serviceConfig, NameConfig: true, State: serviceState, DefaultState: serviceState,
		First: "'sallyport-relay config example > " + config + "', edit it, then 'sallyport-relay service start'",
		Stop:  serviceStop,
	}, nil
}
