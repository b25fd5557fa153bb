package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/link"
	"sallyport/agent/update"
	"sallyport/internal/service"
)

// exitRolledBack says that an update was undone: the version before runs again.
const exitRolledBack = 5

// leastWithin is what a link takes through a slow proxy.
const leastWithin = 5 * time.Second

// An updateOrder is what the command line says of an update.
type updateOrder struct {
	pkg, from, key, sums                            string
	within                                          time.Duration
	dry, yes, downgrade, force, withoutLink, goBack bool
}

func (p *program) updateCommand() *cobra.Command {
	var o updateOrder
	c := &cobra.Command{
		Use: "update [PACKAGE]", Short: "Put another version into the place of this one, and back if it does not link", Args: exactly(0, 1, ""),
		Long: `Updates this program from a package of a release: its .tar.gz (Linux), its .zip (Windows), or the bare program. Only an admin
does that, or a schedule that an admin has set; the relay has no way to it.

Beside the package lie the release's SHA256SUMS and SHA256SUMS.sig. One of update.signers in agent.yaml, or the key given with
--key, must have signed the list, and the package must be as the list has it, for this system, newer, and start here. On
Windows, where the present program has an Authenticode signature, the new one must have a good one by the same publisher;
--force does without. Before that nothing is changed. Then the program is replaced, the service drains and is restarted, and a link is waited for, up to
a minute (--within). Without one the old program comes back. It stays beside the new one as sallyport-agent.old until the next update.

At every moment a complete program lies in its place; on Windows, which has none for an instant, sallyport-agent.old.exe puts
itself back ('service start'). An update that was killed is brought to its end by the next 'update': what links is kept, what
does not is rolled back. --from does not try again what was rolled back or left by --back.

Exit codes: 0 updated, or there was nothing to do; 1 failed, and nothing was changed; 5 rolled back.`,
		Example: `  sallyport-agent update sallyport-agent-0.2.0-linux-amd64.tar.gz --key ed25519:... --dry-run
  sallyport-agent update sallyport-agent-0.2.0-linux-amd64.tar.gz
  sallyport-agent update --from /srv/sallyport --yes      # the newest there, if it is newer: for a schedule
  sallyport-agent update --back                           # to the version before`,
		RunE: does(func(ctx context.Context, args []string) error {
			if len(args) == 1 {
				o.pkg = args[0]
			}
			return p.update(ctx, o)
		}),
	}
	f := c.Flags()
	f.StringVar(&o.from, "from", "", "take the newest package in this `folder`, if it is newer than what is installed")
	f.StringVar(&o.key, "key", "", "the signer's public `key` (ed25519:...), or a file with it (default: update.signers of agent.yaml)")
	f.StringVar(&o.sums, "sums", "", "the release's SHA256SUMS; its signatures are in the same `file` with .sig (default: beside the package)")
	f.BoolVar(&o.dry, "dry-run", false, "verify everything, say what would be done, and do nothing")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.downgrade, "downgrade", false, "take an older version too, or one whose age cannot be told")
	f.BoolVar(&o.force, "force", false, "also where a package manager has installed the program, and on Windows from another publisher or none")
	f.BoolVar(&o.withoutLink, "without-link", false, "be content if the new version stays up, for a relay that is out of reach")
	f.DurationVar(&o.within, "within", update.LinkWithin, "how long a link of the new version is waited for, at least "+leastWithin.String())
	f.BoolVar(&o.goBack, "back", false, "go back to the version before the last update")
	return c
}

func (p *program) update(ctx context.Context, o updateOrder) error {
	if n := len(nonEmpty(o.pkg, o.from)); o.goBack && n > 0 || !o.goBack && n != 1 {
		return exitError{exitUsage, errors.New("name a package, or a folder with --from, or --back; see: sallyport-agent update --help")}
	}
	if o.within < leastWithin {
		return exitError{exitUsage, fmt.Errorf("--within: %s is too short for any link (give at least %s)", o.within, leastWithin)}
	}
	in := &installation{}
	err := p.updateThis(ctx, in, o)
	p.tellUpdate(in, o, err)
	if _, undone := errors.AsType[*update.RolledBack](err); undone {
		return exitError{exitRolledBack, err}
	}
	return err
}

