// Command sallyport-agent is the program inside the network: it joins a gateway of a relay, keeps links to it, and calls
// the internal APIs that its own agent.yaml admits. It listens nowhere.
//
// What it does is in the package agent; here are the commands, the flags, the environment and the exit codes:
//
//	0  done          2  wrong usage: unknown command or flag
//	1  failed        3  'policy test': the request would be refused; 'policy diff': something would change;
//	                    'service status': it does not run
//	                 4  'service status': it is not installed      5  'update': rolled back
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"sallyport/internal/nodump"
	"sallyport/internal/service"
	"sallyport/internal/systemd"
)

// Exit codes.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3
	exitAltered = 4 // 'audit verify'
)

func main() {
	nodump.Set()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends at once what the first one drains
	err := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}, os.Getenv)
	os.Exit(exitCode(err))
}

// exitCode says why the program failed and gives the code.
func exitCode(err error) int {
	if err != nil && err.Error() != "" {
		systemd.Complain(os.Stderr, os.Getenv, "sallyport-agent: "+err.Error())
	}
	return codeOf(err)
}

func codeOf(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[exitError](err); ok {
		return e.code
	}
	if e, ok := errors.AsType[service.ExitError](err); ok {
		return e.ExitCode()
	}
	return exitFailed
}
