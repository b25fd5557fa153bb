package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/definition"
	"sallyport/agent/policy"
)

func (p *program) definitionCommand() *cobra.Command {
	var api string
	var asJSON, report bool
	show := &cobra.Command{
		Use: "show", Short: "Print exactly what leaves the machine of an API's description", Args: exactly(0, 0, ""),
		Long: `Prints the JSON document that the running agent offers to the relay, byte for byte, and on standard error what was cut and
stripped from the description. A definition that is a path on the API is read from the API now, with its credential;
otherwise nothing is called.`,
		Example: "  sallyport-agent definition show\n  sallyport-agent definition show --api orders | jq .paths\n  sallyport-agent definition show --report --json",
		RunE:    does(func(ctx context.Context, _ []string) error { return p.showDefinition(ctx, api, report, asJSON) }),
	}
	show.Flags().StringVar(&api, "api", "", "the API's name; not needed if there is only one")
	show.Flags().BoolVar(&report, "report", false, "print the report alone, and all of it")
	show.Flags().BoolVar(&asJSON, "json", false, "for scripts: with --report the report as JSON; the document always is")
	return group("definition", "Show what makers get to know of an API", show)
}

func (p *program) showDefinition(ctx context.Context, name string, reportOnly, asJSON bool) error {
	c, err := agent.ReadConfig(p.config)
	if err != nil {
		return err
	}
	api, err := pick(c, name)
	if err != nil {
		return err
	}
	deps := agent.Deps{File: p.config, Log: slog.New(slog.DiscardHandler)}
	if strings.HasPrefix(api.Definition, "/") { // the API is asked, with its credential
		if deps.State, err = p.stateDir(c); err != nil {
			return err
		}
		if deps.Secrets, err = p.secrets(deps.State); err != nil {
			return err
		}
		if deps.Log, _, err = p.logger(c.Log); err != nil {
			return err
		}
	}
	r, err := agent.Describe(ctx, c, api, deps, true)
	if err != nil {
		return err
	}
	if r == nil {
		_, err := fmt.Fprintf(p.err, "nothing leaves: API %s has definition: none\n", api.Name)
		return err
	}
	switch {
	case reportOnly && asJSON:
		return json.NewEncoder(p.out).Encode(r.Report)
	case reportOnly:
		printReport(p.out, r, 1<<30)
		return nil
	}
	printReport(p.err, r, 20)
	_, err = p.out.Write(append(r.Body, '\n'))
	return err
}

// printReport says what became of a description; of long lists the first entries alone.
func printReport(w io.Writer, r *definition.Result, most int) {
	fmt.Fprintf(w, "%s: %d operations leave, %d are cut; %d bytes, %s\n", r.Report.Form, r.Report.Operations, len(r.Report.Cut), len(r.Body), r.Digest)
	for i, c := range r.Report.Cut {
		if i == most {
			fmt.Fprintf(w, "  and %d more\n", len(r.Report.Cut)-most)
			break
		}
		fmt.Fprintf(w, "  cut: %s %s (%s)\n", c.Method, c.Path, c.Why)
	}
	for i, s := range r.Report.Stripped {
		if i == most {
			fmt.Fprintf(w, "  and %d more\n", len(r.Report.Stripped)+r.Report.More-most)
			break
		}
		fmt.Fprintf(w, "  stripped: %s (%s)\n", s.Where, s.Why)
	}
	for _, warning := range r.Report.Warnings {
		fmt.Fprintln(w, "  warning:", warning)
	}
}

// checkDefinitions says what leaves of each API, as far as files alone tell.
func (p *program) checkDefinitions(ctx context.Context, c *agent.Config) {
	for i := range c.APIs {
		api := &c.APIs[i]
		r, err := agent.Describe(ctx, c, api, agent.Deps{File: p.config, Log: slog.New(slog.DiscardHandler)}, false)
		switch {
		case errors.Is(err, agent.ErrFromUpstream):
			fmt.Fprintf(p.out, "API %s: the definition is read from the API itself when the agent runs; 'sallyport-agent definition show --api %s' reads it now\n",
				api.Name, api.Name)
		case err != nil:
			fmt.Fprintf(p.err, "warning: API %s: the definition cannot be used, and the relay keeps the one it has: %v\n", api.Name, err)
		case r == nil:
			fmt.Fprintf(p.out, "API %s: no definition leaves\n", api.Name)
		default:
			fmt.Fprintf(p.out, "API %s: %s; %d operations leave%s, %d things stripped\n", api.Name, r.Report.Form, r.Report.Operations,
				cutReasons(r.Report.Cut), len(r.Report.Stripped)+r.Report.More)
			for _, warning := range r.Report.Warnings {
				fmt.Fprintln(p.err, "warning:", warning)
			}
		}
	}
}

// cutReasons counts by reason: ", 12 are cut (the allow-list does not admit it: 12)".
func cutReasons(list []definition.CutOperation) string {
	if len(list) == 0 {
		return ""
	}
	count := map[string]int{}
	var order []string
	for _, c := range list {
		if count[c.Why]++; count[c.Why] == 1 {
			order = append(order, c.Why)
		}
	}
	for i, why := range order {
		order[i] = fmt.Sprintf("%s: %d", why, count[why])
	}
	return fmt.Sprintf(", %d are cut (%s)", len(list), strings.Join(order, "; "))
}

