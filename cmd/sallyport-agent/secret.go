package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/secret"
)

func (p *program) secretCommand() *cobra.Command {
	var asJSON bool
	set := &cobra.Command{
		Use: "set NAME", Short: "Store a secret",
		Args: exactly(1, 1, "the value does not belong on the command line, where others see it; give it at the prompt or on standard input"),
		Long: `Stores a secret under the name that agent.yaml uses. The value comes from a prompt or from standard input (one line
end at its end is removed), never from the command line. A running agent uses it from the next call on.`,
		Example: "  sallyport-agent secret set erp-password\n  sallyport-agent secret set erp-password < password.txt",
		RunE:    does(func(ctx context.Context, args []string) error { return p.setSecret(ctx, args[0]) }),
	}
	list := &cobra.Command{
		Use: "list", Short: "List the names of the secrets, never their values", Args: exactly(0, 0, ""),
		RunE: does(func(context.Context, []string) error { return p.listSecrets(asJSON) }),
	}
	list.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Delete a secret", Args: exactly(1, 1, ""),
		RunE: does(func(_ context.Context, args []string) error {
			store, err := p.openSecrets()
			if err != nil {
				return err
			}
			return store.Remove(args[0])
		}),
	}
	return group("secret", "Keep the passwords and keys that agent.yaml names", set, list, remove)
}

// openSecrets opens the store. A configuration that is broken is an error: it may name another state directory.
func (p *program) openSecrets() (*secret.Store, error) {
	c := &agent.Config{}
	if p.state == "" && p.getenv("SALLYPORT_STATE") == "" {
		var err error
		if c, _, err = p.configIfThere(); err != nil {
			return nil, fmt.Errorf("find the state directory (or give it with --state): %w", err)
		}
	}
	dir, err := p.stateDir(c)
	if err != nil {
		return nil, err
	}
	return p.secrets(dir)
}

func (p *program) setSecret(ctx context.Context, name string) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	store, err := p.openSecrets()
	if err != nil {
		return err
	}
	value, err := p.readSecretly(ctx, "", "Value of "+name+" (it is not shown): ")
	if err != nil {
		return err
	}
	if err := store.Set(name, secret.New(secret.TrimLineEnd(value))); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "Stored %s.\n", name)
	return err
}

func (p *program) listSecrets(asJSON bool) error {
	store, err := p.openSecrets()
	if err != nil {
		return err
	}
	list, err := store.List()
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(list)
	}
	for _, s := range list {
		fmt.Fprintf(p.out, "%-32s  %-8s  %s\n", s.Name, s.Source, s.Changed.Format(time.RFC3339))
	}
	return nil
}
