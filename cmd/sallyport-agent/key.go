package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/agent"
)

func (p *program) keyCommand() *cobra.Command {
	var asJSON bool
	rotate := &cobra.Command{
		Use: "rotate", Short: "Replace this agent's key", Args: exactly(0, 0, ""),
		Long: `Makes a new key and proves it to the relay together with the present one. A running agent keeps its links, and proves the
new key over them; no call is lost. The relay takes the old key for ten minutes more, and then only the new one.

If it is interrupted, run it again. The agent can link meanwhile, whenever it was interrupted.`,
		Example: "  sallyport-agent key rotate\n  sallyport-agent key rotate --json",
		RunE:    does(func(ctx context.Context, _ []string) error { return p.rotate(ctx, asJSON) }),
	}
	rotate.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return group("key", "Replace this agent's key", rotate)
}

func (p *program) rotate(ctx context.Context, asJSON bool) error {
	c, err := agent.ReadConfig(p.config)
	if err != nil {
		return err
	}
	if c.Identity.Entra != nil {
		return fmt.Errorf("%s has identity.entra: this agent has no key of its own; its credential is replaced in Entra ID", p.config)
	}
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	dialer, err := p.dialer(c, dir)
	if err != nil {
		return err
	}
	id, err := agent.Rotate(ctx, agent.RotateConfig{State: dir, Dialer: dialer, Name: hostName(), Version: version()})
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(map[string]string{"agent": id.Agent, "fingerprint": id.Fingerprint()})
	}
	_, err = fmt.Fprintf(p.out, "The key of agent %s was replaced; the new fingerprint is %s.\n", id.Agent, id.Fingerprint())
	return err
}
