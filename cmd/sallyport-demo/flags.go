package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
)

// errUsage is within every error about how the program was called.
var errUsage = errors.New("see --help")

// run reads the flags and tells the story.
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
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w (%w)", err, errUsage)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is not expected (%w)", flags.Arg(0), errUsage)
	}
	if *stay < 0 || *stay > 0 && *once {
		return fmt.Errorf("--stay is a time above zero, and not for --once (%w)", errUsage)
	}
	return tell(ctx, out, options{once: *once, verbose: *verbose, stay: *stay, errOut: errOut})
}
