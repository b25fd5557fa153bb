package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/logfile"
	"sallyport/agent/secret"
	"sallyport/agent/state"
	"sallyport/configs"
	"sallyport/internal/eventlog"
	"sallyport/internal/output"
	"sallyport/internal/systemd"
)

// streams are the program's standard input and outputs.
type streams struct {
	in       *os.File
	out, err io.Writer
}

// A program is one run of the command line: what all commands share.
type program struct {
	streams
	getenv func(string) string

	config   string // --config
	state    string // --state
	logLevel string
	logForm  string

	// logFile keeps the log in place of standard error, and events has the event log take its part, in a service of Windows, which
	// has neither that nor a journal; nil otherwise.
	logFile *logfile.File
	events  func(slog.Leveler) slog.Handler
	// eventLog takes lines of the record, in a service of Windows; nil otherwise.
	eventLog eventlog.Sink
}

func longHelp() string {
	return `sallyport-agent runs inside a company's network. It opens outbound links to a relay in the cloud and calls
internal APIs for it: those, and only those, that its own agent.yaml allows. It listens nowhere.

First steps:
  sallyport-agent join                 # paste the join string that 'sallyport-relay gateway add' printed
  edit ` + defaultConfig() + `      # which APIs, and what of them may be called
  sallyport-agent config check ` + defaultConfig() + `
  sallyport-agent run
  sallyport-agent check                # says what is wrong where something is, and what to do

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 'policy test' says refused or 'policy diff' that something would change,
4 'audit verify' says altered, 5 'update' rolled back; 'service status' has its own.
Environment: SALLYPORT_STATE is the state directory, as --state; HTTPS_PROXY and NO_PROXY say how the relay is reached
unless agent.yaml does.`
}

// run makes one run of the command line.
func run(ctx context.Context, args []string, s streams, getenv func(string) string) error {
	said := output.To(s.out)
	s.out = said
	p := &program{streams: s, getenv: getenv}
	root := &cobra.Command{
		Use: "sallyport-agent", Short: "Call internal APIs for a relay in the cloud, by an allow-list decided inside",
		Long: longHelp(), SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&p.config, "config", defaultConfig(), "path of agent.yaml")
	f.StringVar(&p.state, "state", "", "directory of the agent's key, secrets and record (default: agent.yaml's 'state', or "+agent.DefaultState()+")")
	f.StringVar(&p.logLevel, "log-level", "", "debug, info, warn or error (default: agent.yaml's, or info)")
	f.StringVar(&p.logForm, "log-format", "", "text or json (default: agent.yaml's, or text)")
	root.AddCommand(p.setupCommand(), p.joinCommand(), p.runCommand(), p.checkCommand(), p.supportCommand(), p.statusCommand(), p.pauseCommand(), p.resumeCommand(), p.logLevelCommand(), p.keyCommand(), p.configCommand(), p.policyCommand(), p.definitionCommand(),
		p.secretCommand(), p.auditCommand(), p.serviceCommand(), p.updateCommand(), p.releaseCommand(), p.versionCommand())
	withManual(root)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !started(err) {
		return usage(cmd, err)
	}
	if hint := rightsHint(err, os.Geteuid(), getenv("NOTIFY_SOCKET") != ""); hint != "" {
		return fmt.Errorf("%w; %s", err, hint)
	}
	return said.Or(err)
}

// rightsHint says what helps where the account of this process may not use a file; empty where that is not what is wrong.
func rightsHint(err error, uid int, service bool) string {
	_, path := errors.AsType[*fs.PathError](err)
	_, link := errors.AsType[*os.LinkError](err)
	switch {
	case uid == 0 || !path && !link || !errors.Is(err, fs.ErrPermission):
		return ""
	case service:
		return "'sallyport-agent service install', " + elevated + ", gives the service's account its folder"
	}
	return "run it " + elevated + " or as the agent's account, or give --config and --state of your own"
}

// An exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error // nil if everything has been said
}

func (e exitError) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return ""
}
func (e exitError) Unwrap() error { return e.err }

// A runError is an error of a command that ran; other errors of cobra's are about the command line.
type runError struct{ err error }

func (e runError) Error() string { return e.err.Error() }
func (e runError) Unwrap() error { return e.err }

func started(err error) bool {
	if _, ok := errors.AsType[runError](err); ok {
		return true
	}
	_, ok := errors.AsType[exitError](err)
	return ok
}

