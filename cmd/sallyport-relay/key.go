package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/configs"
	"sallyport/relay/admin"
	"sallyport/relay/connector"
)

func (p *program) keyCommand() *cobra.Command {
	return group("key", "Manage the API keys of a connector", p.keyAdd(), p.keyRotate(), p.keyList(), p.keyRevoke())
}

func (p *program) keyAdd() *cobra.Command {
	var key admin.AddKey
	var expires, rate string
	var from []string
	cmd := &cobra.Command{
		Use: "add GATEWAY/NAME --name KEY-NAME", Short: "Make a key and print it, once", Args: exactly("GATEWAY/NAME"),
		Long: "Makes an API key for one caller of a connector. The key is printed once and not kept; its name appears in the logs.",
		Example: "  sallyport-relay key add plant1/orders --name flow-prod\n  sallyport-relay key add plant1/orders --name trial --expires 90d\n" +
			"  sallyport-relay key add plant1/orders --name erp --from 203.0.113.0/24 --rate 100/m",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			if key.Name == "" {
				return usagef("--name is missing: name the caller that the key is for, such as flow-prod")
			}
			if err := readKeyFlags(&key, expires, rate, from); err != nil {
				return err
			}
			c, gw, name, err := p.connectorClient(args[0])
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
	cmd.Flags().StringVar(&expires, "expires", "", "how `long` the key works, such as 90d or 12h; default: until it is revoked")
	cmd.Flags().StringSliceVar(&from, "from", nil, "a `network` or address from which alone the key works (several: repeat)")
	cmd.Flags().StringVar(&rate, "rate", "", "how many `calls` may begin, such as 100/m (s, m or h); default: no bound")
	cmd.Flags().IntVar(&key.Concurrent, "concurrent", 0, "how `many` calls may be under way with the key; default: no bound")
	return cmd
}

// readKeyFlags reads what is given as text.
func readKeyFlags(key *admin.AddKey, expires, rate string, from []string) (err error) {
	if expires != "" {
		if key.Expires, err = configs.ParseDuration(expires); err != nil || key.Expires <= 0 {
			return usagef("--expires: %q is no time in which a key works; write 90d or 12h", expires)
		}
	}
	if key.Rate, err = connector.ParseRate(rate); err != nil {
		return usagef("--rate: %w", err)
	}
	if key.From, err = connector.ParseNetworks(from); err != nil {
		return usagef("--from: %w", err)
	}
	return nil
}

func (p *program) keyRotate() *cobra.Command {
	var key, overlap string
	cmd := &cobra.Command{
		Use: "rotate GATEWAY/NAME --name KEY-NAME", Short: "Make a new key in the place of one, and print it, once", Args: exactly("GATEWAY/NAME"),
		Long: `Makes a new key of the same name, with the same limits and lifetime. The old one goes on working for the overlap, in
which the caller takes the new one. 'key list' shows by its last use whether the old one is still needed.`,
		Example:           "  sallyport-relay key rotate plant1/orders --name flow-prod\n  sallyport-relay key rotate plant1/orders --name flow-prod --overlap 0s",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return usagef("--name is missing; 'sallyport-relay key list %s' shows the names", args[0])
			}
			both, err := configs.ParseDuration(overlap)
			if err != nil {
				return usagef("--overlap: %w", err)
			}
			c, gw, name, err := p.connectorClient(args[0])
			if err != nil {
				return err
			}
			made, err := c.RotateKey(cmd.Context(), gw, name, key, both)
			if err != nil {
				return err
			}
			return p.print(made, func(w io.Writer) {
				fmt.Fprintf(w, "New key %s for %s:\n\n  %s\n\nIt is not shown again. %s The old one works for %s more at most.\n",
					made.Name, args[0], made.Key, ends(made.Expires), both)
			})
		},
	}
	cmd.Flags().StringVar(&key, "name", "", "the key's `name` or ID (required)")
	cmd.Flags().StringVar(&overlap, "overlap", "24h", "how `long` the old key goes on working")
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
			c, gw, name, err := p.connectorClient(args[0])
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
		rows = append(rows, fmt.Sprintf("%s\t%s...\t%s\t%s\t%s\t%s", k.Name, k.Hint, day(k.Created), orDash(k.Expires), orDash(k.LastUsed), keyNotes(k)))
	}
	table(w, "KEY\tBEGINS WITH\tMADE\tEXPIRES\tLAST USED\tLIMITS", rows)
}

// keyNotes are the limits of a key, and whether it still works.
func keyNotes(k connector.KeyInfo) string {
	var notes []string
	for _, p := range k.From {
		notes = append(notes, "from "+p.String())
	}
	if r := k.Rate.String(); r != "" {
		notes = append(notes, r)
	}
	if k.Concurrent > 0 {
		notes = append(notes, fmt.Sprintf("%d at once", k.Concurrent))
	}
	if k.Replaced {
		notes = append(notes, "replaced")
	}
	if !k.Expires.IsZero() && !time.Now().Before(k.Expires) {
		notes = append(notes, "EXPIRED")
	}
	return cmp.Or(strings.Join(notes, ", "), "-")
}

func (p *program) keyRevoke() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "revoke GATEWAY/NAME --name KEY-NAME", Short: "Take a key away", Args: exactly("GATEWAY/NAME"),
		Example:           "  sallyport-relay key revoke plant1/orders --name flow-prod",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return usagef("--name is missing; 'sallyport-relay key list %s' shows the names", args[0])
			}
			c, gw, name, err := p.connectorClient(args[0])
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
