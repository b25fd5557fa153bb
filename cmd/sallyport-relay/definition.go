package main

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/bearer"
	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/definition"
)

// The formats of connector export.
const (
	formatPower    = "power-platform"
	formatPostman  = "postman"
	formatOpenAPI3 = "openapi3"
)

// exporting are the flags of connector export.
type exporting struct {
	format, out, file, color string
	host, keepIDs, noPing    bool
	acceptBreaking           bool
	digest                   string // of the relay's definition, once it is read
	oauth                    definition.OAuth2
}

// exported is what connector export says.
type exported struct {
	Connector  string                 `json:"connector"`
	Format     string                 `json:"format"`
	Files      []string               `json:"files"`
	Operations []definition.Operation `json:"operations,omitempty"`
	Report     definition.Report      `json:"report"`
	Findings   []definition.Finding   `json:"findings,omitempty"`
	// Changes are those since makers had the definition last, breaking ones first.
	Changes []definition.Change `json:"changes,omitempty"`
	Steps   []string            `json:"steps,omitempty"`
}

func (p *program) connectorExport() *cobra.Command {
	var e exporting
	cmd := &cobra.Command{
		Use:   "export GATEWAY/NAME --out DIR|FILE.zip",
		Short: "Write the files that callers of a connector import",
		Long: `Writes what a custom connector of Power Platform is made of (apiDefinition.swagger.json, apiProperties.json, icon.png and
settings.json), or a Postman collection, or an OpenAPI 3 document: for the connector's public address and its callers'
authentication. The definition is the one that the agent has sent, cut to its allow-list, or --definition FILE: OpenAPI 2.0,
3.0 or 3.1, JSON or YAML, or a Postman collection.

The relay notes what was exported. If a definition that has changed since then would break flows and apps, the breaking changes
are named, and nothing is written without --accept-breaking.

What the format cannot say as the definition does is listed, and so are the steps that remain. The same definition gives the
same files.`,
		Example: `  sallyport-relay connector export plant1/orders --out orders
  sallyport-relay connector export plant1/orders --out orders.zip --host-parameter
  sallyport-relay connector export plant1/orders --definition orders.openapi.yaml --out orders
  sallyport-relay connector export plant1/orders --format postman --out orders.postman`,
		Args:              exactly("GATEWAY/NAME"),
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := p.export(cmd.Context(), args[0], e)
			if err != nil {
				return err
			}
			return p.print(out, func(w io.Writer) { printExported(w, out, e.out) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.format, "format", formatPower, "power-platform, postman or openapi3")
	f.StringVar(&e.out, "out", "", "a `folder`, or a file that ends in .zip (required)")
	f.StringVar(&e.file, "definition", "", "read the definition from a `file` rather than from the relay")
	f.BoolVar(&e.host, "host-parameter", false, "ask for the relay's host name when a connection is made")
	f.BoolVar(&e.keepIDs, "keep-ids", false, "leave operation IDs as they are where Power Platform takes them")
	f.BoolVar(&e.noPing, "no-test-connection", false, "leave out the relay's operation that tests connections")
	f.BoolVar(&e.acceptBreaking, "accept-breaking", false, "export although the changes since the last export break flows and apps")
	f.StringVar(&e.color, "color", "", "the icon's `color`, such as #1f5f8b")
	f.StringVar(&e.oauth.AuthorizationURL, "authorization-url", "", "OAuth2: the authorization `URL`, if the issuer does not tell it")
	f.StringVar(&e.oauth.TokenURL, "token-url", "", "OAuth2: the token `URL`, if the issuer does not tell it")
	f.StringVar(&e.oauth.ClientID, "client-id", "", "OAuth2: the `ID` of the client that you have registered for Power Platform")
	f.StringSliceVar(&e.oauth.Scopes, "scope", nil, "OAuth2: a `scope` to ask for besides those that the connector demands (several: repeat)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{formatPower, formatPostman, formatOpenAPI3}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// export makes the files and writes them.
func (p *program) export(ctx context.Context, path string, e exporting) (exported, error) {
	if e.out == "" {
		return exported{}, usagef("say where to write: --out DIR or --out FILE.zip")
	}
	gw, name, err := splitName(path)
	if err != nil {
		return exported{}, err
	}
	client, err := p.client()
	if err != nil {
		return exported{}, err
	}
	target, err := e.target(ctx, client, gw, name)
	if err != nil {
		return exported{}, err
	}
	doc, err := e.document(ctx, client, gw, name, &e.digest)
	if err != nil {
		return exported{}, err
	}
	changes, err := e.changes(ctx, client, gw, name)
	if err != nil {
		return exported{}, err
	}
	out, files, err := e.make(doc, target)
	if err != nil {
		return exported{}, fmt.Errorf("export %s: %w", path, err)
	}
	out.Connector, out.Format, out.Changes = path, e.format, changes
	if err := writeFiles(e.out, files); err != nil {
		return exported{}, err
	}
	if e.tracked() {
		if err := client.Exported(ctx, gw, name, e.digest); err != nil {
			return exported{}, fmt.Errorf("the files are written, but the relay could not note it, so the next changes will be compared with an older export: %w", err)
		}
	}
	for _, f := range files {
		out.Files = append(out.Files, f.name)
	}
	return out, nil
}

// target asks the relay how the connector is published.
func (e exporting) target(ctx context.Context, client *admin.Client, gw, name string) (definition.Target, error) {
	c, err := findConnector(ctx, client, gw, name)
	if err != nil {
		return definition.Target{}, err
	}
	t := definition.Target{URL: c.URL, Gateway: gw, Name: name, HostParameter: e.host, KeepIDs: e.keepIDs, Color: e.color, Ping: definition.PingPath}
	if e.noPing {
		t.Ping = ""
	}
	t.Deferred, t.Hooks = c.Async.After > 0, len(c.Webhooks) > 0
	if len(c.HostURLs) > 0 {
		t.URL = c.HostURLs[0]
	}
	for _, kind := range c.Auth {
		auth, err := e.auth(ctx, client, kind, c)
		if err != nil {
			return t, err
		}
		t.Auth = append(t.Auth, auth)
	}
	return t, nil
}

// findConnector asks the relay for one connector.
func findConnector(ctx context.Context, client *admin.Client, gw, name string) (admin.Published, error) {
	list, err := client.Connectors(ctx)
	if err != nil {
		return admin.Published{}, err
	}
	for _, c := range list {
		if c.Gateway == gw && c.Name == name {
			return c, nil
		}
	}
	return admin.Published{}, fmt.Errorf("there is no connector %s/%s; 'sallyport-relay connector list' shows the connectors", gw, name)
}

// auth is one way to call, as the connector's settings name it: "key", or "key+oauth2".
func (e exporting) auth(ctx context.Context, client *admin.Client, way string, c admin.Published) (definition.Auth, error) {
	if other, joined := strings.CutPrefix(way, connector.AuthKey+"+"); joined {
		a, err := e.auth(ctx, client, other, c)
		a.Key = keyOf(c)
		return a, err
	}
	switch way {
	case connector.AuthNone:
		return definition.Auth{Kind: definition.AuthNone}, nil
	case connector.AuthKey:
		return *keyOf(c), nil
	case connector.AuthBasic, "windows":
		return definition.Auth{Kind: definition.AuthBasic, Windows: way == "windows"}, nil
	case connector.AuthOAuth2:
		o, err := e.oauth2(ctx, client, c)
		return definition.Auth{Kind: definition.AuthOAuth2, OAuth2: o}, err
	}
	return definition.Auth{}, fmt.Errorf("%s/%s is called with %q, which this version cannot export", c.Gateway, c.Name, way)
}

func keyOf(c admin.Published) *definition.Auth {
	a := definition.Auth{Kind: definition.AuthKey, Header: c.KeyHeader}
	if c.KeyHeader == "" {
		a.Query = c.KeyQuery
	}
	return &a
}

// oauth2 is where tokens for the connector come from: the connector's own rule says so, and its issuer.
func (e exporting) oauth2(ctx context.Context, client *admin.Client, c admin.Published) (*definition.OAuth2, error) {
	rule, o := c.OAuth2, e.oauth
	o.Scopes = append(slices.Clone(rule.Scopes), o.Scopes...)
	o.Restricted, o.AppsOnly = len(rule.Clients) > 0 && !slices.Contains(rule.Clients, o.ClientID), rule.Callers == bearer.AppsOnly
	if rule.Entra() {
		o.Tenant, o.Resource, o.Login = rule.Tenant, rule.Audience[0], rule.SignOn()
		for _, a := range rule.Audience {
			if strings.Contains(a, "://") {
				o.Resource = a
				break
			}
		}
		return &o, nil
	}
	if o.AuthorizationURL != "" && o.TokenURL != "" {
		return &o, nil
	}
	at, err := client.Issuer(ctx, c.Gateway, c.Name)
	if err != nil {
		return nil, fmt.Errorf("find out where tokens for %s/%s come from (or say it with --authorization-url and --token-url): %w", c.Gateway, c.Name, err)
	}
	o.AuthorizationURL, o.TokenURL = cmp.Or(o.AuthorizationURL, at.Authorization), cmp.Or(o.TokenURL, at.Token)
	if o.AuthorizationURL == "" || o.TokenURL == "" {
		return nil, fmt.Errorf("the issuer %s does not tell where tokens come from: say it with --authorization-url and --token-url", at.Issuer)
	}
	return &o, nil
}

// document is the definition from the file, or from the relay.
// digest is set in the latter case.
func (e exporting) document(ctx context.Context, client *admin.Client, gw, name string, digest *string) (*definition.Document, error) {
	if e.file != "" {
		return readDefinition(e.file)
	}
	d, err := client.Definition(ctx, gw, name)
	if err != nil {
		return nil, err
	}
	*digest = d.Digest
	doc, err := definition.Parse(d.Body)
	if err != nil {
		return nil, fmt.Errorf("read the definition that the agent of %s sent: %w", gw, err)
	}
	return doc, nil
}

func readDefinition(path string) (*definition.Document, error) {
	data, err := readInput(path)
	if err != nil {
		return nil, err
	}
	doc, err := definition.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return doc, nil
}

// readInput reads a file of a size that a definition can have; one more byte tells that it is larger.
func readInput(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, definition.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// outFile is a file to be written.
type outFile struct {
	name string
	data []byte
}

func (e exporting) make(doc *definition.Document, t definition.Target) (out exported, files []outFile, err error) {
	switch e.format {
	case formatPower:
		f, err := definition.PowerPlatform(doc, t)
		if err != nil {
			return out, nil, err
		}
		out = exported{Operations: f.Operations, Report: f.Report, Findings: definition.Lint(f.Definition), Steps: t.Steps(cmp.Or(doc.Title(), t.Name))}
		return out, connectorFiles(f), nil
	case formatPostman:
		data, report, err := definition.Postman(doc, t)
		if err != nil {
			return out, nil, err
		}
		out.Report = *report
		out.Steps = []string{
			"Import the collection into Postman, or run it:\n  newman run " + t.Name + ".postman_collection.json --env-var key=KEY",
		}
		return out, []outFile{{t.Name + ".postman_collection.json", data}}, nil
	case formatOpenAPI3:
		data, report, err := definition.OpenAPI3(doc, t)
		if err != nil {
			return out, nil, err
		}
		out.Report = *report
		return out, []outFile{{t.Name + ".openapi.json", data}}, nil
	}
	return out, nil, usagef("--format %q is not one of power-platform, postman, openapi3", e.format)
}

func connectorFiles(f *definition.Files) []outFile {
	return []outFile{
		{"apiDefinition.swagger.json", f.Definition},
		{"apiProperties.json", f.Properties},
		{"settings.json", f.Settings},
		{"icon.png", f.Icon},
	}
}

// writeFiles writes a folder or an archive, whole files or none of one.
func writeFiles(out string, files []outFile) error {
	if strings.EqualFold(filepath.Ext(out), ".zip") {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, f := range files {
			w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate}) // without times: the same files give the same archive
			if err == nil {
				_, err = w.Write(f.data)
			}
			if err != nil {
				return fmt.Errorf("make %s: %w", out, err)
			}
		}
		if err := z.Close(); err != nil {
			return fmt.Errorf("make %s: %w", out, err)
		}
		return replaceFile(out, b.Bytes())
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make the folder %s: %w", out, err)
	}
	for _, f := range files {
		if err := replaceFile(filepath.Join(out, f.name), f.data); err != nil {
			return err
		}
	}
	return nil
}

func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".export-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func printExported(w io.Writer, e exported, out string) {
	fmt.Fprintf(w, "Wrote %s to %s\n", strings.Join(e.Files, ", "), out)
	if len(e.Changes) > 0 {
		fmt.Fprintf(w, "\nChanged since the last export:\n\n")
		printDifferences(w, differences{Changes: e.Changes})
		fmt.Fprintln(w)
	}
	if n := len(e.Operations); n > 0 {
		fmt.Fprintf(w, "It has %d operations.\n", n)
	}
	if text := e.Report.String(); text != "" {
		fmt.Fprintf(w, "\nNot as in the definition:\n\n%s", text)
	}
	if len(e.Findings) > 0 {
		fmt.Fprintf(w, "\nMicrosoft's rules say:\n\n")
		printFindings(w, e.Findings)
	}
	if len(e.Steps) > 0 {
		fmt.Fprintf(w, "\nWhat remains:\n\n")
		for i, s := range e.Steps {
			fmt.Fprintf(w, "%d. %s\n", i+1, strings.ReplaceAll(s, "\n", "\n   "))
		}
	}
}