func (p *program) draftCommand() *cobra.Command {
	var api, basePath string
	var methods []string
	var asJSON bool
	c := &cobra.Command{
		Use: "from-definition FILE", Short: "Draft the allow-list from an API's description", Args: exactly(1, 1, ""),
		Long: `Reads an OpenAPI document (2.0, 3.0, 3.1) or a Postman collection, JSON or YAML, and prints rules to paste into agent.yaml.
Only reading (GET and HEAD) is drafted unless --methods says more. It changes nothing: read every rule before you paste it.

Rules follow the API's url. Without --base-path they are for a url that ends with the base path of the description itself.`,
		Example: "  sallyport-agent policy from-definition orders.yaml\n  sallyport-agent policy from-definition orders.json --methods GET,POST --base-path /api/v2",
		RunE: does(func(_ context.Context, args []string) error {
			return p.draft(args[0], api, basePath, methods, asJSON)
		}),
	}
	c.Flags().StringSliceVar(&methods, "methods", []string{"GET", "HEAD"}, "the `methods` to draft rules for; * for all")
	c.Flags().StringVar(&basePath, "base-path", "", "the `path` of the API's url")
	c.Flags().StringVar(&api, "api", "", "an API of agent.yaml whose url the rules follow, instead of --base-path")
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return c
}

func (p *program) draft(file, name, basePath string, methods []string, asJSON bool) error {
	wanted, err := draftMethods(methods)
	if err != nil {
		return err
	}
	follow, err := p.follow(name, basePath)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, definition.MaxSize+1))
	if err != nil {
		return fmt.Errorf("read the definition: %w", err)
	}
	d, err := definition.DraftRules(file, data, wanted, follow, func(rule string) error {
		_, err := policy.Compile([]string{rule})
		if errs, ok := errors.AsType[policy.Errors](err); ok {
			return errors.New(errs[0].Message)
		}
		return err
	})
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(d)
	}
	_, err = p.out.Write(draftText(file, d))
	return err
}

// follow is the url that the rules follow; nil: the description's own base path.
func (p *program) follow(name, basePath string) (*url.URL, error) {
	switch {
	case name != "" && basePath != "":
		return nil, exitError{exitUsage, errors.New("--api and --base-path both say what the rules follow; give one")}
	case name != "":
		c, err := agent.ReadConfig(p.config)
		if err != nil {
			return nil, err
		}
		api, err := pick(c, name)
		if err != nil {
			return nil, err
		}
		return api.Address(), nil
	case basePath != "":
		return &url.URL{Path: "/" + strings.Trim(basePath, "/")}, nil
	}
	return nil, nil
}

// draftMethods reads --methods.
func draftMethods(list []string) ([]string, error) {
	all := []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
	var out []string
	for _, m := range list {
		m = strings.ToUpper(strings.TrimSpace(m))
		switch {
		case m == "*":
			return all, nil
		case !slices.Contains(all, m):
			return nil, exitError{exitUsage, fmt.Errorf("--methods: %q is none of %s", m, strings.Join(all, ", "))}
		}
		out = append(out, m)
	}
	return out, nil
}

// draftText is YAML to paste.
func draftText(file string, d *definition.Draft) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Drafted from %s (%s). Read every rule before you keep it.\n    allow:\n", oneWord(file), d.Form)
	width := 0
	for _, r := range d.Rules {
		width = min(max(width, len(r.Rule)), 60)
	}
	for _, r := range d.Rules {
		text := quoteRule(r.Rule)
		if r.Summary != "" {
			text = fmt.Sprintf("%-*s  # %s", width, text, oneWord(r.Summary))
		}
		fmt.Fprintf(&b, "      - %s\n", text)
	}
	if len(d.Rules) == 0 {
		b.WriteString("      []  # no operation of these methods\n")
	}
	for _, left := range d.Left {
		fmt.Fprintf(&b, "      # not drafted: %s\n", oneWord(left))
	}
	for _, f := range d.Faults {
		fmt.Fprintf(&b, "      # no rule for %s %s: %s\n", f.Method, oneWord(f.Path), oneWord(f.Why))
	}
	for _, w := range d.Warnings {
		fmt.Fprintf(&b, "      # warning: %s\n", oneWord(w))
	}
	return b.Bytes()
}

// quoteRule quotes a rule that YAML would read as something else.
func quoteRule(rule string) string {
	if strings.HasPrefix(rule, "*") || strings.Contains(rule, ": ") || strings.Contains(rule, " #") || strings.HasSuffix(rule, ":") {
		return "'" + strings.ReplaceAll(rule, "'", "''") + "'"
	}
	return rule
}

// oneWord keeps text from a foreign file on its line.
func oneWord(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == 0x85 || c == 0x2028 || c == 0x2029 {
			return '?'
		}
		return c
	}, s)
}
