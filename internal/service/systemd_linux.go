package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	kardianos "github.com/kardianos/service"
)

const exampleAccount = "svc-sallyport"

const installHelp = `Makes this program a service of systemd: its own system account, its folders with their owners, a hardened unit, the start
with the machine. What is there and right stays as it is, so the command may be repeated; it mends what is not. If the
unit of the deb or rpm package is there, that one is used. It starts at once if it is configured already.

Needs root. The program must lie where only root can write: /usr/bin or /usr/local/bin.`

// commandLimit bounds what systemd does at once: enable, daemon-reload.
const commandLimit = time.Minute

// settle is how long a started service has to stay up to count as started.
const settle = 2 * time.Second

// startLimit bounds the wait for a start; systemd has a bound of its own, 90 s.
const startLimit = 100 * time.Second

// packageUnits is where packages put their units.
var packageUnits = [...]string{"/usr/lib/systemd/system", "/lib/systemd/system"}

// Install makes or mends the service.
func Install(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	if err := ready(dry); err != nil {
		return err
	}
	own := s.Account == ""
	if own {
		s.Account = s.Name
		if there, err := show(ctx, s); err == nil && there["User"] != "" {
			s.Account = there["User"] // the one that an earlier install was told
		}
	}
	if err := checkAccount(s.Account); err != nil {
		return err
	}
	program, err := ownProgram()
	if err != nil {
		return err
	}
	if err := checkProgram(program); err != nil {
		return err
	}
	steps, err := plan(ctx, s, program)
	if err != nil {
		return err
	}
	if err := carry(ctx, w, dry, steps); err != nil {
		return err
	}
	if _, err := os.Stat(s.Config); err != nil {
		fmt.Fprintf(w, "It starts once it is configured: %s\n", s.First)
	}
	return nil
}

// plan says what has to be done so that the service is there and runs.
func plan(ctx context.Context, s Spec, program string) ([]step, error) {
	steps, err := planAccount(ctx, s)
	if err != nil {
		return nil, err
	}
	unit, enables, err := planUnit(s, program)
	if err != nil {
		return nil, err
	}
	steps = append(steps, unit...)
	now, err := show(ctx, s)
	if err != nil {
		return nil, err
	}
	if now["UnitFileState"] != "enabled" && !enables {
		steps = append(steps, step{"have it start with the machine", func(ctx context.Context) error {
			_, err := systemctl(ctx, "enable", s.Name+".service")
			return err
		}})
	}
	if _, err := os.Stat(s.Config); err != nil {
		return steps, nil // nothing to run yet
	}
	switch active := now["ActiveState"]; {
	case active != "active":
		steps = append(steps, step{"start it", func(ctx context.Context) error { return begin(ctx, s, "start") }})
	case len(unit) > 0:
		steps = append(steps, step{"restart it", func(ctx context.Context) error { return begin(ctx, s, "restart") }})
	}
	return steps, nil
}

// planUnit has the right unit there: the package's, or ours, which is enabled in the same step.
func planUnit(s Spec, program string) (steps []step, enables bool, err error) {
	ours := unitPath(s)
	drop := filepath.Join("/etc/systemd/system", s.Name+".service.d", "account.conf")
	if packaged(s) && program == s.Packaged && s.Config == s.DefaultConfig && s.State == s.DefaultState {
		if isOurs(s, ours) {
			steps = append(steps, step{"remove " + ours + ", which hides the package's unit", func(context.Context) error { return os.Remove(ours) }})
		}
		more, err := planDropIn(s, drop)
		if err != nil {
			return nil, false, err
		}
		if steps = append(steps, more...); len(steps) > 0 {
			steps = append(steps, reload())
		}
		return steps, false, nil
	}
	text, err := render(s, program)
	if err != nil {
		return nil, false, err
	}
	if isOurs(s, drop) {
		steps = append(steps, step{"remove " + drop, func(context.Context) error { return os.Remove(drop) }})
	}
	if now, err := os.ReadFile(ours); err != nil || string(now) != text {
		steps = append(steps, step{"write " + ours + " and have it start with the machine", func(ctx context.Context) error {
			return writeUnit(ctx, s, text)
		}})
		enables = true
	} else if len(steps) > 0 {
		steps = append(steps, reload())
	}
	return steps, enables, nil
}

