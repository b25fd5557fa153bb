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
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sallyport-demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	flags := flag.NewFlagSet("sallyport-demo", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.Usage = func() {
		fmt.Fprintln(errOut, "Usage: sallyport-demo [--once | --stay TIME] [--verbose]\n\n"+
			"Starts a relay, an agent and an internal API that demands Windows authentication, all on\n"+
			"loopback, and makes calls through them. Stays up for your own calls until Ctrl-C, or\n"+
			"for a minute where standard input is not a terminal.")
		flags.PrintDefaults()
	}
	once := flags.Bool("once", false, "end after the story: exit code 0 if every step truly worked, 1 otherwise")
	stay := flags.Duration("stay", 0, "stay up for your own calls for so long, 10m for instance")
	verbose := flags.Bool("verbose", false, "show the logs of relay and agent on standard error")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is not expected (see --help)", flags.Arg(0))
	}
	if *stay < 0 || *stay > 0 && *once {
		return errors.New("--stay is a time above zero, and not for --once (see --help)")
	}
	return tell(ctx, out, options{once: *once, verbose: *verbose, stay: *stay, errOut: errOut})
}
