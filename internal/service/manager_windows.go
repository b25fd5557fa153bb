package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	kardianos "github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

const exampleAccount = `CORP\gmsa-sallyport$`

const installHelp = `Makes this program a service of Windows: its registration with a quoted path, its account, the folder for that account alone,
the source of the event log, restart after a failure, time to drain, the start with the machine. What is there and right
stays as it is, so the command may be repeated; it mends what is not. It starts at once if it is configured already.

Without --account it runs as NT SERVICE\ and its own name, an account without a password that is the machine's on the network. A group
managed service account (its name ends with $) needs no password either; for another account, as DOMAIN\name or .\name, the
password is asked for, or read from standard input. The account gets the right to log on as a service.

Needs an administrator's rights. The program must lie where only administrators can write: %ProgramFiles%\Sallyport.`

// eventSources is where the sources of the application log are.
const eventSources = `SYSTEM\CurrentControlSet\Services\EventLog\Application`

// A registered is what the service manager has of a service.
type registered struct {
	command, account, display string
	start                     uint32
	needs                     []string
	mgr.Service
}

// manager opens the service manager; to change something an administrator's rights are needed.
func manager(change bool) (*mgr.Mgr, error) {
	rights := uint32(windows.SC_MANAGER_CONNECT | windows.SC_MANAGER_ENUMERATE_SERVICE)
	if change {
		rights = windows.SC_MANAGER_ALL_ACCESS
	}
	h, err := windows.OpenSCManager(nil, nil, rights)
	if err != nil {
		return nil, fmt.Errorf("open Windows' service manager: %w", explain(err))
	}
	return &mgr.Mgr{Handle: h}, nil
}

// find gives the service, or nil if there is none. Who gets one closes it.
func find(m *mgr.Mgr, name string, rights uint32) (*registered, error) {
	name16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.OpenService(m.Handle, name16, rights|windows.SERVICE_QUERY_CONFIG|windows.SERVICE_QUERY_STATUS)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the service %s: %w", name, explain(err))
	}
	r := &registered{Service: mgr.Service{Name: name, Handle: h}}
	if err := r.read(); err != nil {
		r.Close()
		return nil, fmt.Errorf("read the registration of the service %s: %w", name, explain(err))
	}
	return r, nil
}

// read asks for the registration. mgr's Config asks for more than some systems answer, and fails then.
func (r *registered) read() error {
	b := make([]byte, 8<<10) // the documented most
	c := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(unsafe.SliceData(b)))
	var needed uint32
	if err := windows.QueryServiceConfig(r.Handle, c, uint32(len(b)), &needed); err != nil {
		return err
	}
	r.command, r.account = windows.UTF16PtrToString(c.BinaryPathName), windows.UTF16PtrToString(c.ServiceStartName)
	r.display, r.start = windows.UTF16PtrToString(c.DisplayName), c.StartType
	for p := c.Dependencies; p != nil && *p != 0; {
		r.needs = append(r.needs, windows.UTF16PtrToString(p))
		for *p != 0 {
			p = next(p)
		}
		p = next(p)
	}
	return nil
}

func next(p *uint16) *uint16 { return (*uint16)(unsafe.Add(unsafe.Pointer(p), unsafe.Sizeof(*p))) }

// A wanted is the service as it is to be.
type wanted struct {
	Spec
	program  string
	password string // of the account, if it is to be set
}

// Install makes or mends the service.
func Install(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	if err := ready(s, dry); err != nil {
		return err
	}
	s.Arguments = s.WindowsArguments
	m, err := manager(!dry)
	if err != nil {
		return err
	}
	defer m.Disconnect()
	now, err := find(m, s.Name, 0)
	if err != nil {
		return err
	}
	if now != nil {
		defer now.Close()
	}
	want, err := withAccount(ctx, s, now, dry)
	if err != nil {
		return err
	}
	if want.program, err = ownProgram(); err != nil {
		return err
	}
	if err := checkProgram(want.program); err != nil {
		return err
	}
	steps, err := plan(m, want, now)
	if err != nil {
		return err
	}
	if err := carry(ctx, w, dry, steps); err != nil {
		return err
	}
	if _, err := os.Stat(s.Config); err != nil {
		fmt.Fprintf(w, "It starts once it is configured: %s\n", s.First)
	}
	if _, err := planArc(want.Spec); errors.Is(err, errArcAbsent) {
		fmt.Fprintf(w, "It cannot ask Azure Arc for tokens yet: %v.\n", err)
	}
	return nil
}

