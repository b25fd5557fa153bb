//go:build !windows

package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// hangups gives a signal for each SIGHUP, until stop is called: read the configuration again.
func hangups(ctx context.Context) (again <-chan struct{}, stop func()) {
	signals, passed := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP) // also while it drains: a hangup must not end it
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			select {
			case passed <- struct{}{}:
			default: // one is waiting already
			}
		}
	})
	return passed, func() { signal.Stop(signals); cancel(); passing.Wait() }
}
