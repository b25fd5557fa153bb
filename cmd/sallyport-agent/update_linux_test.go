package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/agent"
	"sallyport/agent/state"
	"sallyport/agent/update"
)

// A releaseRoom has releases that somebody has signed, and an installation whose service is a pretence: it takes the program
// that lies in the place for running.
type releaseRoom struct {
	t            *testing.T
	dir          string
	bare         []byte
	key, public  string
	program      string
	out          bytes.Buffer
	restarts     int
	stopped      bool
	unlinked     string // the version that does not link
	started      time.Time
	runs         string // the version
	installation *installation
}

func newReleaseRoom(t *testing.T) *releaseRoom {
	t.Helper()
	r := &releaseRoom{t: t, dir: t.TempDir(), started: time.Now(), runs: "1.0.0"}
	bare := filepath.Join(r.dir, "bare")
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", bare, "./cmd/sallyport-agent")
	c.Dir, c.Env = "../../agent/update/testdata", append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var err error
	if r.bare, err = os.ReadFile(bare); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(bare); err != nil {
		t.Fatal(err)
	}
	r.key = filepath.Join(r.dir, "key.pem")
	r.must("release", "keygen", r.key)
	r.public = strings.TrimSpace(strings.TrimPrefix(r.out.String(), "update:\n  signers:\n    - "))
	r.program = filepath.Join(r.dir, "installed")
	r.write(r.program, r.agent("1.0.0"))
	r.installation = &installation{Updater: update.Updater{
		Program: r.program, Service: r, Life: r.life, Within: time.Second, Say: func(s string) { fmt.Fprintln(&r.out, s) },
	}}
	return r
}

func (r *releaseRoom) agent(version string) []byte {
	return fmt.Appendf(bytes.Clone(r.bare), "\nAGENT %s none\n", version)
}

func (r *releaseRoom) write(path string, data []byte) {
	r.t.Helper()
	syscall.ForkLock.RLock() // or a process that is started meanwhile inherits it, and the program cannot be run
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, data, 0o755); err != nil {
		r.t.Fatal(err)
	}
}

func (r *releaseRoom) Running(context.Context) (bool, error) { return !r.stopped, nil }

func (r *releaseRoom) Restart(ctx context.Context) (err error) {
	r.restarts++
	r.started = r.started.Add(time.Second)
	r.runs, err = update.Version(ctx, r.program)
	return err
}

func (r *releaseRoom) life() (update.Life, error) {
	return update.Life{Running: !r.stopped, Started: r.started, Version: r.runs, Linked: r.runs != r.unlinked}, nil
}

// release makes a folder with a release of these versions, signed.
func (r *releaseRoom) release(versions ...string) (folder string) {
	r.t.Helper()
	folder, err := os.MkdirTemp(r.dir, "release")
	if err != nil {
		r.t.Fatal(err)
	}
	var sums bytes.Buffer
	for _, v := range versions {
		r.write(filepath.Join(folder, name(v)), r.agent(v))
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(r.agent(v)), name(v))
	}
	r.write(filepath.Join(folder, update.SumsFile), sums.Bytes())
	r.must("release", "sign", "--key", r.key, filepath.Join(folder, update.SumsFile))
	return folder
}

// name is that of a bare program.
func name(version string) string {
	return "sallyport-agent-" + version + "-" + runtime.GOOS + "-" + runtime.GOARCH
}

// must runs the program with a command line.
func (r *releaseRoom) must(args ...string) {
	r.t.Helper()
	r.out.Reset()
	if err := run(r.t.Context(), args, streams{os.Stdin, &r.out, &r.out}, func(string) string { return "" }); err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
}

// try updates the installation.
func (r *releaseRoom) try(o updateOrder) error {
	r.out.Reset()
	null, err := os.Open(os.DevNull)
	if err != nil {
		r.t.Fatal(err)
	}
	defer null.Close()
	p := &program{streams: streams{null, &r.out, &r.out}, getenv: func(string) string { return "" }}
	return p.updateOf(r.t.Context(), r.installation, o)
}

// has checks the version in the place, and how often the service was restarted since the last look.
func (r *releaseRoom) has(version string, restarts int) {
	r.t.Helper()
	got, err := update.Version(r.t.Context(), r.program)
	if err != nil || got != version || r.restarts != restarts {
		r.t.Errorf("version %s lies in the place after %d restarts (%v), want %s after %d\n%s", got, r.restarts, err, version, restarts, r.out.String())
	}
	r.restarts = 0
}

