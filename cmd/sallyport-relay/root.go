package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sallyport/relay"
	"sallyport/relay/admin"
)

// socketVariable names the relay's admin socket where no flag does.
const socketVariable = "SALLYPORT_RELAY_SOCKET"

// linked is set by the linker (-X main.linked=...); a build without it names the revision.
var linked string

func programVersion() string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "devel-" + s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	return "devel"
}

// A usageError is a command line that cannot be understood; the exit code is 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, v ...any) error { return &usageError{fmt.Errorf(format, v...)} }

// An environment is what a command has of the world.
type environment struct {
	in       io.Reader
	out, err io.Writer
	get      func(string) string
}

// rightsHint says what helps where the account of this process may not use a file, unless err does; empty where that is not what is
// wrong.
func rightsHint(err error, uid int) string {
	_, path := errors.AsType[*fs.PathError](err)
	if uid == 0 || !path || !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	if text := err.Error(); strings.Contains(text, "as root") || strings.Contains(text, "the relay's account") {
		return "" // it says itself what helps
	}
	return "run it as root (sudo) or as the relay's account, or with files of your own: --config, and 'data' in it"
}

// withHint adds to err what helps.
func withHint(err error) error {
	if hint := rightsHint(err, os.Geteuid()); hint != "" {
		return fmt.Errorf("%w; %s", err, hint)
	}
	return err
}

// A program is what all commands share: the environment and the persistent flags.
type program struct {
	environment
	config string
	socket string
	relay  string
	json   bool
}

func newRoot(env environment) *cobra.Command {
	p := &program{environment: env}
	root := &cobra.Command{
		Use:   "sallyport-relay",
		Short: "The relay of Sallyport: publishes internal REST APIs that agents reach from inside",
		Long: `The relay of Sallyport takes calls for published connectors and hands them to agents inside, over links that the
agents have opened. 'serve' runs it; the other commands talk to a running relay over its local socket or, with --relay URL,
over HTTPS ('login' signs on).

The socket is found by --socket, then ` + socketVariable + `, then the file given by --config, then at the default place.
Exit codes: 0 done, 1 failed, 2 wrong usage; 'service status' has its own.`,
		Example: `  sallyport-relay config example > relay.yaml
  sallyport-relay serve --config relay.yaml
  sallyport-relay gateway add plant1
  sallyport-relay connector publish plant1/orders --auth key
  sallyport-relay key add plant1/orders --name flow-prod`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q; see 'sallyport-relay --help'", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(env.in)
	root.SetOut(env.out)
	root.SetErr(env.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see '%s --help'", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&p.config, "config", "", "the relay's configuration `file`")
	flags.StringVar(&p.socket, "socket", "", "the relay's admin socket (`path`)")
	flags.StringVar(&p.relay, "relay", "", "administer the relay with this admin `URL` (admin.host) instead of a local one")
	flags.BoolVar(&p.json, "json", false, "print JSON, for scripts")
	root.AddCommand(p.serveCommand(), p.configCommand(), p.gatewayCommand(), p.agentCommand(), p.connectorCommand(),
		p.keyCommand(), p.userCommand(), p.applyCommand(), p.exportCommand(), p.logCommand(), p.logLevelCommand(), p.backupCommand(), p.restoreCommand(),
		p.statusCommand(), p.loginCommand(), p.logoutCommand(), p.whoamiCommand(), p.serviceCommand(), p.versionCommand())
	withManual(root)
	return root
}

// group makes a command that only holds others. Without a subcommand it is wrong usage.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs a command; see '%s --help'", use, cmd.CommandPath())
			}
			return usagef("%s has no command %q; see '%s --help'", use, args[0], cmd.CommandPath())
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// exactly demands these arguments; the names are for the error.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing; usage: %s", strings.Join(names[len(args):], " and "), cmd.UseLine())
		}
		if len(args) > len(names) {
			return usagef("%q is one argument too many; usage: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the program's version", Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			return p.print(map[string]string{"version": programVersion()}, func(w io.Writer) {
				fmt.Fprintln(w, "sallyport-relay", programVersion())
			})
		},
	}
}

// client finds the relay: the one that --relay names, or the local one by its socket.
func (p *program) client() (*admin.Client, error) {
	if p.relay != "" {
		if p.socket != "" {
			return nil, usagef("--relay and --socket name two relays; give one of them")
		}
		return p.remoteClient()
	}
	path := p.socket
	if path == "" {
		path = p.get(socketVariable)
	}
	if path == "" {
		config, err := p.load()
		if err != nil {
			return nil, err
		}
		path = config.SocketPath()
	}
	return admin.NewClient(path), nil
}

// load reads the configuration file; without --config it is the default configuration.
func (p *program) load() (relay.Config, error) {
	if p.config == "" {
		return relay.Config{}, nil
	}
	return loadFile(p.config)
}

func loadFile(path string) (relay.Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return relay.Config{}, fmt.Errorf("there is no file %s; 'sallyport-relay config example' prints one to begin with", path)
	}
	if err != nil {
		return relay.Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return relay.Load(path, text)
}

// print writes value as JSON, or what people writes.
func (p *program) print(value any, people func(io.Writer)) error {
	if !p.json {
		people(p.out)
		return nil
	}
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// table aligns rows; their cells are parted by tabs.
func table(w io.Writer, header string, rows []string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, header)
	for _, r := range rows {
		fmt.Fprintln(t, r)
	}
	_ = t.Flush() // to standard output
}
