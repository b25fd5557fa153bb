package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sallyport/relay/gateway"
)

func (p *program) allowEntra() *cobra.Command {
	var rule gateway.EntraRule
	cmd := &cobra.Command{
		Use: "allow-entra NAME", Short: "Let an application of Entra ID link as an agent of a gateway", Args: exactly("NAME"),
		Long: `Lets an application link as an agent of a gateway with a token of Entra ID instead of a join: all of an application
(--app, its client GUID), or one service principal or managed identity (--object, its object GUID). With --role the token
must also have that app role. relay.yaml names the tenant and the audience ('entra').`,
		Example: "  sallyport-relay gateway allow-entra plant1 --object 0d7c2b46-94a1-4a7e-8d41-0a4f1c7b9a11\n" +
			"  sallyport-relay gateway allow-entra plant1 --app 5b1f6f0c-2d38-4d6e-9b57-2f6f4f4a8c22 --role Agent.Link",
		ValidArgsFunction: p.completeGateways,
		RunE: func(cmd *cobra.Command, args []string) error {
			if rule.App == "" && rule.Object == "" {
				return usagef("--app or --object is missing")
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			full, err := c.AllowEntra(cmd.Context(), args[0], rule)
			if err != nil {
				return err
			}
			return p.print(full, func(w io.Writer) {
				fmt.Fprintf(w, "Agents of gateway %s may be %s.\n", args[0], ruleWords(full))
			})
		},
	}
	ruleFlags(cmd, &rule)
	return cmd
}

func (p *program) disallowEntra() *cobra.Command {
	var rule gateway.EntraRule
	cmd := &cobra.Command{
		Use: "disallow-entra NAME", Short: "Take such a permission away and close its links", Args: exactly("NAME"),
		Example:           "  sallyport-relay gateway disallow-entra plant1 --object 0d7c2b46-94a1-4a7e-8d41-0a4f1c7b9a11",
		ValidArgsFunction: p.completeGateways,
		RunE: func(cmd *cobra.Command, args []string) error {
			if rule.App == "" && rule.Object == "" {
				return usagef("--app or --object is missing")
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			if err := c.DisallowEntra(cmd.Context(), args[0], rule); err != nil {
				return err
			}
			return p.print(map[string]string{"disallowed": args[0]}, func(w io.Writer) {
				fmt.Fprintf(w, "Agents of gateway %s may no longer be %s.\n", args[0], ruleWords(rule))
			})
		},
	}
	ruleFlags(cmd, &rule)
	return cmd
}

func ruleFlags(cmd *cobra.Command, rule *gateway.EntraRule) {
	cmd.Flags().StringVar(&rule.Tenant, "tenant", "", "the tenant's `GUID` (default: relay.yaml's, which is the only one)")
	cmd.Flags().StringVar(&rule.App, "app", "", "the application's client `GUID`")
	cmd.Flags().StringVar(&rule.Object, "object", "", "the object `GUID` of a service principal or managed identity")
	cmd.Flags().StringVar(&rule.Role, "role", "", "an app role that the token must have")
}

func ruleWords(r gateway.EntraRule) string {
	what := "the application " + r.App
	if r.App == "" {
		what = "the object " + r.Object
	} else if r.Object != "" {
		what += " as the object " + r.Object
	}
	if r.Role != "" {
		what += " with the role " + r.Role
	}
	return what
}