func planDropIn(s Spec, drop string) ([]step, error) {
	if s.Account == s.Name {
		if !isOurs(s, drop) {
			return nil, nil
		}
		return []step{{"remove " + drop, func(context.Context) error { return os.Remove(drop) }}}, nil
	}
	text := dropIn(s)
	if now, err := os.ReadFile(drop); err == nil && string(now) == text {
		return nil, nil
	}
	return []step{{"write " + drop, func(context.Context) error {
		if err := os.MkdirAll(filepath.Dir(drop), 0o755); err != nil {
			return err
		}
		return os.WriteFile(drop, []byte(text), 0o644)
	}}}, nil
}

func reload() step {
	return step{"have systemd read its units again", func(ctx context.Context) error {
		_, err := systemctl(ctx, "daemon-reload")
		return err
	}}
}

// writeUnit writes our unit in place of whatever is there; kardianos/service refuses to replace one.
func writeUnit(ctx context.Context, s Spec, text string) error {
	if err := os.Remove(unitPath(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	k, err := adapter(s, text)
	if err != nil {
		return err
	}
	return bounded(ctx, commandLimit, k.Install)
}

func unitPath(s Spec) string { return "/etc/systemd/system/" + s.Name + ".service" }

func packaged(s Spec) bool {
	for _, dir := range packageUnits {
		if _, err := os.Stat(filepath.Join(dir, s.Name+".service")); err == nil {
			return true
		}
	}
	return false
}

func isOurs(s Spec, path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && bytes.HasPrefix(text, fmt.Appendf(nil, mark, s.Name))
}

// Uninstall stops the service and takes away what Install made, except for account, configuration and state.
func Uninstall(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	if err := ready(dry); err != nil {
		return err
	}
	now, err := show(ctx, s)
	if err != nil {
		return err
	}
	var steps []step
	if a := now["ActiveState"]; a == "active" || a == "activating" || a == "reloading" {
		steps = append(steps, step{"drain and stop it", func(ctx context.Context) error { return Stop(ctx, io.Discard, s, false) }})
	}
	drop := filepath.Join("/etc/systemd/system", s.Name+".service.d", "account.conf")
	if isOurs(s, drop) {
		steps = append(steps, step{"remove " + drop, func(context.Context) error { return os.Remove(drop) }})
	}
	switch _, err := os.Lstat(unitPath(s)); {
	case err == nil:
		steps = append(steps, step{"remove " + unitPath(s), func(ctx context.Context) error {
			k, err := adapter(s, "")
			if err != nil {
				return err
			}
			return bounded(ctx, commandLimit, k.Uninstall)
		}})
	case now["UnitFileState"] == "enabled":
		steps = append(steps, step{"have it start no more with the machine", func(ctx context.Context) error {
			_, err := systemctl(ctx, "disable", s.Name+".service")
			return err
		}})
	}
	if err := carry(ctx, w, dry, steps); err != nil {
		return err
	}
	if packaged(s) {
		fmt.Fprintf(w, "The unit belongs to the package %s; remove that to remove it.\n", s.Name)
	}
	fmt.Fprintf(w, "The configuration %s, the folder %s and the account stay.\n", s.Config, s.State)
	return nil
}

// Start starts the service, and says so if it does not stay up.
func Start(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	return control(ctx, w, s, dry, step{"start it", func(ctx context.Context) error { return begin(ctx, s, "start") }})
}

// Restart drains the service, stops it and starts it again.
func Restart(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	return control(ctx, w, s, dry, step{"restart it", func(ctx context.Context) error { return begin(ctx, s, "restart") }})
}

// Stop drains the service and stops it.
func Stop(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	return control(ctx, w, s, dry, step{"stop it", func(ctx context.Context) error {
		k, err := adapter(s, "")
		if err != nil {
			return err
		}
		return bounded(ctx, s.Stop, k.Stop)
	}})
}

func control(ctx context.Context, w io.Writer, s Spec, dry bool, do step) error {
	if err := ready(dry); err != nil {
		return err
	}
	now, err := show(ctx, s)
	if err != nil {
		return err
	}
	if now["LoadState"] == "not-found" {
		return errNotInstalled(s)
	}
	return carry(ctx, w, dry, []step{do})
}

// begin starts or restarts, and watches for a moment whether it stays up.
func begin(ctx context.Context, s Spec, how string) error {
	k, err := adapter(s, "")
	if err != nil {
		return err
	}
	act := k.Start
	if how == "restart" {
		act = k.Restart
	}
	if err := bounded(ctx, startLimit+s.Stop, act); err != nil {
		return fmt.Errorf("%w; 'journalctl -u %s' says why", err, s.Name)
	}
	first, err := show(ctx, s)
	if err != nil {
		return err
	}
	if first["ConditionResult"] == "no" {
		return fmt.Errorf("it is not configured, there is no %s: %s", s.Config, s.First)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	last, err := show(ctx, s)
	if err != nil {
		return err
	}
	if last["ActiveState"] != "active" || last["MainPID"] != first["MainPID"] {
		return fmt.Errorf("it does not stay up; 'journalctl -u %s' says why", s.Name)
	}
	return nil
}

// Ask says how the service is.
func Ask(ctx context.Context, s Spec) (Status, error) {
	if err := systemdRuns(); err != nil {
		return Status{}, err
	}
	p, err := show(ctx, s)
	if err != nil {
		return Status{}, err
	}
	st := Status{Name: s.Name, Installed: p["LoadState"] != "not-found", State: NotInstalled}
	if !st.Installed {
		return st, nil
	}
	st.Automatic, st.Account, st.Unit = strings.HasPrefix(p["UnitFileState"], "enabled"), p["User"], p["FragmentPath"]
	st.PID, _ = strconv.Atoi(p["MainPID"]) // systemd's own numbers; 0 if there is none
	st.Restarts, _ = strconv.Atoi(p["NRestarts"])
	st.Command = argv(p["ExecStart"])
	states := map[string]string{
		"active": Running, "reloading": Running, "inactive": Stopped, "failed": Failed, "activating": Starting, "deactivating": Stopping,
	}
	st.State = states[p["ActiveState"]]
	switch {
	case p["LoadState"] == "masked":
		st.State, st.Detail = Stopped, "the unit is masked: systemctl unmask "+s.Name
	case st.State == Stopped && p["ConditionResult"] == "no":
		st.Detail = "it waits for its configuration " + s.Config
	case p["SubState"] == "auto-restart":
		st.State, st.Detail = Failed, "it ended ("+p["Result"]+") and is started again; 'journalctl -u "+s.Name+"' says why"
	case st.State == Failed:
		st.Detail = p["Result"] + "; 'journalctl -u " + s.Name + "' says why"
	}
	return st, nil
}

// argv takes the command out of systemd's { path=... ; argv[]=... ; ... }.
func argv(text string) string {
	_, rest, _ := strings.Cut(text, "argv[]=")
	line, _, _ := strings.Cut(rest, " ; ")
	return line
}

// show asks systemd for the unit's properties.
func show(ctx context.Context, s Spec) (map[string]string, error) {
	out, err := systemctl(ctx, "show", s.Name+".service", "--property=LoadState,ActiveState,SubState,UnitFileState,FragmentPath,"+
		"MainPID,User,NRestarts,Result,ConditionResult,ExecStart")
	if err != nil {
		return nil, fmt.Errorf("ask systemd about %s: %w", s.Name, err)
	}
	p := map[string]string{}
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			p[key] = value
		}
	}
	return p, nil
}

func systemctl(ctx context.Context, args ...string) (string, error) {
	return command(ctx, "systemctl", args...)
}

// command runs a program of the system's and gives its output, or what it complained of.
func command(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	var out, complaint bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" {
			return out.String(), fmt.Errorf("%s: %w: %s", name, err, text)
		}
		return out.String(), fmt.Errorf("%s: %w", name, err)
	}
	return out.String(), nil
}

