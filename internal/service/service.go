// Package service makes a program of ours a service of systemd or of Windows and rules it, through kardianos/service where that
// can do it; on other systems its functions say that they cannot. It is for the commands 'sallyport-agent service ...' and
// 'sallyport-relay service ...'; what a service does while it runs is not its business.
//
// Install looks at every part on its own (account, folders, unit or registration, start at boot) and does what is missing or
// different, so that it may be repeated and mends what an earlier one left half done. With DryRun it only says so.
//
//	root.AddCommand(service.Commands(spec, service.Frame{Out: os.Stdout, ...}))
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Spec is what there is to know of one service.
type Spec struct {
	Name        string // of the unit, of the command, and of the account on Linux
	Display     string
	Description string
	// Unit is the text of the unit that the packages bring; it runs Packaged.
	Unit     string
	Packaged string
	// Arguments are those of the command that serves, without the files below; WindowsArguments those of the one that calls
	// Serve. A program without them is no service on Windows.
	Arguments, WindowsArguments []string
	// Config and State are absolute paths; the defaults are those in Unit, and are not named in the command.
	Config, DefaultConfig string
	State, DefaultState   string
	// NameConfig has the command name Config even where it is the default.
	NameConfig bool
	// First says what an admin does before the first start.
	First string
	// Account is the one to run as; empty: the service's own.
	Account string
	// Groups are those that the account joins where the machine has them, on Linux.
	Groups []string
	// Secure gives the state folder to the account alone; Secured says whether it has. On Windows; on Linux they are not called.
	Secured func(account string) bool
	Secure  func(account string) error
	// Prepare is called before a start, on Windows: the program may have to be put into its place. Nil: nothing.
	Prepare func() error
	// Password asks for the account's, where one is needed (Windows).
	Password func(ctx context.Context, prompt string) (string, error)
	// Stop is how long the program may take to stop, its drain included. The unit lets it have that.
	Stop time.Duration
}

// A Status is what the machine says of a service.
type Status struct {
	Name      string `json:"name"`
	Installed bool   `json:"installed"`
	// Automatic: it starts with the machine.
	Automatic bool `json:"automatic"`
	// State is running, starting, stopping, stopped, failed or not-installed.
	State   string `json:"state"`
	PID     int    `json:"pid,omitempty"`
	Account string `json:"account,omitempty"`
	Command string `json:"command,omitempty"`
	// Unit is the unit's file (Linux).
	Unit string `json:"unit,omitempty"`
	// Restarts counts those after a failure (Linux).
	Restarts int `json:"restarts,omitempty"`
	// Detail explains a state, as far as the machine knows.
	Detail string `json:"detail,omitempty"`
}

// The states of a service.
const (
	Running      = "running"
	Starting     = "starting"
	Stopping     = "stopping"
	Stopped      = "stopped"
	Failed       = "failed"
	NotInstalled = "not-installed"
)

// The exit codes of 'service status', which are those of 'systemctl status'.
const (
	ExitNotRunning   = 3
	ExitNotInstalled = 4
)

// An ExitError has an exit code of its own and says nothing more.
type ExitError int

func (e ExitError) Error() string { return "" }

// ExitCode is the process's.
func (e ExitError) ExitCode() int { return int(e) }

// A step is one change to the machine.
type step struct {
	what string // "write /etc/..."
	do   func(ctx context.Context) error
}

// carry does the steps in order, or with dry only says what they would be.
func carry(ctx context.Context, w io.Writer, dry bool, steps []step) error {
	for _, s := range steps {
		if dry {
			fmt.Fprintln(w, "would", s.what)
			continue
		}
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		fmt.Fprintln(w, "done:", s.what)
	}
	if len(steps) == 0 {
		fmt.Fprintln(w, "Nothing to do.")
	}
	return nil
}

// OwnProgram is the path of this program, its links followed; CheckProgram refuses one that somebody else than an admin could
// replace.
func OwnProgram() (string, error) { return ownProgram() }

// CheckProgram says why a service must not run the program at this path.
func CheckProgram(path string) error { return checkProgram(path) }

// errNotInstalled is what start, stop and restart say.
func errNotInstalled(s Spec) error {
	return fmt.Errorf("the service is not installed; '%s service install' does that", s.Name)
}

// errRights says that the command needs more rights.
var errRights = errors.New("this needs the rights of an administrator")
