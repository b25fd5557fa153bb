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
	"sallyport/relay"
)

// Where the relay's service has its files.
const (
	serviceConfig = "/etc/sallyport/relay.yaml"
	serviceState  = "/var/lib/sallyport-relay"
)

// The relay's service may take so long to stop: its drain, at least what a drain takes without the setting, and a margin
// for links and store.
const (
	leastDrain = 25 * time.Second
	stopMargin = 35 * time.Second
)

func (p *program) serviceCommand() *cobra.Command {
	return service.Commands("sallyport-relay", p.serviceSpec, service.Frame{
		Out: p.out, None: exactly(), Group: group, JSON: &p.json,
		Does: func(f func(context.Context) error) func(*cobra.Command, []string) error {
			return func(cmd *cobra.Command, _ []string) error { return f(cmd.Context()) }
		},
	})
}

// stopTime is how long the relay may take to stop.
func stopTime(drain time.Duration) time.Duration { return max(drain, leastDrain) + stopMargin }

func (p *program) serviceSpec() (service.Spec, error) {
	config, err := filepath.Abs(cmp.Or(p.config, serviceConfig))
	if err != nil {
		return service.Spec{}, fmt.Errorf("--config: %w", err)
	}
	c, err := loadFile(config)
	if err != nil { // a broken one does not keep anybody from stopping it
		c = relay.Config{}
	}
	return service.Spec{
		Name: "sallyport-relay", Display: "Sallyport relay",
		Description: "Publishes internal REST APIs that agents reach from inside.",
		Unit:        linux.RelayUnit, Packaged: "/usr/bin/sallyport-relay", Arguments: []string{"serve"},
		Config: config, DefaultConfig: serviceConfig, NameConfig: true, State: serviceState, DefaultState: serviceState,
		First: "'sallyport-relay config example > " + config + "', edit it, then 'sallyport-relay service start'",
		Stop:  stopTime(c.Timeouts.Drain),
	}, nil
}