// plan says what has to be done so that the service is there and runs. The folder changes hands while nothing uses it: what one
// account made meanwhile the next would not trust.
func plan(m *mgr.Mgr, s wanted, now *registered) ([]step, error) {
	steps, err := planAccount(s.Spec)
	if err != nil {
		return nil, err
	}
	runs := now != nil && now.runs()
	if runs && !sameAccount(now.account, s.Account) {
		steps = append([]step{{"drain and stop it", func(ctx context.Context) error { return end(ctx, s.Spec) }}}, steps...)
		runs = false
	}
	arc, err := planArc(s.Spec)
	if err != nil && !errors.Is(err, errArcAbsent) {
		return nil, err
	}
	steps = append(steps, arc...)
	changed := len(arc) > 0 // a group counts from a start on
	if more := planRegistration(m, s, now); len(more) > 0 {
		steps, changed = append(steps, more...), true
	}
	steps = append(steps, planManaged(s.Spec)...)
	if !sourceThere(s.Name) {
		steps = append(steps, step{"make the source " + s.Name + " of the event log", func(context.Context) error { return makeSource(s.Name) }})
	}
	if _, err := os.Stat(s.Config); err != nil {
		return steps, nil // nothing to run yet
	}
	switch {
	case !runs:
		steps = append(steps, step{"start it", func(ctx context.Context) error { return begin(ctx, s.Spec) }})
	case changed:
		steps = append(steps, step{"restart it", func(ctx context.Context) error {
			if err := end(ctx, s.Spec); err != nil {
				return err
			}
			return begin(ctx, s.Spec)
		}})
	}
	return steps, nil
}

// planRegistration has the service manager know the service as it is to be.
func planRegistration(m *mgr.Mgr, s wanted, now *registered) []step {
	command := s.line()
	if now == nil {
		return []step{{"make the service " + s.Name + ", which runs as " + s.Account + " and starts with the machine", func(context.Context) error {
			return register(m, s, command)
		}}}
	}
	var steps []step
	if now.command != command || !sameAccount(now.account, s.Account) || now.start != windows.SERVICE_AUTO_START ||
		now.display != s.Display || !slices.Equal(now.needs, needs(s.Account)) || s.password != "" {
		steps = append(steps, step{"set program, account and start of the service " + s.Name, func(context.Context) error {
			return withService(m, s.Name, func(r *registered) error { return r.change(s, command) })
		}})
	}
	if !now.settled(s.Spec) {
		steps = append(steps, step{"have it restarted after a failure, and given time to drain", func(context.Context) error {
			return withService(m, s.Name, func(r *registered) error { return r.settle(s.Spec) })
		}})
	}
	return steps
}

// register makes the service with kardianos/service, and then as that cannot have it: the path quoted even without a space
// in it (another program could later be put into a folder with one), and what is done after failures.
func register(m *mgr.Mgr, s wanted, command string) error {
	if err := makeSources(); err != nil {
		return err
	}
	k, err := kardianos.New(nil, &kardianos.Config{
		Name: s.Name, DisplayName: s.Display, Description: s.Description, Executable: s.program, Arguments: s.command(),
		UserName: s.Account, Dependencies: needs(s.Account), Option: kardianos.KeyValue{"Password": s.password},
	})
	if err != nil {
		return err
	}
	if err := k.Install(); err != nil {
		return explain(err)
	}
	return withService(m, s.Name, func(r *registered) error { return errors.Join(r.change(s, command), r.settle(s.Spec)) })
}

func withService(m *mgr.Mgr, name string, do func(*registered) error) error {
	r, err := find(m, name, windows.SERVICE_ALL_ACCESS)
	if err != nil {
		return err
	}
	if r == nil {
		return errors.New("the service has gone meanwhile")
	}
	defer r.Close()
	return do(r)
}

