//go:build !windows

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// defaultConfig is where agent.yaml is.
func defaultConfig() string { return "/etc/sallyport/agent.yaml" }

// serviceCredentials is where systemd keeps the credentials of the agent's service while it runs, empty if there are none for this
// account: what an admin looks at should be what the service has.
func serviceCredentials() string {
	const dir = "/run/credentials/" + serviceName + ".service"
	if _, err := os.ReadDir(dir); err != nil {
		return ""
	}
	return dir
}

// hangups gives a signal for each SIGHUP until ctx ends: read the configuration again.
func hangups(ctx context.Context) <-chan struct{} {
	signals, again := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { signal.Stop(signals); close(signals) })
	go func() { // ends with ctx, by the closed channel
		for range signals {
			select {
			case again <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return again
}

// elevated is how somebody runs a command who may do all.
const elevated = "as root (sudo)"
