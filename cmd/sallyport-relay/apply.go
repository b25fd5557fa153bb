package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"sallyport/configs"
	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/manifest"
)

func (p *program) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "Print gateways and connectors as a file for apply", Args: exactly(),
		Long: `Prints the relay's gateways and connectors, with all settings that are not defaults, as YAML. The output is the same for
the same relay, so that it can be kept in a repository and compared. Agents, keys and secrets are not in it.`,
		Example: `  sallyport-relay export > publish.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			f, err := manifestOf(cmd.Context(), c)
			if err != nil {
				return err
			}
			text := f.YAML()
			if p.json {
				if text, err = yaml.YAMLToJSON(text); err != nil {
					return fmt.Errorf("print the answer: %w", err)
				}
			}
			_, err = p.out.Write(text)
			return err
		},
	}
}

func manifestOf(ctx context.Context, c *admin.Client) (manifest.File, error) {
	gateways, err := c.Gateways(ctx)
	if err != nil {
		return manifest.File{}, err
	}
	published, err := c.Connectors(ctx)
	if err != nil {
		return manifest.File{}, err
	}
	names := make([]string, 0, len(gateways))
	for _, g := range gateways {
		names = append(names, g.Name)
	}
	connectors := make([]connector.Connector, 0, len(published))
	for _, x := range published {
		connectors = append(connectors, x.Connector)
	}
	return manifest.Of(names, connectors), nil
}

func (p *program) applyCommand() *cobra.Command {
	var path string
	var prune, dry bool
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Make gateways and connectors as a file has them", Args: exactly(),
		Long: `Compares the relay with a file of the form that 'export' prints, makes what it lacks, and says what. All is checked before
anything is changed. What is in the relay and not in the file stays, unless --prune is given: then connectors and gateways
go, with their keys and agents. Applying a file twice changes nothing the second time.`,
		Example: `  sallyport-relay apply -f publish.yaml --dry-run
  sallyport-relay apply -f publish.yaml
  sallyport-relay apply -f publish.yaml --prune`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usagef("say which file: apply -f FILE; 'sallyport-relay export' prints one to begin with")
			}
			f, err := loadManifest(path)
			if err != nil {
				return err
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			return p.apply(cmd.Context(), c, f, prune, dry)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&path, "file", "f", "", "the `file` with gateways and connectors (required)")
	f.BoolVar(&prune, "prune", false, "remove what is not in the file, with its keys and agents")
	f.BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

func loadManifest(path string) (manifest.File, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return manifest.File{}, fmt.Errorf("there is no file %s; 'sallyport-relay export' prints one to begin with", path)
	}
	if err == nil && info.Size() > configs.MaxSize {
		return manifest.File{}, fmt.Errorf("%s is too large: at most %d bytes are read", path, configs.MaxSize)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return manifest.File{}, fmt.Errorf("read the file: %w", err)
	}
	return manifest.Load(path, text)
}

// applied is what was done, or would be.
type applied struct {
	DryRun bool `json:"dryRun"`
	manifest.Result
}

func (p *program) apply(ctx context.Context, c *admin.Client, f manifest.File, prune, dry bool) error {
	plan, err := manifest.Plan(ctx, c, f, prune)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	done := applied{DryRun: dry, Result: plan}
	if !dry {
		for i, step := range plan.Steps {
			if err := step.Do(ctx, c); err != nil {
				done.Steps = plan.Steps[:i]
				return errors.Join(p.print(done, func(w io.Writer) { printApplied(w, done) }),
					fmt.Errorf("%d of %d changes were made: %w", i, len(plan.Steps), err))
			}
		}
	}
	return p.print(done, func(w io.Writer) { printApplied(w, done) })
}

func printApplied(w io.Writer, a applied) {
	would := ""
	if a.DryRun {
		would = "would "
	}
	if len(a.Steps) == 0 {
		fmt.Fprintln(w, "Nothing to change: the relay has all that is in the file.")
	}
	for _, s := range a.Steps {
		fmt.Fprintf(w, "%s%s %s\n", would, s.Action, s.On)
		for _, d := range s.Changes {
			fmt.Fprintf(w, "    %s: %s -> %s\n", d.Setting, d.Before, d.After)
		}
	}
	for _, on := range a.Extra {
		fmt.Fprintf(w, "kept %s, which is not in the file (--prune removes it)\n", on)
	}
}
