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
