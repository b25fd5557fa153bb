package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const exampleAccount = "svc-sallyport"

const installHelp = `Makes this program a service of systemd: its own system account, its folders with their owners, a hardened unit, the start
with the machine. What is there and right stays as it is, so the command may be repeated; it mends what is not. If the
unit of the deb or rpm package is there, that one is used. It starts at once if it is configured already.

Needs root. The program must lie where only root can write: /usr/bin or /usr/local/bin.`

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
	if _, absent := planArc(ctx, s); absent {
		fmt.Fprintln(w, arcAbsent)
	}
	return nil
}

// plan says what has to be done so that the service is there and runs. The folder changes hands while nothing uses it.
func plan(ctx context.Context, s Spec, program string) ([]step, error) {
	steps, folder, err := planAccount(ctx, s)
	if err != nil {
		return nil, err
	}
	unit, enables, err := planUnit(s, program)
	if err != nil {
		return nil, err
	}
	arc, _ := planArc(ctx, s)
	unit = append(unit, arc...) // a group, too, counts from a start on
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
	active := alive(now)
	if active && len(folder) > 0 {
		steps = append(steps, stopFirst(s))
	}
	steps = append(steps, folder...)
	if _, err := os.Stat(s.Config); err != nil {
		return steps, nil // nothing to run yet
	}
	switch {
	case now["ActiveState"] != "active" || len(folder) > 0:
		steps = append(steps, step{"start it", func(ctx context.Context) error { return begin(ctx, s, "start") }})
	case len(unit) > 0:
		steps = append(steps, step{"restart it", func(ctx context.Context) error { return begin(ctx, s, "restart") }})
	}
	return steps, nil
}

func alive(now map[string]string) bool {
	a := now["ActiveState"]
	return a == "active" || a == "activating" || a == "reloading"
}

func stopFirst(s Spec) step {
	return step{"drain and stop it", func(ctx context.Context) error { return Stop(ctx, io.Discard, s, false) }}
}

// planUnit has the right unit there: the package's, or ours, which is enabled in the same step. It touches no file that
// somebody else wrote.
func planUnit(s Spec, program string) (steps []step, enables bool, err error) {
	ours, drop := unitPath(s), dropInPath(s)
	if err := errors.Join(foreign(s, ours), foreign(s, drop)); err != nil {
		return nil, false, err
	}
	if packaged(s) && program == s.Packaged && s.Config == s.DefaultConfig && s.State == s.DefaultState {
		if isOurs(s, ours) {
			steps = append(steps, step{"remove " + ours + ", which hides the package's unit", func(context.Context) error { return os.Remove(ours) }})
		}
		if steps = append(steps, planDropIn(s, drop)...); len(steps) > 0 {
			steps = append(steps, reload())
		}
		return steps, false, nil
	}
	text, err := render(s, program)
	if err != nil {
		return nil, false, err
	}
	if isOurs(s, drop) {
		steps = append(steps, removeDropIn(drop))
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

func planDropIn(s Spec, drop string) []step {
	text := dropIn(s)
	if text == "" {
		if !isOurs(s, drop) {
			return nil
		}
		return []step{removeDropIn(drop)}
	}
	if now, err := os.ReadFile(drop); err == nil && string(now) == text {
		return nil
	}
	return []step{{"write " + drop, func(context.Context) error {
		if err := os.MkdirAll(filepath.Dir(drop), 0o755); err != nil {
			return err
		}
		return os.WriteFile(drop, []byte(text), 0o644)
	}}}
}

// removeDropIn takes our drop-in away, and its folder unless others have theirs in it.
func removeDropIn(drop string) step {
	return step{"remove " + drop, func(context.Context) error {
		if err := os.Remove(drop); err != nil {
			return err
		}
		_ = os.Remove(filepath.Dir(drop)) // not empty: it stays
		return nil
	}}
}

func reload() step {
	return step{"have systemd read its units again", func(ctx context.Context) error {
		_, err := systemctl(ctx, "daemon-reload")
		return err
	}}
}

// writeUnit writes our unit, in place of an older one of ours; kardianos/service refuses to replace one.
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

func dropInPath(s Spec) string { return unitPath(s) + ".d/install.conf" }

// isOurs says that an earlier Install wrote the file.
func isOurs(s Spec, path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	text, err := os.ReadFile(path)
	first := fmt.Appendf(nil, mark, s.Name)
	// A prefix of it is what is left of an Install that was cut off.
	return err == nil && (bytes.HasPrefix(text, first) || bytes.HasPrefix(first, text))
}

// foreign says that somebody else's file stands where ours would.
func foreign(s Spec, path string) error {
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && isOurs(s, path):
		return nil
	case err != nil:
		return err
	}
	if to, err := os.Readlink(path); err == nil && to == "/dev/null" {
		return fmt.Errorf("the unit is masked (%s): if that is no longer meant, systemctl unmask %s", path, s.Name)
	}
	return fmt.Errorf("%s was not written by this command, so it stays as it is: rule that service with systemctl, or move the file away first", path)
}

// Uninstall stops the service and takes away what Install made, except for account, configuration and state.
func Uninstall(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	if err := ready(dry); err != nil {
		return err
	}
	if err := errors.Join(foreign(s, unitPath(s)), foreign(s, dropInPath(s))); err != nil {
		return err
	}
	now, err := show(ctx, s)
	if err != nil {
		return err
	}
	var steps []step
	if alive(now) {
		steps = append(steps, stopFirst(s))
	}
	drop := dropInPath(s)
	if isOurs(s, drop) {
		steps = append(steps, removeDropIn(drop))
	}
	switch _, err := os.Lstat(unitPath(s)); {
	case err == nil: // ours
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