// updateThis updates this installation, of which in tells afterwards.
func (p *program) updateThis(ctx context.Context, in *installation, o updateOrder) error {
	if err := p.installation(ctx, in, o); err != nil {
		return err
	}
	if !o.dry {
		unlock, err := p.lockUpdate(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	return p.updateOf(ctx, in, o)
}

// tellUpdate has the machine's log know what came of an update, which nobody may have been there to see: a schedule's. Whoever is
// asked at a terminal sees what failed.
func (p *program) tellUpdate(in *installation, o updateOrder, err error) {
	_, undone := errors.AsType[*update.RolledBack](err)
	if o.dry || err == nil && in.became == "" || err != nil && !undone && !o.yes {
		return
	}
	log, end := p.machineLog()
	defer end()
	switch {
	case undone:
		log.Warn("an update was rolled back", "cause", err)
	case err != nil:
		log.Error("an update failed", "error", err)
	default:
		log.Info("the program was updated", "from", in.was, "to", in.became, "program", in.Program)
	}
}

func nonEmpty(words ...string) (list []string) {
	for _, w := range words {
		if w != "" {
			list = append(list, w)
		}
	}
	return list
}

// An installation is what can be updated.
type installation struct {
	update.Updater
	signers []string
	// was and became are the versions of an update that is done.
	was, became string
}

// installation finds out about this one: the program that runs here, which must be the service's.
func (p *program) installation(ctx context.Context, in *installation, o updateOrder) error {
	path, err := service.OwnProgram()
	if err != nil {
		return err
	}
	if manager, how := update.Managed(ctx, path); manager != "" && !o.force {
		return fmt.Errorf("%s was installed by %s, whose next upgrade would undo this: update with it (%s), or use --force", path, manager, how)
	}
	if !o.dry {
		if err := service.CheckProgram(path); err != nil {
			return err
		}
	}
	spec, err := p.serviceSpec()
	if err != nil {
		return err
	}
	if o.key == "" && !o.goBack { // else a broken configuration keeps nobody from an update that mends it
		if in.signers, err = p.releaseSigners(); err != nil {
			return err
		}
	}
	in.Program, in.Service, in.Life, in.WithoutLink = path, machineService{spec, path}, p.life, o.withoutLink
	in.Within, in.AnyPublisher = o.within, o.force
	in.Say = func(step string) { fmt.Fprintln(p.out, step) }
	return nil
}

// lockUpdate keeps a second update away while one is under way.
func (p *program) lockUpdate(ctx context.Context) (unlock func(), err error) {
	dir, err := p.openState()
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // never joined: nothing runs here that a schedule could update
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("another update is under way"))
	defer cancel()
	return dir.Lock(ctx, "update.lock")
}

// life is what the running agent says of itself.
func (p *program) life() (l update.Life, err error) {
	dir, err := p.openState()
	if err != nil {
		return l, err
	}
	s, err := agent.ReadStatus(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	l = update.Life{Running: s.Running, Started: s.Started, Version: s.Version}
	for _, one := range s.Links {
		l.Linked = l.Linked || s.Running && one.State == link.StateUp
		l.Reason = cmp.Or(l.Reason, one.Reason)
	}
	return l, err
}

// machineService is the agent's service of this machine.
type machineService struct {
	spec    service.Spec
	program string
}

// Running implements update.Service.
func (m machineService) Running(ctx context.Context) (bool, error) {
	s, err := service.Ask(ctx, m.spec)
	if err != nil || !s.Installed {
		return false, err
	}
	if !runsProgram(s.Command, m.program) {
		return false, fmt.Errorf("this program is %s, the service runs another one: %s; update with that one", m.program, s.Command)
	}
	return s.State == service.Running || s.State == service.Starting || s.State == service.Failed, nil
}

// runsProgram says whether a service's command, with quotes around its program or without, runs this one.
func runsProgram(command, program string) bool {
	line := strings.TrimPrefix(command, `"`)
	if len(line) < len(program) || !strings.EqualFold(line[:len(program)], program) {
		return false
	}
	rest := line[len(program):]
	return rest == "" || rest[0] == ' ' || rest[0] == '"'
}

// Restart implements update.Service.
func (m machineService) Restart(ctx context.Context) error {
	return service.Restart(ctx, io.Discard, m.spec, false)
}

// updateOf updates an installation.
func (p *program) updateOf(ctx context.Context, in *installation, o updateOrder) error {
	if !o.dry {
		if _, err := in.Settle(ctx); err != nil {
			return err
		}
	}
	from, err := update.Version(ctx, in.Program)
	if err != nil {
		return err
	}
	if o.goBack {
		return p.updateBack(ctx, in, o, from)
	}
	pkg, data, err := p.choose(in, o)
	if err != nil {
		return err
	}
	if nothing, err := p.compare(o, from, pkg.Version); nothing || err != nil {
		return err
	}
	next, err := pkg.Program(data, runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return fmt.Errorf("%s: %w", pkg.Name, err)
	}
	if at := in.Refused(next); o.from != "" && !at.IsZero() {
		fmt.Fprintf(p.out, "Version %s was rolled back on %s; --from does not try it again. Name the package to do so.\n", pkg.Version, at.Local().Format(time.DateTime))
		return nil
	}
	running, err := in.Ready(ctx)
	if errors.Is(err, update.ErrNoLink) {
		err = fmt.Errorf("%w. 'sallyport-agent check' says what to do; --without-link updates all the same", err)
	}
	if err != nil {
		return err
	}
	p.tellPlan(in, running, from, pkg.Version)
	if o.dry {
		return mayForce(in.Admits(next))
	}
	if err := p.mayGoOn(ctx, o); err != nil {
		return err
	}
	if err := in.Update(ctx, from, pkg.Version, next); err != nil {
		return mayForce(err)
	}
	in.was, in.became = from, pkg.Version
	return nil
}

// mayForce tells the way around where there is one.
func mayForce(err error) error {
	if errors.Is(err, update.ErrPublisher) {
		return fmt.Errorf("%w. --force updates all the same", err)
	}
	return err
}

// compare says whether there is nothing to do for a package of version to, or why it is not taken.
func (p *program) compare(o updateOrder, from, to string) (nothing bool, err error) {
	older := update.IsVersion(from) && update.Compare(to, from) < 0
	switch {
	case to == from:
		fmt.Fprintf(p.out, "Version %s is installed already; nothing to do.\n", from)
		return true, nil
	case o.from != "" && older:
		fmt.Fprintf(p.out, "Version %s is installed, which is newer than %s; nothing to do.\n", from, to)
		return true, nil
	case (older || !update.IsVersion(from)) && !o.downgrade:
		return false, fmt.Errorf("version %s is installed, and %s is not newer, as far as can be told; --downgrade takes it all the same", from, to)
	}
	return false, nil
}

func (p *program) updateBack(ctx context.Context, in *installation, o updateOrder, from string) error {
	running, err := in.Service.Running(ctx)
	if err != nil {
		return err
	}
	p.tellPlan(in, running, from, "the one before the last update")
	if o.dry {
		return nil
	}
	if err := p.mayGoOn(ctx, o); err != nil {
		return err
	}
	to, err := in.Back(ctx, from)
	if err == nil {
		in.was, in.became = from, to
	}
	return err
}

// tellPlan says what an update does.
func (p *program) tellPlan(in *installation, running bool, from, to string) {
	fmt.Fprintf(p.out, "%s: version %s becomes %s.\n", in.Program, from, to)
	switch {
	case !running:
		fmt.Fprintln(p.out, "The service does not run, and is not started.")
	case in.WithoutLink:
		fmt.Fprintln(p.out, "The service drains and is restarted; if the new version does not stay up, the old one comes back.")
	default:
		fmt.Fprintf(p.out, "The service drains and is restarted; without a link within %s the old version comes back.\n", in.Within)
	}
}

// mayGoOn asks, unless that was answered on the command line.
func (p *program) mayGoOn(ctx context.Context, o updateOrder) error {
	if o.yes {
		return nil
	}
	ask := newAsker(p)
	if !ask.terminal {
		return exitError{exitUsage, errors.New("there is no terminal to ask at: give --yes; see: sallyport-agent update --help")}
	}
	if err := ask.confirm(ctx, "Go on?", false); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	return nil
}