func TestUpdateCommand(t *testing.T) {
	t.Parallel()
	r := newReleaseRoom(t)
	folder := r.release("1.1.0", "0.9.0", "1.0.0")
	pkg := func(v string) string { return filepath.Join(folder, name(v)) }

	if err := r.try(updateOrder{pkg: pkg("1.1.0"), key: r.public, dry: true}); err != nil {
		t.Error(err)
	}
	if out := r.out.String(); !strings.Contains(out, "version 1.0.0 becomes 1.1.0") || !strings.Contains(out, "is signed by "+r.public) {
		t.Errorf("a dry run says\n%s", out)
	}
	r.has("1.0.0", 0)
	if err := r.try(updateOrder{pkg: pkg("1.1.0"), key: r.public}); err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("without a terminal: %v", err)
	}
	r.has("1.0.0", 0)
	if err := r.try(updateOrder{pkg: pkg("1.1.0"), key: r.public, yes: true}); err != nil {
		t.Error(err)
	}
	r.has("1.1.0", 1)
	for _, o := range []updateOrder{{pkg: pkg("1.1.0")}, {from: folder}} {
		o.key, o.yes = r.public, true
		if err := r.try(o); err != nil || !strings.Contains(r.out.String(), "1.1.0 is installed already; nothing to do") {
			t.Errorf("once more: %v\n%s", err, r.out.String())
		}
	}
	r.has("1.1.0", 0)
	if err := r.try(updateOrder{pkg: pkg("0.9.0"), key: r.public, yes: true}); err == nil || !strings.Contains(err.Error(), "--downgrade") {
		t.Errorf("an older one: %v", err)
	}
	older := r.release("1.0.5")
	if err := r.try(updateOrder{from: older, key: r.public, yes: true, downgrade: true}); err != nil || !strings.Contains(r.out.String(), "which is newer than 1.0.5") {
		t.Errorf("a folder with an older one: %v\n%s", err, r.out.String())
	}
	r.has("1.1.0", 0)
	if err := r.try(updateOrder{pkg: pkg("0.9.0"), key: r.public, yes: true, downgrade: true}); err != nil {
		t.Error(err)
	}
	r.has("0.9.0", 1)
	if err := r.try(updateOrder{goBack: true, yes: true}); err != nil {
		t.Error(err)
	}
	r.has("1.1.0", 1)
}

