package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/identity/entra"
	"sallyport/installer/linux"
	"sallyport/internal/service"
)

// serviceName is what systemd, Windows' service manager and its event log know the agent by.
const serviceName = "sallyport-agent"

// stopMargin is what a stop may take beyond drain_timeout: streams are cut and the record is written.
const stopMargin = 15 * time.Second

// stopTime is how long the agent may take to stop.
func stopTime(c *agent.Config) time.Duration { return max(c.DrainTimeout, 30*time.Second) + stopMargin }

func (p *program) serviceCommand() *cobra.Command {
	return p.withServe(service.Commands(serviceName, p.serviceSpec, service.Frame{
		Out: p.out, None: exactly(0, 0, ""), Group: group,
		Does: func(f func(context.Context) error) func(*cobra.Command, []string) error {
			return does(func(ctx context.Context, _ []string) error { return f(ctx) })
		},
	}))
}

// serviceSpec describes the agent's service. A broken configuration does not keep anybody from stopping it.
func (p *program) serviceSpec() (service.Spec, error) {
	config, err := filepath.Abs(p.config)
	if err != nil {
		return service.Spec{}, fmt.Errorf("--config: %w", err)
	}
	c, _, err := p.configIfThere()
	if err != nil {
		c = &agent.Config{}
	}
	state, err := filepath.Abs(p.stateOf(c))
	if err != nil {
		return service.Spec{}, fmt.Errorf("--state: %w", err)
	}
	spec := service.Spec{
		Name: serviceName, Display: "Sallyport agent",
		Description: "Calls internal APIs for a relay in the cloud: those, and only those, that its agent.yaml allows.",
		Unit:        linux.AgentUnit, Packaged: "/usr/bin/sallyport-agent", Arguments: []string{"run"},
		WindowsArguments: []string{"service", serveCommand},
		Config:           config, DefaultConfig: defaultConfig(), State: state, DefaultState: agent.DefaultState(),
		First:    "'sallyport-agent join', then 'sallyport-agent service start'",
		Stop:     stopTime(c),
		Arc:      c.Identity.Entra != nil && c.Identity.Entra.Credential == entra.Arc,
		Password: func(ctx context.Context, prompt string) (string, error) { return p.readSecretly(ctx, "", prompt) },
	}
	guarded(&spec)
	return spec, nil
}

// serveCommand is the command below 'service' by which Windows' service manager runs the agent.
const serveCommand = "run"