// adapter is kardianos/service for this unit; with a text it can install it.
func adapter(s Spec, text string) (kardianos.Service, error) {
	return kardianos.New(nil, &kardianos.Config{
		Name: s.Name, DisplayName: s.Display, Description: s.Description, Option: kardianos.KeyValue{"SystemdScript": text},
	})
}

// ready says why nothing can be done here.
func ready(dry bool) error {
	if err := systemdRuns(); err != nil {
		return err
	}
	if os.Geteuid() != 0 && !dry {
		return fmt.Errorf("%w: run it as root, for instance with sudo", errRights)
	}
	return nil
}

func systemdRuns() error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return errors.New("systemd does not run here: start the program by this machine's own means, or in a container as its main process")
	}
	return nil
}

// bounded runs what cannot be interrupted; after limit it is given up, and ends with the process.
func bounded(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("given up after %s: %w", limit, ctx.Err())
	}
}

// dropIn has the package's unit run as another account.
func dropIn(s Spec) string {
	return fmt.Sprintf(mark, s.Name) + "[Service]\nUser=" + s.Account + "\nGroup=\n"
}

// errNotInstalled is what start, stop and restart say.
func errNotInstalled(s Spec) error {
	return fmt.Errorf("the service is not installed; '%s service install' does that", s.Name)
}

// errRights says that the command needs more rights.
var errRights = errors.New("this needs the rights of an administrator")
