//go:build !man

package main

import "github.com/spf13/cobra"

// withManual adds nothing: manual pages are made by the build of the packages, see man_on.go.
func withManual(*cobra.Command) {}
