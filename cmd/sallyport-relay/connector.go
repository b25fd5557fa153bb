package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/configs"
	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/store"
)

func (p *program) connectorCommand() *cobra.Command {
	return group("connector", "Publish APIs as connectors", p.connectorPublish(), p.connectorList(), p.connectorShow(), p.connectorUnpublish(),
		p.connectorCheckToken(), p.connectorExport(), p.connectorShare(), p.connectorLint(), p.connectorDiff(), p.connectorImport())
}

// splitName reads GATEWAY/NAME.
func splitName(s string) (gateway, name string, err error) {
	gateway, name, ok := strings.Cut(s, "/")
	if !ok || gateway == "" || name == "" || strings.Contains(name, "/") {
		return "", "", usagef("%q is not of the form GATEWAY/NAME, such as plant1/orders", s)
	}
	return gateway, name, nil
}

// connectorClient is how a command about one connector begins: the relay's client, and GATEWAY/NAME.
func (p *program) connectorClient(arg string) (c *admin.Client, gateway, name string, err error) {
	if gateway, name, err = splitName(arg); err != nil {
		return nil, "", "", err
	}
	c, err = p.client()
	return c, gateway, name, err
}

// wanted are the flags of connector publish.
type wanted struct {
	name, header, query, outcome, body, rate string
	concurrent                               int
	auth, hosts, origins, from               []string
	timeout                                  time.Duration
	change, dry, alone                       bool

	outliving
	tokens
}

