package main

import (
	"context"
	"path/filepath"

	"sallyport/agent"
)

// defaultConfig is where agent.yaml is.
func defaultConfig() string { return filepath.Join(agent.DefaultState(), "agent.yaml") }

// serviceCredentials gives nothing: there is no systemd.
func serviceCredentials() string { return "" }

// hangups gives nothing: Windows has no such signal, the file is watched.
func hangups(context.Context) <-chan struct{} { return nil }

// elevated is how somebody runs a command who may do all.
const elevated = "as an administrator"