// line is the program's path, in quotes, and its arguments.
func (s wanted) line() string {
	words := []string{`"` + s.program + `"`}
	for _, arg := range s.command() {
		words = append(words, windows.EscapeArg(arg))
	}
	return strings.Join(words, " ")
}

// change writes the registration. A password is only set with the account it belongs to.
func (r *registered) change(s wanted, command string) error {
	var texts [4]*uint16
	for i, text := range []string{command, s.Display, s.Account, s.password} {
		p, err := windows.UTF16PtrFromString(text)
		if err != nil {
			return err
		}
		texts[i] = p
	}
	switch {
	case s.password != "":
	case sameAccount(r.account, s.Account):
		texts[2], texts[3] = nil, nil // it keeps its password
	case !hasPrefix(s.Account, builtin): // those have an empty one; virtual and managed accounts must be given none
		texts[3] = nil
	}
	block := []uint16{}
	for _, one := range needs(s.Account) {
		text, err := windows.UTF16FromString(one)
		if err != nil {
			return err
		}
		block = append(block, text...)
	}
	block = append(block, 0, 0)
	return explain(windows.ChangeServiceConfig(r.Handle, windows.SERVICE_WIN32_OWN_PROCESS, windows.SERVICE_AUTO_START,
		windows.SERVICE_ERROR_NORMAL, texts[0], nil, nil, &block[0], texts[2], texts[3], texts[1]))
}

func (r *registered) runs() bool {
	status, err := r.Query()
	return err == nil && running(status.State)
}

func sourceThere(name string) bool {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, eventSources+`\`+name, registry.QUERY_VALUE)
	if err != nil {
		return false
	}
	defer key.Close()
	file, _, err := key.GetStringValue("EventMessageFile")
	return err == nil && strings.EqualFold(filepath.Base(file), "EventCreate.exe")
}

// makeSources has the key there that all sources are in.
func makeSources() error {
	key, _, err := registry.CreateKey(registry.LOCAL_MACHINE, eventSources, registry.QUERY_VALUE)
	if err != nil {
		return fmt.Errorf("open the sources of the event log: %w", err)
	}
	return key.Close()
}

func makeSource(name string) error {
	if sourceThere(name) { // with the service
		return nil
	}
	if err := errors.Join(makeSources(), removeSource(name)); err != nil {
		return err
	}
	return eventlog.InstallAsEventCreate(name, eventlog.Error|eventlog.Warning|eventlog.Info)
}

func removeSource(name string) error {
	if err := eventlog.Remove(name); err != nil && !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		return err
	}
	return nil
}

// Uninstall stops the service and takes away what Install made, except for the account's rights, configuration and state.
func Uninstall(ctx context.Context, w io.Writer, s Spec, dry bool) error {
	if err := ready(s, dry); err != nil {
		return err
	}
	m, err := manager(!dry)
	if err != nil {
		return err
	}
	defer m.Disconnect()
	now, err := find(m, s.Name, 0)
	if err != nil {
		return err
	}
	var steps []step
	if now != nil {
		if now.runs() {
			steps = append(steps, step{"drain and stop it", func(ctx context.Context) error { return end(ctx, s) }})
		}
		now.Close() // or it stays there, marked to be deleted
		steps = append(steps, step{"remove the service " + s.Name, func(context.Context) error {
			return withService(m, s.Name, func(r *registered) error { return explain(r.Delete()) })
		}})
	}
	if sourceThere(s.Name) {
		steps = append(steps, step{"remove the source " + s.Name + " of the event log", func(context.Context) error { return removeSource(s.Name) }})
	}
	if err := carry(ctx, w, dry, steps); err != nil {
		return err
	}
	fmt.Fprintf(w, "The configuration %s and the folder %s stay.\n", s.Config, s.State)
	return nil
}

// ready says why nothing can be done here.
func ready(s Spec, dry bool) error {
	if s.WindowsArguments == nil {
		return errors.New("this program makes itself a service on Linux alone")
	}
	if !dry && !windows.GetCurrentProcessToken().IsElevated() {
		return fmt.Errorf("%w: open a console with 'Run as administrator'", errRights)
	}
	return nil
}

// commandLimit bounds what is asked of Windows' own programs.
const commandLimit = time.Minute
