package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/link"
	"sallyport/agent/state"
	"sallyport/agent/update"
	"sallyport/internal/service"
	"sallyport/internal/signature"
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
--key, must have signed the list, and the package must be as the list has it, for this system, newer, and start here. Before
that nothing is changed. Then the program is replaced, the service drains and is restarted, and a link is waited for, up to
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
	f.BoolVar(&o.force, "force", false, "also where a package manager has installed the program")
	f.BoolVar(&o.withoutLink, "without-link", false, "be content if the new version stays up, for a relay that is out of reach")
	f.DurationVar(&o.within, "within", update.LinkWithin, "how long a link of the new version is waited for, at least "+leastWithin.String())
	f.BoolVar(&o.goBack, "back", false, "go back to the version before the last update")
	return c
}

// releaseCommand is for whoever makes releases, or vets them for a company.
func (p *program) releaseCommand() *cobra.Command {
	keygen := &cobra.Command{
		Use: "keygen FILE", Short: "Make a key that signs releases", Args: exactly(1, 1, ""),
		Long:    "Writes a new private key (Ed25519, PEM) to FILE, which must not exist, and prints the lines for agent.yaml. Keep the key where releases are made.",
		Example: "  sallyport-agent release keygen release-key.pem",
		RunE: does(func(_ context.Context, args []string) error {
			return p.makeSigner(args[0], "update:\n  signers:\n    - %s\n")
		}),
	}
	var key string
	sign := &cobra.Command{
		Use: "sign SHA256SUMS", Short: "Sign the checksums of a release", Args: exactly(1, 1, ""),
		Long: `Adds a signature of a release's SHA256SUMS to the file SHA256SUMS.sig beside it. Whoever vets releases for a company can sign
them with a key of their own; installer/build.sh does it with the key that SALLYPORT_RELEASE_KEY names.`,
		Example: "  sallyport-agent release sign --key release-key.pem dist/SHA256SUMS",
		RunE:    does(func(_ context.Context, args []string) error { return p.signRelease(key, args[0]) }),
	}
	sign.Flags().StringVar(&key, "key", "", "the `file` with the private key")
	_ = sign.MarkFlagRequired("key")
	return group("release", "Sign releases, for 'update'", keygen, sign)
}

func (p *program) signRelease(keyFile, sums string) error {
	key, err := signingKey(keyFile, "release")
	if err != nil {
		return err
	}
	text, err := readBounded(sums, update.MaxSums)
	if err != nil {
		return err
	}
	line, err := update.Sign(key, text)
	if err != nil {
		return err
	}
	old, err := readBounded(sums+".sig", signature.MaxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !strings.Contains(string(old), line) {
		line = string(old) + line
	} else {
		line = string(old)
	}
	if err := os.WriteFile(sums+".sig", []byte(line), 0o644); err != nil {
		return fmt.Errorf("write the signature: %w", err)
	}
	_, err = fmt.Fprintf(p.out, "signed %s\n", sums)
	return err
}

// readBounded reads a file of at most so many bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, err
}

