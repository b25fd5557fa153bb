package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/relay/definition"
)

// linted is what connector lint says about one file.
type linted struct {
	File     string               `json:"file"`
	Findings []definition.Finding `json:"findings"`
}

func (p *program) connectorLint() *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE|DIR",
		Short: "Check a custom connector's files by the rules of Microsoft's validator",
		Long: `Checks an apiDefinition.swagger.json, an apiProperties.json, or a folder with both, by the rules that Microsoft's
validator has ("Fix Swagger Validator errors"): each finding has the rule's name, the place and the mend. It needs no relay.
The exit code is 1 if there is an error; warnings alone leave it at 0.`,
		Example: `  sallyport-relay connector lint orders
  sallyport-relay connector lint apiDefinition.swagger.json --json`,
		Args: exactly("FILE|DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := lintPath(args[0])
			if err != nil {
				return err
			}
			bad := 0
			for _, f := range files {
				for _, one := range f.Findings {
					if one.Severity == definition.SeverityError {
						bad++
					}
				}
			}
			if err := p.print(files, func(w io.Writer) { printLinted(w, files) }); err != nil {
				return err
			}
			if bad > 0 {
				return fmt.Errorf("%d errors", bad)
			}
			return nil
		},
	}
}

func lintPath(path string) ([]linted, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", path, err)
	}
	files := []string{path}
	if info.IsDir() {
		files = nil
		for _, name := range []string{"apiDefinition.swagger.json", "apiProperties.json"} {
			if _, err := os.Stat(filepath.Join(path, name)); err == nil {
				files = append(files, filepath.Join(path, name))
			}
		}
		if len(files) == 0 {
			return nil, errors.New(path + " has neither apiDefinition.swagger.json nor apiProperties.json")
		}
	}
	var out []linted
	for _, f := range files {
		data, err := readInput(f)
		if err != nil {
			return nil, err
		}
		check := definition.Lint
		if strings.EqualFold(filepath.Base(f), "apiProperties.json") {
			check = definition.LintProperties
		}
		out = append(out, linted{f, append([]definition.Finding{}, check(data)...)})
	}
	return out, nil
}

func printLinted(w io.Writer, files []linted) {
	for i, f := range files {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if len(f.Findings) == 0 {
			fmt.Fprintf(w, "%s: nothing to mend\n", f.File)
			continue
		}
		fmt.Fprintf(w, "%s:\n\n", f.File)
		printFindings(w, f.Findings)
	}
}

func printFindings(w io.Writer, list []definition.Finding) {
	for _, f := range list {
		fmt.Fprintf(w, "%s %s at %s\n    %s\n    %s\n", f.Severity, f.Rule, f.Place, f.Message, f.Mend)
	}
}
