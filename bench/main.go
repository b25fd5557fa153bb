//go:build linux

// Command bench measures Sallyport's real relay and agent against other ways from a caller to an internal API, in one
// run, on the same work, and prints ratios, which say more than numbers on a machine that others use too.
//
// It is not a test (nothing fails because it is slow) and no part of the product. It knows Linux alone: CPU time and
// memory of the programs between come from /proc. README.md says what each way and each column is.
//
//	go run . --quick         a table, within a minute
//	go run . --tls --json    one object for machines; TLS on both sides, the rows that count
package main

import (
	"bufio"
	"context"
	"encoding/json"
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
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out, progress io.Writer) error {
	if len(args) == 1 && args[0] == roleArgument {
		return play(ctx, bufio.NewReader(in), out)
	}
	if len(args) == 1 && args[0] == fleetArgument {
		return playFleet(ctx, bufio.NewReader(in), out)
	}
	o, err := parseOptions(args, progress)
	if err != nil {
		return err
	}
	if len(o.faults) > 0 || o.soak > 0 {
		report, err := measureFaults(ctx, o, progress)
		if err != nil {
			return err
		}
		if o.json {
			return encode(out, report)
		}
		return report.print(out)
	}
	stage, err := newStage(ctx, o, progress)
	if err != nil {
		return err
	}
	defer stage.close()
	var report *report
	switch {
	case o.auth:
		report, err = stage.measureAuth(ctx)
	case o.kerberos:
		report, err = stage.measureKerberos(ctx)
	default:
		report, err = stage.measureWays(ctx)
	}
	if err != nil {
		return err
	}
	if o.json {
		return encode(out, report)
	}
	return report.print(out)
}

func encode(out io.Writer, report any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}
