// Command sallyport-relay is the cloud program of Sallyport and its commands: serve runs a relay, the others administer
// a running one over its local socket. It reads flags, files and the environment and holds nothing else; what a relay
// does is in package relay.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"sallyport/internal/nodump"
	"sallyport/internal/output"
	"sallyport/internal/service"
	"sallyport/internal/systemd"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { nodump.Set(); os.Exit(Main()) }

// Main is main with an exit code, for the script tests, which run it under the program's name.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends at once what the first one drains
	return run(ctx, os.Args[1:], environment{in: os.Stdin, out: os.Stdout, err: os.Stderr, get: os.Getenv})
}

// run executes one command line.
func run(ctx context.Context, args []string, env environment) int {
	said := output.To(env.out)
	env.out = said
	cmd := newRoot(env)
	cmd.SetArgs(args)
	err := said.Or(withHint(cmd.ExecuteContext(ctx)))
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[service.ExitError](err); ok {
		return e.ExitCode()
	}
	systemd.Complain(env.err, env.get, "sallyport-relay: "+err.Error())
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}
