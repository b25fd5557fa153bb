package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

const (
	// poll is how often the manager is asked while something changes.
	poll = 100 * time.Millisecond
	// settle is how long a started service has to stay up to count as started.
	settle = 2 * time.Second
	// startLimit bounds the wait for a start; Windows has a bound of its own, 30 s between two words of the program.
	startLimit = 100 * time.Second
)

// Start starts the service, and says so if it does not stay up.
func Start(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	return control(ctx, w, s, dry, step{"start it", func(ctx context.Context) error { return begin(ctx, s) }})
}

// Stop drains the service and stops it.
func Stop(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	return control(ctx, w, s, dry, step{"stop it", func(ctx context.Context) error { return end(ctx, s) }})
}

// Restart drains the service, stops it and starts it again.
func Restart(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	return control(ctx, w, s, dry, step{"restart it", func(ctx context.Context) error {
		if err := end(ctx, s); err != nil {
			return err
		}
		return begin(ctx, s)
	}})
}

func control(ctx context.Context, w io.Writer, s Spec, dry bool, do step) error {
	if err := ready(s, dry); err != nil {
		return err
	}
	if err := at(s, 0, func(*registered) error { return nil }); err != nil {
		return err
	}
	return carry(ctx, w, dry, []step{do})
}

// at does something with the service, which has to be there.
func at(s Spec, rights uint32, do func(*registered) error) error {
	m, err := manager(false)
	if err != nil {
		return err
	}
	defer m.Disconnect()
	r, err := find(m, s.Name, rights)
	if err != nil {
		return err
	}
	if r == nil {
		return errNotInstalled(s)
	}
	defer r.Close()
	return do(r)
}

// begin starts it if it does not run, and watches for a moment whether it stays up.
func begin(ctx context.Context, s Spec) error {
	if _, err := os.Stat(s.Config); err != nil {
		return fmt.Errorf("it is not configured, there is no %s: %s", s.Config, s.First)
	}
	if s.Prepare != nil {
		if err := s.Prepare(); err != nil {
			return err
		}
	}
	return at(s, windows.SERVICE_START, func(r *registered) error {
		if r.runs() {
			return nil
		}
		if err := r.Start(); errors.Is(err, windows.ERROR_SERVICE_LOGON_FAILED) {
			return explain(logonFailure(ctx, s))
		} else if err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
			return explain(err)
		}
		first, err := r.await(ctx, startLimit, func(state svc.State) bool { return state == svc.Running || state == svc.Stopped })
		if err != nil {
			return err
		}
		if first.State == svc.Running {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(settle):
			}
		}
		last, err := r.Query()
		if err != nil {
			return err
		}
		if last.State != svc.Running || last.ProcessId != first.ProcessId {
			return fmt.Errorf("it does not stay up: %s", ended(ctx, s, last))
		}
		return nil
	})
}

// end stops it if it runs, and waits until it has. kardianos/service would wait for ever.
func end(ctx context.Context, s Spec) error {
	return at(s, windows.SERVICE_STOP, func(r *registered) error {
		_, err := r.Control(svc.Stop)
		switch {
		case errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE):
			return nil
		case err != nil && !errors.Is(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL): // that one begins or ends just now
			return explain(err)
		}
		_, err = r.await(ctx, s.Stop, func(state svc.State) bool { return state == svc.Stopped })
		return err
	})
}

// await asks until the state is as wanted.
func (r *registered) await(ctx context.Context, limit time.Duration, wanted func(svc.State) bool) (svc.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		status, err := r.Query()
		if err != nil {
			return status, explain(err)
		}
		if wanted(status.State) {
			return status, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return status, fmt.Errorf("given up after %s, it is %s still: %w", limit, states(status.State), ctx.Err())
		}
	}
}

func running(state svc.State) bool { return state != svc.Stopped && state != svc.StopPending }

func states(state svc.State) string {
	switch state {
	case svc.StartPending, svc.ContinuePending:
		return Starting
	case svc.StopPending:
		return Stopping
	case svc.Running, svc.Paused, svc.PausePending:
		return Running
	}
	return Stopped
}

// ended says how a service ended that should run.
func ended(ctx context.Context, s Spec, status svc.Status) string {
	look := "; 'Get-WinEvent -MaxEvents 5 -ProviderName " + s.Name + "' says why"
	switch code := windows.Errno(status.Win32ExitCode); {
	case code == windows.ERROR_SERVICE_LOGON_FAILED:
		return explain(logonFailure(ctx, s)).Error()
	case code == windows.ERROR_SERVICE_SPECIFIC_ERROR:
		return fmt.Sprintf("it ended with %d%s", status.ServiceSpecificExitCode, look)
	case code != 0:
		return explain(code).Error() + look
	}
	return "it ended" + look
}

// Ask says how the service is.
func Ask(ctx context.Context, s Spec) (Status, error) {
	if s.WindowsArguments == nil {
		return Status{}, ready(s, true)
	}
	m, err := manager(false)
	if err != nil {
		return Status{}, err
	}
	defer m.Disconnect()
	r, err := find(m, s.Name, 0)
	if err != nil {
		return Status{}, err
	}
	st := Status{Name: s.Name, Installed: r != nil, State: NotInstalled}
	if r == nil {
		return st, nil
	}
	defer r.Close()
	now, err := r.Query()
	if err != nil {
		return Status{}, fmt.Errorf("ask about the service %s: %w", s.Name, explain(err))
	}
	st.Automatic, st.Account, st.Command = r.start == windows.SERVICE_AUTO_START, r.account, r.command
	st.State, st.PID = states(now.State), int(now.ProcessId)
	if now.State == svc.StartPending && st.PID == os.Getpid() { // this process, which serves nobody: it is on an errand
		st.State, st.Detail = Stopped, "it does not run; it was started for this alone"
	}
	if now.State != svc.Stopped {
		return st, nil
	}
	st.PID = 0
	_, err = os.Stat(s.Config)
	switch code := windows.Errno(now.Win32ExitCode); {
	case err != nil:
		st.Detail = "it waits for its configuration " + s.Config
	case code != 0 && code != windows.ERROR_SERVICE_NEVER_STARTED:
		st.State, st.Detail = Failed, ended(ctx, s, now)
	}
	return st, nil
}