func (p *program) connectorPublish() *cobra.Command {
	var w wanted
	cmd := &cobra.Command{
		Use:   "publish GATEWAY/API --auth key|oauth2|basic|windows|none",
		Short: "Publish an API of a gateway under a URL of the relay",
		Long: `Publishes an API as a connector. Who may call has to be said: --auth key demands an API key of the connector's (see
'key add'), --auth oauth2 an access token of an issuer, --auth basic user name and password of one of its users (see 'user
set'), --auth key,oauth2 either of them, --auth key+oauth2 both; --auth none lets in anybody who knows the URL. What may be
called is decided by the agent's allow-list.

--auth key+windows demands the caller's own Windows user name and password besides a key. The relay passes them on unread; the
agent signs on with them (as: caller-password). windows without a key needs --from, or --password-alone.

--from 203.0.113.0/24 admits callers of these networks alone, whatever they show.

Access tokens are those of one OpenID Connect issuer (--issuer) or one Microsoft Entra ID tenant (--entra-tenant), for this API
(--audience). --allow-client, --scope, --role, --claim, --app-only and --user-only say more closely whose; with both --scope and
--role a person's token needs the scopes, an application's own token a role. 'connector check-token' says why a token is refused.

With --change a connector that is published gets the settings given here, all of them, and keeps its URL and keys; a
setting that is not given goes back to its default. What has changed is listed; --dry-run lists it and changes nothing.`,
		Example: `  sallyport-relay connector publish plant1/orders --auth key
  sallyport-relay connector publish plant1/orders --auth key --from 203.0.113.0/24
  sallyport-relay connector publish plant1/orders --auth key --header X-Orders-Key --host orders.example.com
  sallyport-relay connector publish plant1/orders --auth oauth2 --entra-tenant 72f988bf-86f1-41af-91ab-2d7cd011db47 \
      --audience api://6f0a4c1e-2f5b-4a7e-9c55-0d3a8e1b7f10 --scope Orders.Read
  sallyport-relay connector publish plant1/orders --auth key,oauth2 --issuer https://login.example.com/realms/plant --audience orders
  sallyport-relay connector publish plant1/catalog --auth none --cors-origin https://app.example.com --body-limit 1MB
  sallyport-relay connector publish plant1/orders --auth key --timeout 60s --change --dry-run
  sallyport-relay connector publish plant1/reports --auth key --async-after 90s --async-limit 2h
  sallyport-relay connector publish plant1/orders --auth key --dedupe flow --dedupe-for 'POST /orders'
  sallyport-relay connector publish plant1/events --auth key --webhooks 'POST /hooks'`,
		Args:              exactly("GATEWAY/API"),
		ValidArgsFunction: p.completeAPIs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := w.connector(args[0])
			if err != nil {
				return err
			}
			client, err := p.client()
			if err != nil {
				return err
			}
			send := w.send(client)
			outcome, err := send(cmd.Context(), c)
			if err != nil {
				return err
			}
			return p.print(outcome, func(w io.Writer) { printOutcome(w, outcome) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&w.auth, "auth", nil, "who may call: key, oauth2, basic, windows, joined ones such as key+oauth2, or none; any of several (required)")
	f.StringVar(&w.name, "name", "", "the connector's `name` in the URL; default: the API's")
	f.StringVar(&w.header, "header", "", "the header that carries the key; default: X-API-Key")
	f.StringVar(&w.query, "query", "", "a query `parameter` that may carry the key too")
	f.StringSliceVar(&w.from, "from", nil, "a `network` or address from which alone it may be called (several: repeat)")
	f.BoolVar(&w.alone, "password-alone", false, "windows: demand neither a key nor an address, so that anybody who knows the URL can try passwords")
	f.StringSliceVar(&w.hosts, "host", nil, "a host name of the connector's own (several: repeat)")
	f.StringSliceVar(&w.origins, "cors-origin", nil, "an `origin` whose pages may call, or * (several: repeat)")
	f.StringVar(&w.body, "body-limit", "", "the largest request body, such as 20MB; default: the relay's")
	f.StringVar(&w.rate, "rate", "", "how many `calls` may begin, such as 100/m (s, m or h); default: no bound")
	f.IntVar(&w.concurrent, "concurrent", 0, "how `many` calls may be under way; default: the relay's bound")
	f.Var((*configs.Span)(&w.timeout), "timeout", "how `long` the relay waits for an answer; default: the relay's")
	f.StringVar(&w.outcome, "outcome-unknown", "", "the answer to calls that may have been run: auto, 409 or 504 (default auto)")
	w.outliving.flags(cmd, f)
	w.tokens.flags(f)
	f.BoolVar(&w.change, "change", false, "give a published connector these settings; its keys stay")
	f.BoolVar(&w.dry, "dry-run", false, "only say what would be done")
	_ = cmd.RegisterFlagCompletionFunc("auth", cobra.FixedCompletions([]string{"key", "oauth2", "basic", "key+oauth2", "key+basic", "key+windows", "none"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (w wanted) connector(path string) (connector.Connector, error) {
	gw, api, err := splitName(path)
	if err != nil {
		return connector.Connector{}, err
	}
	if len(w.auth) == 0 {
		return connector.Connector{}, usagef("say who may call: --auth key (an API key), --auth oauth2 (access tokens), --auth basic (user name and password), or --auth none (anybody who knows the URL)")
	}
	var limit configs.Size
	if w.body != "" {
		if err := limit.UnmarshalText([]byte(w.body)); err != nil {
			return connector.Connector{}, usagef("--body-limit: %w", err)
		}
	}
	rate, err := connector.ParseRate(w.rate)
	if err != nil {
		return connector.Connector{}, usagef("--rate: %w", err)
	}
	from, err := connector.ParseNetworks(w.from)
	if err != nil {
		return connector.Connector{}, usagef("--from: %w", err)
	}
	c := connector.Connector{
		From: from, Rate: rate, Concurrent: w.concurrent,
		Gateway: gw, API: api, Name: cmp.Or(w.name, api), Auth: w.auth, KeyHeader: w.header, KeyQuery: w.query, PasswordAlone: w.alone,
		Hosts: w.hosts, CORSOrigins: w.origins, BodyLimit: int64(limit), Timeout: w.timeout, OutcomeUnknown: w.outcome,
	}
	if err := w.tokens.apply(&c); err != nil {
		return c, err
	}
	return c, w.outliving.apply(&c)
}

// send is what the flags ask the relay for.
func (w wanted) send(c *admin.Client) func(context.Context, connector.Connector) (admin.Outcome, error) {
	switch {
	case w.change && w.dry:
		return c.PlanChange
	case w.change:
		return c.Change
	case w.dry:
		return c.PlanPublish
	}
	return c.Publish
}

func printOutcome(w io.Writer, o admin.Outcome) {
	printDone(w, o)
	fmt.Fprintf(w, "  %s\n", o.URL)
	for _, u := range o.HostURLs {
		fmt.Fprintf(w, "  %s\n", u)
	}
	if len(o.Changes) > 0 {
		fmt.Fprintln(w)
		var rows []string
		for _, d := range o.Changes {
			rows = append(rows, fmt.Sprintf("  %s\t%s\t%s", d.Setting, d.Before, d.After))
		}
		table(w, "  SETTING\tWAS\tIS", rows)
	}
	if o.DryRun {
		return
	}
	if o.Unavailable != "" {
		fmt.Fprintf(w, "\nNot reachable yet: %s.\n", o.Unavailable)
	}
	printTrial(w, o)
}

// printDone says what was done, or would be.
func printDone(w io.Writer, o admin.Outcome) {
	name := o.Gateway + "/" + o.Name
	switch {
	case o.Action == admin.ActionUnchanged:
		fmt.Fprintf(w, "Nothing to change, %s has these settings:\n\n", name)
	case o.DryRun && o.Action == admin.ActionChanged:
		fmt.Fprintf(w, "Would change %s:\n\n", name)
	case o.DryRun:
		fmt.Fprintf(w, "Would publish %s:\n\n", name)
	case o.Action == admin.ActionChanged:
		fmt.Fprintf(w, "Changed %s:\n\n", name)
	default:
		fmt.Fprintf(w, "Published %s:\n\n", name)
	}
}

// printTrial says what is still to be done for a first call.
func printTrial(w io.Writer, o admin.Outcome) {
	header := ""
	if o.Takes(connector.AuthNone) {
		printOpen(w, []string{o.Gateway + "/" + o.Name})
	}
	published := o.Action == admin.ActionPublished
	if o.Takes(connector.AuthBasic) && published {
		fmt.Fprintf(w, "\nMake a user for each caller:\n\n  sallyport-relay user set %s/%s --name NAME\n", o.Gateway, o.Name)
	}
	if o.Takes(connector.AuthKey) && published {
		fmt.Fprintf(w, "\nMake a key for each caller:\n\n  sallyport-relay key add %s/%s --name NAME\n", o.Gateway, o.Name)
	} else if o.Takes(connector.AuthKey) {
		fmt.Fprintf(w, "\nIts keys are as before.\n")
	}
	printNote(w, o.OAuth2)
	for _, part := range strings.Split(o.Auth[0], "+") {
		switch part {
		case connector.AuthOAuth2:
			header += " -H 'Authorization: Bearer TOKEN'"
		case connector.AuthKey:
			header += fmt.Sprintf(" -H '%s: KEY'", cmp.Or(o.KeyHeader, "X-API-Key"))
		case connector.AuthBasic:
			header += " -u NAME"
		case connector.AuthWindows:
			header += ` -u 'DOMAIN\user'`
		}
	}
	fmt.Fprintf(w, "\nTry it:\n\n  curl -i%s %s/\n", header, o.URL)
}

func (p *program) connectorList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the connectors", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			list, err := c.Connectors(cmd.Context())
			if err != nil {
				return err
			}
			return p.print(list, func(w io.Writer) { printConnectors(w, list) })
		},
	}
}

func printConnectors(w io.Writer, list []admin.Published) {
	if len(list) == 0 {
		fmt.Fprintln(w, "Nothing is published yet. Publish an API: sallyport-relay connector publish GATEWAY/API --auth key")
		return
	}
	var rows []string
	for _, c := range list {
		rows = append(rows, fmt.Sprintf("%s/%s\t%s\t%s\t%s\t%s\t%s", c.Gateway, c.Name, c.API, strings.Join(c.Auth, ","),
			cmp.Or(c.Unavailable, "ready"), definitionAge(c.Definition), strings.Join(append([]string{c.URL}, c.HostURLs...), " ")))
	}
	table(w, "CONNECTOR\tAPI\tAUTH\tSTATE\tDEFINITION\tURL", rows)
	var open []string
	for _, c := range list {
		if c.Takes(connector.AuthNone) {
			open = append(open, c.Gateway+"/"+c.Name)
		}
	}
	printOpen(w, open)
}

// definitionAge says whether the API's description has come from an agent, and how long ago.
func definitionAge(d *store.DefinitionInfo) string {
	if d == nil {
		return "none"
	}
	switch age := time.Since(d.At); {
	case age < time.Minute:
		return "new"
	case age < time.Hour:
		return fmt.Sprintf("%dm old", int(age.Minutes()))
	case age < 48*time.Hour:
		return fmt.Sprintf("%dh old", int(age.Hours()))
	default:
		return fmt.Sprintf("%dd old", int(age.Hours()/24))
	}
}

// printOpen is the standing warning for connectors that demand nothing of their callers.
func printOpen(w io.Writer, open []string) {
	if len(open) > 0 {
		fmt.Fprintf(w, "\nWARNING: anybody who knows the URL may call %s (auth none).\n", strings.Join(open, ", "))
	}
}

func (p *program) connectorUnpublish() *cobra.Command {
	return &cobra.Command{
		Use: "unpublish GATEWAY/NAME", Short: "Take a connector and its keys away", Args: exactly("GATEWAY/NAME"),
		Example:           "  sallyport-relay connector unpublish plant1/orders",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, gw, name, err := p.connectorClient(args[0])
			if err != nil {
				return err
			}
			if err := c.Unpublish(cmd.Context(), gw, name); err != nil {
				return err
			}
			return p.print(map[string]string{"unpublished": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Unpublished", args[0]) })
		},
	}
}