func (p *program) update(ctx context.Context, o updateOrder) error {
	if n := len(nonEmpty(o.pkg, o.from)); o.goBack && n > 0 || !o.goBack && n != 1 {
		return exitError{exitUsage, errors.New("name a package, or a folder with --from, or --back; see: sallyport-agent update --help")}
	}
	if o.within < leastWithin {
		return exitError{exitUsage, fmt.Errorf("--within: %s is too short for any link (give at least %s)", o.within, leastWithin)}
	}
	in, err := p.installation(ctx, o)
	if err != nil {
		return err
	}
	if !o.dry {
		unlock, err := p.lockUpdate(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	err = p.updateOf(ctx, in, o)
	if _, undone := errors.AsType[*update.RolledBack](err); undone {
		return exitError{exitRolledBack, err}
	}
	return err
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
}

// installation is this one: the program that runs here, which must be the service's.
func (p *program) installation(ctx context.Context, o updateOrder) (*installation, error) {
	path, err := service.OwnProgram()
	if err != nil {
		return nil, err
	}
	if manager, how := update.Managed(ctx, path); manager != "" && !o.force {
		return nil, fmt.Errorf("%s was installed by %s, whose next upgrade would undo this: update with it (%s), or use --force", path, manager, how)
	}
	if !o.dry {
		if err := service.CheckProgram(path); err != nil {
			return nil, err
		}
	}
	spec, err := p.serviceSpec()
	if err != nil {
		return nil, err
	}
	in := &installation{}
	if o.key == "" && !o.goBack { // else a broken configuration keeps nobody from an update that mends it
		if in.signers, err = p.releaseSigners(); err != nil {
			return nil, err
		}
	}
	in.Program, in.Service, in.Life, in.WithoutLink = path, machineService{spec, path}, p.life, o.withoutLink
	in.Within = o.within
	in.Say = func(step string) { fmt.Fprintln(p.out, step) }
	return in, nil
}

// releaseSigners are the keys that agent.yaml trusts with releases. Who can write that file decides what is installed, so
// nobody but admins may, and where it has to be signed it is.
func (p *program) releaseSigners() ([]string, error) {
	c, there, err := p.configIfThere()
	if err != nil || !there || len(c.Update.Signers) == 0 {
		return nil, err
	}
	if err := state.CheckWritable(p.config); err != nil {
		return nil, fmt.Errorf("update.signers cannot be trusted, or give --key: %w", err)
	}
	dir, err := p.openState()
	if errors.Is(err, fs.ErrNotExist) {
		return c.Update.Signers, nil
	}
	if err != nil {
		return nil, err
	}
	if pinned, err := agent.Signers(dir); err != nil || len(pinned) == 0 {
		return c.Update.Signers, err
	}
	if c, err = agent.ReadSigned(p.config, dir); err != nil {
		return nil, err
	}
	return c.Update.Signers, nil
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
	if pkg.Version == from {
		fmt.Fprintf(p.out, "Version %s is installed already; nothing to do.\n", from)
		return nil
	}
	if older := update.IsVersion(from) && update.Compare(pkg.Version, from) < 0; o.from != "" && older {
		fmt.Fprintf(p.out, "Version %s is installed, which is newer than %s; nothing to do.\n", from, pkg.Version)
		return nil
	} else if (older || !update.IsVersion(from)) && !o.downgrade {
		return fmt.Errorf("version %s is installed, and %s is not newer, as far as can be told; --downgrade takes it all the same", from, pkg.Version)
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
		return nil
	}
	if err := p.mayGoOn(ctx, o); err != nil {
		return err
	}
	return in.Update(ctx, from, pkg.Version, next)
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
	_, err = in.Back(ctx, from)
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

// choose gives the package that is meant, and its bytes, which are what a trusted key has signed.
func (p *program) choose(in *installation, o updateOrder) (pkg update.Package, data []byte, err error) {
	signers, err := o.signers(in.signers)
	if err != nil {
		return pkg, nil, err
	}
	folder := cmp.Or(o.from, filepath.Dir(o.pkg))
	sumsFile := cmp.Or(o.sums, filepath.Join(folder, update.SumsFile))
	sums, err := readBounded(sumsFile, update.MaxSums)
	if err != nil {
		return pkg, nil, fmt.Errorf("read the release's checksums: %w", err)
	}
	lines, err := readBounded(sumsFile+".sig", signature.MaxFile)
	if err != nil {
		return pkg, nil, fmt.Errorf("read the release's signatures: %w", err)
	}
	release, err := update.ReadRelease(sums, lines, signers)
	if err != nil {
		return pkg, nil, err
	}
	path := o.pkg
	if o.from != "" {
		if path, err = newest(release, o.from); err != nil {
			return pkg, nil, err
		}
	}
	if data, err = readBounded(path, update.MaxPackage); err != nil {
		return pkg, nil, fmt.Errorf("read the package: %w", err)
	}
	if pkg, err = release.Of(data); err != nil {
		return pkg, nil, fmt.Errorf("%s: %w", path, err)
	}
	fmt.Fprintf(p.out, "%s is signed by %s.\n", pkg.Name, release.Signer)
	return pkg, data, nil
}

// newest gives the path of the newest package for this machine that lies in a folder.
func newest(r *update.Release, folder string) (string, error) {
	for _, one := range r.For(runtime.GOOS, runtime.GOARCH) {
		path := filepath.Join(folder, one.Name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s has no package of the agent for %s/%s that its %s lists", folder, runtime.GOOS, runtime.GOARCH, update.SumsFile)
}

// signers are the keys that are trusted: the one of the command line, or else the configuration's.
func (o updateOrder) signers(configured []string) ([]string, error) {
	if o.key == "" {
		if len(configured) == 0 {
			return nil, errors.New("nobody is trusted to sign releases: give the signer's public key with --key, or in agent.yaml under update.signers")
		}
		return configured, nil
	}
	text := o.key
	if _, ok := signature.ParseName(text); !ok {
		data, err := readBounded(o.key, signature.MaxFile)
		if err != nil {
			return nil, fmt.Errorf("--key: neither a key (ed25519:...) nor a file with one: %w", err)
		}
		text = strings.TrimSpace(string(data))
	}
	if _, ok := signature.ParseName(text); !ok {
		return nil, fmt.Errorf("--key: %s holds no public key (a line with ed25519:..., as 'sallyport-agent release keygen' prints)", o.key)
	}
	return []string{text}, nil
}