// does makes a command's function; what it returns is not about the command line.
func does(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd.Context(), args)
		if err == nil || started(err) {
			return err
		}
		return runError{err}
	}
}

func usage(cmd *cobra.Command, err error) error {
	return exitError{exitUsage, fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath())}
}

// exactly checks the number of arguments. It quotes none: somebody may have written a secret there.
func exactly(least, most int, hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(cmd, fmt.Errorf("something is missing: %s", cmd.UseLine()))
		case len(args) > most && hint != "":
			return usage(cmd, fmt.Errorf("too many arguments: %s", hint))
		case len(args) > most:
			return usage(cmd, fmt.Errorf("too many arguments: %s", cmd.UseLine()))
		}
		return nil
	}
}

// group is a command that only has others below it.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, _ []string) error {
		return usage(cmd, errors.New("name one of its commands"))
	}}
	c.AddCommand(sub...)
	return c
}

// logger writes to standard error, as the flags say, or else the configuration. Its level can be changed.
func (p *program) logger(c agent.Log) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if text := cmp.Or(p.logLevel, c.Level, "info"); level.UnmarshalText([]byte(text)) != nil {
		return nil, nil, fmt.Errorf("log level %q is none of debug, info, warn, error", text)
	}
	o := &slog.HandlerOptions{Level: level}
	switch form := cmp.Or(p.logForm, c.Format, "text"); form {
	case "text":
		return p.logTo(level, func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, o) }), level, nil
	case "json":
		return p.logTo(level, func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, o) }), level, nil
	default:
		return nil, nil, fmt.Errorf("log format %q is neither text nor json", form)
	}
}

// logTo has the journal know how urgent a line is, where standard error is that.
func (p *program) logTo(level slog.Leveler, handler func(io.Writer) slog.Handler) *slog.Logger {
	if p.logFile != nil {
		return slog.New(slog.NewMultiHandler(p.events(level), handler(p.logFile)))
	}
	if systemd.IsJournal(p.err, p.getenv) {
		return slog.New(systemd.NewHandler(p.err, handler))
	}
	return slog.New(handler(p.err))
}

// configIfThere is the configuration, or an empty one if there is no file.
func (p *program) configIfThere() (c *agent.Config, there bool, err error) {
	c, err = agent.ReadConfig(p.config)
	if errors.Is(err, fs.ErrNotExist) {
		return &agent.Config{}, false, nil
	}
	return c, true, err
}

// toldBy is what a command of the running agent has of agent.yaml. A file that is wrong must not keep an admin from looking at the
// agent, which goes on by the one before, or from shutting the door: of such a file only 'state' is read, and wrong says what it has.
// What is then looked at has to be there.
func (p *program) toldBy() (c *agent.Config, there bool, wrong, err error) {
	c, there, err = p.configIfThere()
	if _, ok := errors.AsType[configs.Errors](err); !ok {
		return c, there, nil, err
	}
	c = &agent.Config{State: agent.StateNamedIn(p.config)}
	if _, missing := os.Stat(p.stateOf(c)); missing != nil {
		return nil, true, nil, err
	}
	return c, true, err, nil
}

// warnWrong says that agent.yaml is wrong, to somebody who asked for something else.
func (p *program) warnWrong(wrong error) {
	if wrong != nil {
		fmt.Fprintf(p.err, "warning: %s is wrong, 'sallyport-agent config check' says how; a running agent goes on by the one before\n", p.config)
	}
}

// stateDir is the state directory: of the flag, else the environment, else the configuration, else the default.
func (p *program) stateDir(c *agent.Config) (state.Dir, error) {
	return state.Open(p.stateOf(c))
}

// stateOf is its path. One in agent.yaml starts where that is, as all of its paths do.
func (p *program) stateOf(c *agent.Config) string {
	named := c.State
	if named != "" && !filepath.IsAbs(named) {
		named = filepath.Join(filepath.Dir(p.config), named)
	}
	return cmp.Or(p.state, p.getenv("SALLYPORT_STATE"), named, agent.DefaultState())
}

func (p *program) secrets(dir state.Dir) (*secret.Store, error) {
	return secret.Open(dir, cmp.Or(p.getenv("CREDENTIALS_DIRECTORY"), serviceCredentials()))
}
