package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// carried are the settings of a service that decide what its program sees: who it is, its environment, its bounds.
var carried = [...]string{"User", "Group", "SupplementaryGroups", "Environment", "LimitNOFILE", "ProtectHome", "PrivateTmp", "NoNewPrivileges"}

// RunAs runs this program once as the service would run it (its account, environment, credentials and bounds), to see what the service
// sees. It gives the exit code. It needs root.
func RunAs(ctx context.Context, s Spec, args []string, out, complaints io.Writer) (int, error) {
	if err := ready(false); err != nil {
		return 0, err
	}
	program, err := ownProgram()
	if err != nil {
		return 0, err
	}
	text, err := systemctl(ctx, "show", s.Name+".service", "--property=LoadState,EnvironmentFiles,"+strings.Join(carried[:], ","))
	if err != nil {
		return 0, fmt.Errorf("ask systemd about %s: %w", s.Name, err)
	}
	settings, there := settingsOf(text)
	if !there {
		return 0, errNotInstalled(s)
	}
	secrets, err := credentials(ctx, s)
	if err != nil {
		return 0, err
	}
	c := exec.CommandContext(ctx, "systemd-run", slices.Concat(settings, secrets, []string{program}, args)...)
	c.Stdout, c.Stderr = out, complaints
	err = c.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() >= 0 {
		return e.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("systemd-run: %w", err)
	}
	return 0, nil
}

// settingsOf turns what 'systemctl show' says into arguments of systemd-run; there is false for a unit that is not.
func settingsOf(shown string) (args []string, there bool) {
	args = []string{"--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"}
	for line := range strings.Lines(shown) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch {
		case key == "LoadState":
			there = value == "loaded"
		case value == "":
		case key == "EnvironmentFiles": // PATH (ignore_errors=yes)
			path, ignore, _ := strings.Cut(value, " (ignore_errors=")
			if ignore == "yes)" {
				path = "-" + path
			}
			args = append(args, "--property=EnvironmentFile="+path)
		default:
			args = append(args, "--property="+key+"="+value)
		}
	}
	return args, there
}

// journalLines bounds how much of a log is read.
const journalLines = "20000"

// Journal gives the service's log of the last since.
func Journal(ctx context.Context, s Spec, since time.Duration) ([]byte, error) {
	if err := systemdRuns(); err != nil {
		return nil, err
	}
	out, err := command(ctx, "journalctl", "--no-pager", "--quiet", "-o", "short-iso", "-n", journalLines, "-u", s.Name,
		"--since", time.Now().Add(-since).Format(time.DateTime))
	return []byte(out), err
}
