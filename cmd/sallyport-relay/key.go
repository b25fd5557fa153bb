package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sallyport/relay/admin"
	"sallyport/relay/connector"
)

func (p *program) keyCommand() *cobra.Command {
	return group("key", "Manage the API keys of a connector", p.keyAdd(), p.keyList(), p.keyRevoke())
}

func (p *program) keyAdd() *cobra.Command {
	var key admin.AddKey
	cmd := &cobra.Command{
		Use: "add GATEWAY/NAME --name KEY-NAME", Short: "Make a key and print it, once", Args: exactly("GATEWAY/NAME"),
		Long:              "Makes an API key for one caller of a connector. The key is printed once and not kept; its name appears in the logs.",
		Example:           "  sallyport-relay key add plant1/orders --name flow-prod\n  sallyport-relay key add plant1/orders --name trial --expires 720h",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			gw, name, err := splitName(args[0])
			if err != nil {
				return err
			}
			if key.Name == "" {
				return usagef("--name is missing: name the caller that the key is for, such as flow-prod")
			}
			if cmd.Flags().Changed("expires") && key.Expires <= 0 {
				return usagef("--expires must be longer than nothing, such as 720h")
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			made, err := c.AddKey(cmd.Context(), gw, name, key)
			if err != nil {
				return err
			}
			return p.print(made, func(w io.Writer) {
				fmt.Fprintf(w, "Key %s for %s:\n\n  %s\n\nIt is not shown again. %s\n", made.Name, args[0], made.Key, ends(made.Expires))
			})
		},
	}
	cmd.Flags().StringVar(&key.Name, "name", "", "the key's `name` (required)")
	cmd.Flags().DurationVar(&key.Expires, "expires", 0, "how `long` the key works; default: until it is revoked")
	return cmd
}

func ends(t time.Time) string {
	if t.IsZero() {
		return "It works until it is revoked."
	}
	return "It works until " + day(t) + "."
}

func (p *program) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list GATEWAY/NAME", Short: "List the keys of a connector", Args: exactly("GATEWAY/NAME"),
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			gw, name, err := splitName(args[0])
			if err != nil {
				return err
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			keys, err := c.Keys(cmd.Context(), gw, name)
			if err != nil {
				return err
			}
			return p.print(keys, func(w io.Writer) { printKeys(w, args[0], keys) })
		},
	}
}

func printKeys(w io.Writer, path string, keys []connector.KeyInfo) {
	if len(keys) == 0 {
		fmt.Fprintf(w, "There are no keys yet. Make one: sallyport-relay key add %s --name NAME\n", path)
		return
	}
	orDash := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return day(t)
	}
	var rows []string
	for _, k := range keys {
		rows = append(rows, fmt.Sprintf("%s\t%s...\t%s\t%s\t%s", k.Name, k.Hint, day(k.Created), orDash(k.Expires), orDash(k.LastUsed)))
	}
	table(w, "KEY\tBEGINS WITH\tMADE\tEXPIRES\tLAST USED", rows)
}

func (p *program) keyRevoke() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "revoke GATEWAY/NAME --name KEY-NAME", Short: "Take a key away", Args: exactly("GATEWAY/NAME"),
		Example:           "  sallyport-relay key revoke plant1/orders --name flow-prod",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			gw, name, err := splitName(args[0])
			if err != nil {
				return err
			}
			if key == "" {
				return usagef("--name is missing; 'sallyport-relay key list %s' shows the names", args[0])
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			if err := c.RevokeKey(cmd.Context(), gw, name, key); err != nil {
				return err
			}
			return p.print(map[string]string{"revoked": key}, func(w io.Writer) { fmt.Fprintln(w, "Revoked key", key, "of", args[0]) })
		},
	}
	cmd.Flags().StringVar(&key, "name", "", "the key's `name` or ID (required)")
	return cmd
}
