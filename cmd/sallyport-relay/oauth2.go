package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport/configs"
	"sallyport/internal/bearer"
	"sallyport/internal/hidden"
	"sallyport/relay/connector"
)

// tokens are the flags of connector publish that say which access tokens count.
type tokens struct {
	rule      bearer.Rule
	app, user bool
}

func (t *tokens) flags(f *pflag.FlagSet) {
	f.StringVar(&t.rule.Issuer, "issuer", "", "oauth2: the `URL` of the tokens' issuer, exactly as they have it")
	f.StringVar(&t.rule.Tenant, "entra-tenant", "", "oauth2: the Microsoft Entra ID `tenant`'s GUID, in place of --issuer")
	f.StringVar(&t.rule.Authority, "authority", "", "with --entra-tenant: the `URL` of another cloud's sign-on; default: "+bearer.DefaultAuthority)
	f.StringArrayVar(&t.rule.Audience, "audience", nil, "oauth2: the API's `name` at the issuer, such as api://orders (several: repeat; required)")
	f.StringArrayVar(&t.rule.Clients, "allow-client", nil, "oauth2: the `ID` of an application that may call (several: repeat); default: any")
	f.StringArrayVar(&t.rule.Scopes, "scope", nil, "oauth2: a `scope` that tokens need (several: repeat; all are needed)")
	f.StringArrayVar(&t.rule.Roles, "role", nil, "oauth2: a `role` that tokens need (several: repeat; one is needed)")
	f.StringArrayVar(&t.rule.Claims, "claim", nil, "oauth2: a claim that tokens need, `name=value` (several: repeat)")
	f.BoolVar(&t.app, "app-only", false, "oauth2: admit applications by themselves, no persons")
	f.BoolVar(&t.user, "user-only", false, "oauth2: admit persons, no applications by themselves")
	f.BoolVar(&t.rule.Guests, "guests", false, "with --entra-tenant: admit guests of the tenant too")
	f.Var((*configs.Span)(&t.rule.Leeway), "leeway", "oauth2: by how `much` clocks may differ (default 1m)")
	f.StringSliceVar(&t.rule.Algorithms, "algorithms", nil, "oauth2: which `algorithms` may sign, such as RS256,ES256; default: all with public keys, of Entra RS256")
}

// apply puts them into a connector.
func (t *tokens) apply(c *connector.Connector) error {
	c.OAuth2 = t.rule
	switch {
	case t.app && t.user:
		return usagef("--app-only and --user-only exclude each other; without either, both are admitted")
	case t.app:
		c.OAuth2.Callers = bearer.AppsOnly
	case t.user:
		c.OAuth2.Callers = bearer.UsersOnly
	}
	return nil
}

func (p *program) connectorCheckToken() *cobra.Command {
	return &cobra.Command{
		Use: "check-token GATEWAY/NAME", Short: "Say why an access token is accepted or refused", Args: exactly("GATEWAY/NAME"),
		Long: `Reads an access token from standard input and has the relay judge it as if a caller had shown it: each demand of the
connector (--auth oauth2) with what the token has. The token is not kept and not logged. The exit code is 1 if it is refused.`,
		Example: `  sallyport-relay connector check-token plant1/orders < token.txt
  az account get-access-token --resource api://orders --query accessToken --output tsv | sallyport-relay connector check-token plant1/orders`,
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, gw, name, err := p.connectorClient(args[0])
			if err != nil {
				return err
			}
			text, err := hidden.Read(cmd.Context(), p.in, p.err, "Access token: ")
			if err != nil {
				return fmt.Errorf("read the token: %w", err)
			}
			token := strings.TrimSpace(text)
			if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
				token = strings.TrimSpace(rest)
			}
			if token == "" {
				return usagef("there is no token on standard input")
			}
			report, err := c.CheckToken(cmd.Context(), gw, name, token)
			if err != nil {
				return err
			}
			if err := p.print(report, func(w io.Writer) { printReport(w, args[0], report) }); err != nil {
				return err
			}
			if !report.Accepted {
				return fmt.Errorf("%s refuses the token", args[0])
			}
			return nil
		},
	}
}

func printReport(w io.Writer, path string, r bearer.Report) {
	var rows []string
	for _, f := range r.Findings {
		state := "ok"
		if !f.OK {
			state = "REFUSED"
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", f.Check, state, f.Says))
	}
	table(w, "CHECK\tSTATE\tTHE TOKEN", rows)
	if r.Accepted {
		fmt.Fprintf(w, "\n%s accepts the token, until %s. Its caller is %s.\n", path, r.Caller.Expires.UTC().Format(time.RFC3339), r.Caller.Principal)
	}
}

func (p *program) connectorShow() *cobra.Command {
	return &cobra.Command{
		Use: "show GATEWAY/NAME", Short: "Show a connector's settings", Args: exactly("GATEWAY/NAME"),
		Example:           "  sallyport-relay connector show plant1/orders\n  sallyport-relay connector show plant1/orders --json",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, gw, name, err := p.connectorClient(args[0])
			if err != nil {
				return err
			}
			c, err := findConnector(cmd.Context(), client, gw, name)
			if err != nil {
				return err
			}
			return p.print(c, func(w io.Writer) {
				rows := []string{"URL\t" + c.URL}
				for _, u := range c.HostURLs {
					rows = append(rows, "URL\t"+u)
				}
				rows = append(rows, "definition\t"+p.definitionState(cmd.Context(), client, c))
				for _, s := range c.Settings() {
					rows = append(rows, s.Setting+"\t"+s.After)
				}
				table(w, "SETTING\tIS", rows)
				printNote(w, c.OAuth2)
			})
		},
	}
}

// printNote says what a rule for tokens will be missed for.
func printNote(w io.Writer, r bearer.Rule) {
	if note := r.Note(); note != "" {
		fmt.Fprintf(w, "\nNOTE: %s\n", note)
	}
}
