//go:build man

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// withManual adds 'man DIR', which the packages are built with; it is not in the program that people install, because
// what it links is of no use there. SOURCE_DATE_EPOCH dates the pages.
func withManual(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use: "man DIR", Short: "Write the manual pages of all commands to a directory", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make the directory of the manual pages: %w", err)
			}
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "8", Source: "Sallyport", Manual: "Sallyport"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return nil
		},
	})
}
