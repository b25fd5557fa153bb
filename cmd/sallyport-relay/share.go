package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sallyport/configs"
	"sallyport/relay/admin"
)

func (p *program) connectorShare() *cobra.Command {
	var s admin.AddShare
	var revoke bool
	cmd := &cobra.Command{
		Use:   "share GATEWAY/NAME",
		Short: "Make a link from which a connector's definition can be imported",
		Long: `Makes an HTTPS address for "Import from URL". It needs no credential, cannot be guessed, gives out the definition alone, as it
is when it is asked for, and expires. The relay's log does not have it: it is shown once, here.

An import from a URL brings no apiProperties.json. Where a connector would lose something by that (OAuth2, several ways to sign
on), there is no link: export it.`,
		Example: `  sallyport-relay connector share plant1/orders --expires 24h
  sallyport-relay connector share plant1/orders --format postman
  sallyport-relay connector share plant1/orders --revoke`,
		Args:              exactly("GATEWAY/NAME"),
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, gw, name, err := p.connectorClient(args[0])
			if err != nil {
				return err
			}
			if revoke {
				if err := c.RevokeShares(cmd.Context(), gw, name); err != nil {
					return err
				}
				return p.print(map[string]string{"revoked": args[0]}, func(w io.Writer) {
					fmt.Fprintf(w, "All links to the definition of %s are void.\n", args[0])
				})
			}
			shared, err := c.Share(cmd.Context(), gw, name, s)
			if err != nil {
				return err
			}
			return p.print(shared, func(w io.Writer) {
				fmt.Fprintf(w, "%s\n\nIt works until %s; whoever has it can read the definition, and nothing else. Void all links: --revoke.\n",
					shared.URL, shared.Expires.Format(time.RFC3339))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.Format, "format", formatPower, "power-platform, postman or openapi3")
	s.Expires = 24 * time.Hour
	f.Var((*configs.Span)(&s.Expires), "expires", "how long the link works, up to 30d")
	f.BoolVar(&s.KeepIDs, "keep-ids", false, "leave operation IDs as they are where Power Platform takes them")
	f.BoolVar(&revoke, "revoke", false, "void all links that were made until now")
	cmd.MarkFlagsMutuallyExclusive("revoke", "expires")
	cmd.MarkFlagsMutuallyExclusive("revoke", "format")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{formatPower, formatPostman, formatOpenAPI3}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
