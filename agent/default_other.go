//go:build !windows

package agent

// DefaultState is the directory for the agent's key and secrets if the configuration names none.
func DefaultState() string { return "/var/lib/sallyport-agent" }