// TestUpdateIsRefused: whatever is not signed by a key that the admin named leaves all as it was.
func TestUpdateIsRefused(t *testing.T) {
	t.Parallel()
	r := newReleaseRoom(t)
	folder := r.release("1.1.0")
	pkg := filepath.Join(folder, name("1.1.0"))
	r.must("release", "keygen", filepath.Join(r.dir, "other.pem"))
	other := strings.TrimSpace(strings.TrimPrefix(r.out.String(), "update:\n  signers:\n    - "))
	damaged := filepath.Join(folder, "damaged")
	r.write(damaged, append(r.agent("1.1.0"), 0))
	bare := filepath.Join(r.dir, name("1.1.0"))
	r.write(bare, r.agent("1.1.0"))
	for what, c := range map[string]struct {
		o    updateOrder
		want string
	}{
		"no key":         {updateOrder{pkg: pkg}, "nobody is trusted to sign releases"},
		"another key":    {updateOrder{pkg: pkg, key: other}, "no trusted key has signed it"},
		"no key at all":  {updateOrder{pkg: pkg, key: r.key}, "holds no public key"},
		"key not there":  {updateOrder{pkg: pkg, key: "ed25519:x"}, "neither a key"},
		"damaged":        {updateOrder{pkg: damaged, key: r.public}, "it is not as SHA256SUMS has it"},
		"no checksums":   {updateOrder{pkg: bare, key: r.public}, "read the release's checksums"},
		"nothing there":  {updateOrder{pkg: filepath.Join(folder, "x"), key: r.public}, "read the package"},
		"an empty place": {updateOrder{from: r.release(), key: r.public}, "has no package of the agent for"},
	} {
		c.o.yes = true
		if err := r.try(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.has("1.0.0", 0)
	// A key in a file, checksums elsewhere, and the configuration's signers do as well.
	r.write(filepath.Join(r.dir, "key.pub"), []byte(r.public+"\n"))
	if err := r.try(updateOrder{pkg: bare, sums: filepath.Join(folder, update.SumsFile), key: filepath.Join(r.dir, "key.pub"), yes: true, dry: true}); err != nil {
		t.Error(err)
	}
	r.installation.signers = []string{other, r.public}
	if err := r.try(updateOrder{from: folder, yes: true}); err != nil {
		t.Error(err)
	}
	r.has("1.1.0", 1)
}

// TestScheduledUpdate: a version that was rolled back is not tried again by a schedule, but by name.
func TestScheduledUpdate(t *testing.T) {
	t.Parallel()
	r := newReleaseRoom(t)
	r.unlinked = "1.1.0"
	folder := r.release("1.1.0")
	o := updateOrder{from: folder, key: r.public, yes: true}
	if err := r.try(o); !strings.Contains(fmt.Sprint(err), "version 1.1.0 was not kept: no link within 1s") {
		t.Errorf("%v", err)
	}
	r.has("1.0.0", 2)
	if err := r.try(o); err != nil || !strings.Contains(r.out.String(), "was rolled back on ") {
		t.Errorf("%v\n%s", err, r.out.String())
	}
	r.has("1.0.0", 0)
	r.unlinked = ""
	if err := r.try(updateOrder{pkg: filepath.Join(folder, name("1.1.0")), key: r.public, yes: true}); err != nil {
		t.Error(err)
	}
	r.has("1.1.0", 1)
	r.unlinked = "1.1.0"
	if err := r.try(updateOrder{from: r.release("1.2.0"), key: r.public, yes: true}); !errors.Is(err, update.ErrNoLink) || !strings.Contains(err.Error(), "--without-link") {
		t.Errorf("without a link: %v", err)
	}
	r.has("1.1.0", 0)
}

func TestUpdateUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"update"}, {"update", "x", "--from", "y"}, {"update", "x", "--back"}, {"release", "sign", "x"}, {"update", "x", "--within", "1s"}} {
		err := run(t.Context(), args, streams{os.Stdin, &bytes.Buffer{}, &bytes.Buffer{}}, func(string) string { return "" })
		if e, ok := errors.AsType[exitError](err); !ok || e.code != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestReleaseSigners: the keys of an agent.yaml that others can write, or that should be signed and is not, are not trusted.
func TestReleaseSigners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, config, folder := filepath.Join(dir, "key.pem"), filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "state")
	var out bytes.Buffer
	command := func(args ...string) {
		t.Helper()
		out.Reset()
		if err := run(t.Context(), args, streams{os.Stdin, &out, &out}, func(string) string { return "" }); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	command("release", "keygen", key)
	signer := strings.TrimSpace(strings.TrimPrefix(out.String(), "update:\n  signers:\n    - "))
	text := "relay: https://relay.example.com\ngateway: plant1\n" + out.String()
	p := &program{config: config, state: folder, getenv: func(string) string { return "" }}
	if list, err := p.releaseSigners(); err != nil || len(list) > 0 {
		t.Errorf("without a configuration: %v, %v", list, err)
	}
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(config, []byte(text), mode), os.Chmod(config, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(text, 0o644)
	if list, err := p.releaseSigners(); err != nil || len(list) != 1 || list[0] != signer {
		t.Errorf("%v, %v; want %s", list, err, signer)
	}
	write(text, 0o666)
	if list, err := p.releaseSigners(); !errors.Is(err, state.ErrExposed) {
		t.Errorf("from a file that others may write: %v, %v", list, err)
	}
	write(text+"policy_signers: ['"+signer+"']\n", 0o644)
	command("policy", "sign", "--config", config, "--key", key)
	d, err := state.Open(folder)
	if err == nil {
		_, err = agent.ReadSigned(config, d) // as the agent does, which pins the signer
	}
	if err != nil {
		t.Fatal(err)
	}
	if list, err := p.releaseSigners(); err != nil || len(list) != 1 {
		t.Errorf("from a signed file: %v, %v", list, err)
	}
	write(text, 0o644)
	if list, err := p.releaseSigners(); !errors.Is(err, agent.ErrUnsigned) {
		t.Errorf("from a file that should be signed: %v, %v", list, err)
	}
}

func TestRunsProgram(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		command, program string
		want             bool
	}{
		{"/usr/local/bin/sallyport-agent run", "/usr/local/bin/sallyport-agent", true},
		{"/usr/local/bin/sallyport-agent", "/usr/local/bin/sallyport-agent", true},
		{"/usr/local/bin/sallyport-agent-beta run", "/usr/local/bin/sallyport-agent", false},
		{"/usr/bin/sallyport-agent run", "/usr/local/bin/sallyport-agent", false},
		{"", "/usr/local/bin/sallyport-agent", false},
		{`"C:\Program Files\Sallyport\sallyport-agent.exe" service run`, `C:\program files\Sallyport\sallyport-agent.exe`, true},
		{`"C:\Program Files\Sallyport\sallyport-agent.exe.old" service run`, `C:\Program Files\Sallyport\sallyport-agent.exe`, false},
	} {
		if got := runsProgram(c.command, c.program); got != c.want {
			t.Errorf("%s runs %s: %v", c.command, c.program, got)
		}
	}
}
