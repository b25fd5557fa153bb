package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sallyport/relay/definition"
)

// differences is what connector diff says.
type differences struct {
	Breaking int                 `json:"breaking"`
	Changes  []definition.Change `json:"changes"`
}

func (p *program) connectorDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff BEFORE AFTER | GATEWAY/NAME",
		Short: "Say what a changed definition changes for flows and apps",
		Long: `Compares two definitions, in any form that can be exported, operation by operation; breaking changes come first. Each
is a file, a folder that 'connector export' has written, or a connector (GATEWAY/NAME), whose definition the relay has. A
connector alone: what the agent has sent since the connector was last exported for Power Platform.
The exit code is 1 if a change is breaking.`,
		Example: `  sallyport-relay connector diff plant1/orders
  sallyport-relay connector diff orders plant1/orders
  sallyport-relay connector diff orders-v1.yaml orders-v2.yaml --json`,
		Args:              oneOrTwo,
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := p.differences(cmd.Context(), args)
			if err != nil {
				return err
			}
			if err := p.print(out, func(w io.Writer) { printDifferences(w, out) }); err != nil {
				return err
			}
			if out.Breaking > 0 {
				return fmt.Errorf("%d changes are breaking", out.Breaking)
			}
			return nil
		},
	}
}

func oneOrTwo(_ *cobra.Command, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return usagef("give BEFORE and AFTER, or GATEWAY/NAME")
	}
	return nil
}

// differences compares two definitions, or a connector's with what was exported.
func (p *program) differences(ctx context.Context, args []string) (differences, error) {
	if len(args) == 1 {
		client, gw, name, err := p.connectorClient(args[0])
		if err != nil {
			return differences{}, err
		}
		c, err := client.Changes(ctx, gw, name)
		if err == nil && !c.Known {
			err = fmt.Errorf("%s was not exported for Power Platform yet, so there is nothing to compare with; name two definitions", args[0])
		}
		return differences{Breaking: c.Breaking, Changes: c.Changes}, err
	}
	var docs [2]*definition.Document
	for i, arg := range args {
		doc, err := p.either(ctx, arg)
		if err != nil {
			return differences{}, err
		}
		docs[i] = doc
	}
	changes, err := definition.Compare(docs[0], docs[1])
	if err != nil {
		return differences{}, err
	}
	return differences{Breaking: breaking(changes), Changes: append([]definition.Change{}, changes...)}, nil
}

func breaking(changes []definition.Change) (n int) {
	for _, c := range changes {
		if c.Breaking {
			n++
		}
	}
	return n
}

// either reads a file, a folder, or a connector's definition.
func (p *program) either(ctx context.Context, arg string) (*definition.Document, error) {
	if isDir(arg) {
		return readDefinition(filepath.Join(arg, "apiDefinition.swagger.json"))
	}
	if gw, name, err := splitName(arg); err == nil && !exists(arg) {
		client, err := p.client()
		if err != nil {
			return nil, err
		}
		return exporting{}.document(ctx, client, gw, name, new(string))
	}
	return readDefinition(arg)
}

func printDifferences(w io.Writer, d differences) {
	if len(d.Changes) == 0 {
		fmt.Fprintln(w, "Nothing has changed for flows and apps.")
		return
	}
	for _, c := range d.Changes {
		mark := "        "
		if c.Breaking {
			mark = "BREAKING"
		}
		fmt.Fprintf(w, "%s  %s: %s\n", mark, c.Operation, c.What)
	}
}

// imported is what connector import says.
type imported struct {
	Files  []string             `json:"files"`
	API    string               `json:"api"`
	Allow  []string             `json:"allow"`
	Notes  []string             `json:"notes"`
	Report definition.Report    `json:"report"`
	Lint   []definition.Finding `json:"findings,omitempty"`
	DryRun bool                 `json:"dryRun"`
}

func (p *program) connectorImport() *cobra.Command {
	var to, relay, out, header string
	var dry bool
	cmd := &cobra.Command{
		Use:   "import DIR --as GATEWAY/NAME --relay URL --out DIR",
		Short: "Move a custom connector from Microsoft's on-premises data gateway",
		Long: `Reads the pair of files of a custom connector that goes through Microsoft's on-premises data gateway
(apiDefinition.swagger.json and apiProperties.json, as 'paconn download' gives them) and writes the new pair for this relay,
and api.yaml: the entry for the agent's agent.yaml with its allow-list. It says what changes for the connector's makers.
It changes nothing at the relay or at Microsoft, and needs no running relay.`,
		Example: `  sallyport-relay connector import old-orders --as plant1/orders --relay https://relay.example.com --out orders
  sallyport-relay connector import old-orders --as plant1/orders --relay https://relay.example.com --dry-run`,
		Args: exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			gw, name, err := splitName(to)
			if err != nil {
				return usagef("--as: %w", err)
			}
			if relay == "" || out == "" && !dry {
				return usagef("say the relay's public URL with --relay, and where to write with --out (or --dry-run)")
			}
			m, err := readOld(args[0], definition.Target{
				URL: relay + "/" + gw + "/" + name, Gateway: gw, Name: name, Ping: definition.PingPath,
				Auth: []definition.Auth{{Kind: definition.AuthKey, Header: header}},
			})
			if err != nil {
				return err
			}
			files := append(connectorFiles(m.Files), outFile{"api.yaml", []byte(m.API)})
			result := imported{API: m.API, Allow: m.Allow, Notes: m.Notes, Report: m.Files.Report, Lint: definition.Lint(m.Files.Definition), DryRun: dry}
			for _, f := range files {
				result.Files = append(result.Files, f.name)
			}
			if !dry {
				if err := writeFiles(out, files); err != nil {
					return err
				}
			}
			return p.print(result, func(w io.Writer) { printImported(w, result, out) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "as", "", "the new `connector`, such as plant1/orders (required)")
	f.StringVar(&relay, "relay", "", "the relay's public `URL` (required)")
	f.StringVar(&out, "out", "", "a `folder`, or a file that ends in .zip")
	f.StringVar(&header, "header", "", "the header that carries the key; default: X-API-Key")
	f.BoolVar(&dry, "dry-run", false, "only say what would be written")
	return cmd
}

func readOld(dir string, t definition.Target) (*definition.Migration, error) {
	def, err := readInput(filepath.Join(dir, "apiDefinition.swagger.json"))
	if err != nil {
		return nil, err
	}
	properties, err := readInput(filepath.Join(dir, "apiProperties.json"))
	if err != nil {
		return nil, err
	}
	m, err := definition.Migrate(def, properties, t)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", dir, err)
	}
	return m, nil
}

func printImported(w io.Writer, i imported, out string) {
	if i.DryRun {
		fmt.Fprintf(w, "Would write these files:\n")
	} else {
		fmt.Fprintf(w, "Wrote to %s:\n", out)
	}
	for _, f := range i.Files {
		fmt.Fprintf(w, "  %s\n", f)
	}
	fmt.Fprintf(w, "\nFor agent.yaml, below apis:\n\n%s\nWhat changes:\n\n", i.API)
	for _, n := range i.Notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
	if text := i.Report.String(); text != "" {
		fmt.Fprintf(w, "\nNot as in the old definition:\n\n%s", text)
	}
	if len(i.Lint) > 0 {
		fmt.Fprintf(w, "\nMicrosoft's rules say:\n\n")
		printFindings(w, i.Lint)
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
