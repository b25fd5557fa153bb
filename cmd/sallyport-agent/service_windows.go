package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"
	winlog "golang.org/x/sys/windows/svc/eventlog"

	"sallyport/agent"
	"sallyport/agent/logfile"
	"sallyport/agent/state"
	"sallyport/agent/update"
	"sallyport/internal/eventlog"
	"sallyport/internal/service"
)

// guarded has install give the state folder to the service's account; agent.yaml in it the service may only read. A start puts
// back a program that an update was cut off with.
func guarded(s *service.Spec) {
	s.Prepare = func() error {
		self, err := service.OwnProgram()
		if err != nil {
			return err
		}
		return update.Mend(self)
	}
	path, config := s.State, s.Config
	s.Secured = func(account string) bool { return state.Secured(path, account, config) }
	s.Secure = func(account string) error { return state.Secure(path, account, config) }
}

// withServe adds the command that the service manager runs.
func (p *program) withServe(c *cobra.Command) *cobra.Command {
	c.AddCommand(&cobra.Command{
		Use: serveCommand, Short: "Serve as a service; for Windows' service manager alone", Hidden: true, Args: exactly(0, 0, ""),
		RunE: does(func(ctx context.Context, _ []string) error { return p.serveManaged(ctx) }),
	})
	return c
}

// serveManaged is 'run' for the service manager. What is logged, and why it ended, goes to the event log.
func (p *program) serveManaged(ctx context.Context) error {
	sink, err := winlog.Open(serviceName)
	if err != nil {
		return fmt.Errorf("open the event log: %w", err)
	}
	defer sink.Close()
	p.eventLog = sink
	p.logFile, p.events = new(logfile.File), func(level slog.Leveler) slog.Handler { return eventlog.New(sink, agent.Events(), level) }
	defer p.logFile.Close()
	if dir, err := p.openState(); err == nil { // a configuration that is wrong is to be told there too
		_ = p.logFile.Open(dir) // serve opens it again, and tells what is wrong
	}
	p.err = io.Discard // a service has no standard error
	log := slog.New(slog.NewMultiHandler(p.events(slog.LevelInfo), slog.NewTextHandler(p.logFile, nil)))
	return service.Serve(ctx, serviceName, func(ctx context.Context, up func()) error {
		begun := false
		err := p.serve(ctx, func() { begun = true; up() })
		switch {
		case err != nil && !begun:
			log.Error("the agent could not start", "error", err)
		case err != nil:
			log.Error("the agent was ended", "error", err)
		case ctx.Err() == nil:
			err = errors.New("nobody told it to end")
			log.Error("the agent was ended", "error", err)
		}
		return err
	}, func(ctx context.Context) {
		if err := p.serveErrand(ctx); err != nil {
			log.Error("what 'check --as-service' left could not be done", "error", err)
		}
	})
}

// serveErrand examines the installation for an administrator, in the process and with the account of the service.
func (p *program) serveErrand(ctx context.Context) error {
	spec, err := p.serviceSpec()
	if err != nil {
		return err
	}
	return service.ServeErrand(ctx, spec, func(ctx context.Context, args []string, out, complaints io.Writer) int {
		if len(args) == 0 || args[0] != "check" || slices.Contains(args, "--as-service") {
			fmt.Fprintln(complaints, "sallyport-agent: the service carries out 'check' alone")
			return exitUsage
		}
		err := run(ctx, args, streams{nil, out, complaints}, p.getenv)
		if err != nil && err.Error() != "" {
			fmt.Fprintln(complaints, "sallyport-agent:", err)
		}
		return codeOf(err)
	})
}

// machineLog is the event log, for a command whose output nobody may see.
func (p *program) machineLog() (log *slog.Logger, end func()) {
	sink, err := winlog.Open(serviceName)
	if err != nil {
		return slog.New(slog.DiscardHandler), func() {}
	}
	return slog.New(eventlog.New(sink, agent.Events(), slog.LevelInfo)), func() { _ = sink.Close() }
}

// openEventLog gives what the record can be written to, if the configuration wants that. Whoever runs the agent at a prompt has no
// service that opened it before.
func (p *program) openEventLog(c *agent.Config) (sink eventlog.Sink, end func(), err error) {
	if c.Audit.EventLog == "" || p.eventLog != nil {
		return p.eventLog, func() {}, nil
	}
	log, err := winlog.Open(serviceName)
	if err != nil {
		return nil, nil, fmt.Errorf("open the event log: %w", err)
	}
	return log, func() { _ = log.Close() }, nil // at the end; nothing is left to be told
}
