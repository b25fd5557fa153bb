package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	kardianos "github.com/kardianos/service"
)

// commandLimit bounds what systemd does at once: enable, daemon-reload.
const commandLimit = time.Minute

// settle is how long a started service has to stay up to count as started.
const settle = 2 * time.Second

// startLimit bounds the wait for a start; systemd has a bound of its own: 90 s, or what the unit says.
const startLimit = 310 * time.Second

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
		return bounded(ctx, s.Stop+stopSpare, k.Stop)
	}})
}

// stopSpare is for systemd itself, which ends what does not stop in time.
const stopSpare = 15 * time.Second

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
	if err := bounded(ctx, startLimit+s.Stop+stopSpare, act); err != nil {
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
	case st.State == Stopped && p["ConditionResult"] == "no" && !isThere(s.Config): // "no" too of a unit that was not tried yet
		st.Detail = "it waits for its configuration " + s.Config
	case p["SubState"] == "auto-restart":
		st.State, st.Detail = Failed, "it ended ("+p["Result"]+") and is started again; 'journalctl -u "+s.Name+"' says why"
	case st.State == Failed:
		st.Detail = p["Result"] + "; 'journalctl -u " + s.Name + "' says why"
	}
	return st, nil
}

func isThere(file string) bool {
	_, err := os.Stat(file)
	return err == nil
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
