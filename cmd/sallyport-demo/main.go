// Command sallyport-demo shows the product's main job on one machine, in one process: a relay with TLS, an agent that
// joined it, and an internal API on loopback that lets nobody in without Windows authentication.
//
// Everything but the stage is the product's own code: the gateway, the connector and the key are made through the relay's
// admin socket, the agent joins with a join string and signs on with a password from its secret store, and the API
// verifies NTLMv2. It needs nothing but Go, listens on loopback alone and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "sallyport-demo:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}
