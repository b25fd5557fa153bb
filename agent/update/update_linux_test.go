package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/test/loud"
)

// bare is the agent of testdata, as it was built; without a version it is none yet.
var bare = struct{ program []byte }{} // written by TestMain alone

func TestMain(m *testing.M) {
	if dir := os.Getenv("UPDATE_TRIAL"); dir != "" {
		os.Exit(trial(dir))
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "update")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "agent"), "./cmd/sallyport-agent")
		c.Dir, c.Env = "testdata", append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := c.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%v\n%s", err, out))
		}
		if bare.program, err = os.ReadFile(filepath.Join(dir, "agent")); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// agent is a program of a version; fault is what is wrong with it: none, unlinked, crash, mute, liar.
func agent(version, fault string) []byte {
	return fmt.Appendf(bytes.Clone(bare.program), "\nAGENT %s %s\n", version, fault)
}

// A box is an installation: a folder with the program, and the service that runs it. The service outlives who rules it.
type box struct{ dir string }

func newBox(t *testing.T, running bool) *box {
	t.Helper()
	b := &box{t.TempDir()}
	if err := write(b.program(), agent("1.0.0", "none"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	if running {
		if err := b.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.await(t, "1.0.0")
	}
	return b
}

func (b *box) program() string { return filepath.Join(b.dir, "sallyport-agent") }
func (b *box) pidFile() string { return filepath.Join(b.dir, "pid") }
func (b *box) life() string    { return filepath.Join(b.dir, "life.json") }

func (b *box) pid() int {
	text, err := os.ReadFile(b.pidFile())
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(string(text))
	return n
}

// alive looks at the process itself: one that has ended may wait for ever to be reaped by whoever inherited it.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func (b *box) Running(context.Context) (bool, error) { return b.pid() != 0 && alive(b.pid()), nil }

func (b *box) stop() {
	if pid := b.pid(); pid != 0 && alive(pid) {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		for alive(pid) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	_ = os.Remove(b.pidFile())
}

// Restart starts the program detached, as a service is from the command that starts it.
func (b *box) Restart(context.Context) error {
	b.stop()
	c := exec.Command(b.program(), "run")
	c.Env = []string{"LIFE=" + b.life()}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	go func() { _ = c.Wait() }() // ends with the process, which stop ends
	if err := os.WriteFile(b.pidFile(), []byte(strconv.Itoa(c.Process.Pid)), 0o600); err != nil {
		return err
	}
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if !alive(c.Process.Pid) {
			return errors.New("it does not stay up")
		}
	}
	return nil
}

func (b *box) Life() (l Life, err error) {
	text, err := os.ReadFile(b.life())
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	l.Running = l.Running && alive(b.pid())
	return l, err
}

// await waits until the service runs a version.
func (b *box) await(t *testing.T, version string) {
	t.Helper()
	var l Life
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if l, _ = b.Life(); l.Running && l.Version == version {
			return
		}
	}
	t.Fatalf("version %s never ran; last: %+v", version, l)
}

func (b *box) updater(within time.Duration, say func(string)) *Updater {
	return &Updater{Program: b.program(), Service: b, Life: b.Life, Within: within, Say: say}
}

// whole makes sure that the program is complete, of the version, and that of an update nothing is left but the old program
// of version old, or none.
func (b *box) whole(t *testing.T, version, old string) {
	t.Helper()
	said, err := exec.Command(b.program(), "version", "--json").Output()
	if err != nil || !strings.Contains(string(said), `"`+version+`"`) {
		t.Errorf("the program says %s (%v), want version %s", said, err, version)
	}
	want := map[string]bool{"sallyport-agent": true, "pid": true, "life.json": true, "sallyport-agent.refused.json": true}
	if old != "" {
		said, err := exec.Command(b.program()+".old", "version", "--json").Output()
		if err != nil || !strings.Contains(string(said), `"`+old+`"`) {
			t.Errorf("the old program says %s (%v), want version %s", said, err, old)
		}
		want["sallyport-agent.old"] = true
	}
	list, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if !want[f.Name()] {
			t.Errorf("%s is left", f.Name())
		}
	}
}

// patient is how long a link is waited for where it will come; hasty where it will not.
const (
	patient = 30 * time.Second
	hasty   = time.Second
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	b := newBox(t, true)
	if err := os.Chmod(b.program(), 0o750); err != nil {
		t.Fatal(err)
	}
	before := b.pid()
	var steps []string
	if err := b.updater(patient, func(s string) { steps = append(steps, s) }).Update(t.Context(), "1.0.0", "1.1.0", agent("1.1.0", "none")); err != nil {
		t.Fatal(err)
	}
	b.await(t, "1.1.0")
	b.whole(t, "1.1.0", "1.0.0")
	if b.pid() == before {
		t.Error("the service was not restarted")
	}
	if info, err := os.Stat(b.program()); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the new program's mode is %v (%v)", info.Mode(), err)
	}
	if text := strings.Join(steps, "\n"); !strings.Contains(text, "drain the service") || !strings.HasSuffix(text, "done: version 1.1.0") {
		t.Errorf("it said\n%s", text)
	}
	// And again: the old program is the last one, not the first.
	if err := b.updater(patient, nil).Update(t.Context(), "1.1.0", "1.2.0", agent("1.2.0", "none")); err != nil {
		t.Fatal(err)
	}
	b.whole(t, "1.2.0", "1.1.0")
	to, err := b.updater(patient, nil).Back(t.Context(), "1.2.0")
	if err != nil || to != "1.1.0" {
		t.Errorf("back to %s: %v", to, err)
	}
	b.await(t, "1.1.0")
	b.whole(t, "1.1.0", "1.2.0")
	if u := b.updater(patient, nil); u.Refused(agent("1.2.0", "none")).IsZero() || !u.Refused(agent("1.1.0", "none")).IsZero() {
		t.Error("a schedule would install again what an admin has left")
	}
}

// TestRollback: a new program that does not link, or does not stay up, is not kept, and the old one runs again.
func TestRollback(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]string{
		"unlinked": "version 1.1.0 was not kept: no link within 1s: the relay refused. Version 1.0.0 is back and has a link",
		"crash":    "version 1.1.0 was not kept: start it: it does not stay up. Version 1.0.0 is back and has a link",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, true)
			u := b.updater(hasty, nil)
			u.Service = &slowly{box: b, u: u}
			err := u.Update(t.Context(), "1.0.0", "1.1.0", agent("1.1.0", fault))
			if r, ok := errors.AsType[*RolledBack](err); !ok || r.Now != nil || err.Error() != want {
				t.Errorf("%v", err)
			}
			b.await(t, "1.0.0")
			b.whole(t, "1.0.0", "")
			if u.Refused(agent("1.1.0", fault)).IsZero() || !u.Refused(agent("1.1.1", fault)).IsZero() {
				t.Error("it is not known which program was refused")
			}
		})
	}
}

// slowly has the updater wait longer for the old program, which will link.
type slowly struct {
	*box
	u     *Updater
	tries int
}

func (s *slowly) Restart(ctx context.Context) error {
	if s.tries++; s.tries > 1 {
		s.u.Within = patient
	}
	return s.box.Restart(ctx)
}

// TestNothingIsChanged: what is found out before the place is touched leaves all as it was.
func TestNothingIsChanged(t *testing.T) {
	t.Parallel()
	b := newBox(t, true)
	before := b.pid()
	for name, c := range map[string]struct {
		program []byte
		want    string
	}{
		"mute":    {agent("1.1.0", "mute"), "does not run on this machine: exit status 2"},
		"liar":    {agent("1.1.0", "liar"), `it is version "6.6.6", its package is named for 1.1.0`},
		"garbage": {[]byte("\x7fELF nonsense"), "does not run on this machine"},
	} {
		err := b.updater(patient, nil).Update(t.Context(), "1.0.0", "1.1.0", c.program)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		b.whole(t, "1.0.0", "")
	}
	if b.pid() != before {
		t.Error("the service was restarted")
	}
	if _, err := b.updater(patient, nil).Back(t.Context(), "1.0.0"); err == nil || !strings.Contains(err.Error(), "no version to go back to") {
		t.Errorf("back to nothing: %v", err)
	}
}

// TestWithoutLink: an agent without a link is updated only if the admin says so, and has to run then.
func TestWithoutLink(t *testing.T) {
	t.Parallel()
	b := newBox(t, true)
	if err := write(b.program()+".tmp", agent("1.0.0", "unlinked"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(b.program()+".tmp", b.program()), os.Remove(b.life()), b.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.await(t, "1.0.0")
	u := b.updater(patient, nil)
	if err := u.Update(t.Context(), "1.0.0", "1.1.0", agent("1.1.0", "unlinked")); !errors.Is(err, ErrNoLink) || !strings.Contains(err.Error(), "the relay refused") {
		t.Errorf("%v", err)
	}
	b.whole(t, "1.0.0", "")
	u.WithoutLink = true
	if err := u.Update(t.Context(), "1.0.0", "1.1.0", agent("1.1.0", "unlinked")); err != nil {
		t.Error(err)
	}
	b.whole(t, "1.1.0", "1.0.0")
	if err := u.Update(t.Context(), "1.1.0", "1.2.0", agent("1.2.0", "crash")); !strings.Contains(fmt.Sprint(err), "does not stay up") {
		t.Errorf("%v", err)
	}
	b.whole(t, "1.1.0", "")
}

// TestServiceThatDoesNotRun is replaced, and not started.
func TestServiceThatDoesNotRun(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	if err := b.updater(hasty, nil).Update(t.Context(), "1.0.0", "1.1.0", agent("1.1.0", "unlinked")); err != nil {
		t.Error(err)
	}
	b.whole(t, "1.1.0", "1.0.0")
	if b.pid() != 0 {
		t.Error("it was started")
	}
}

// TestInterrupted: Ctrl-C while a link is waited for puts the old program back.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	b := newBox(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	u := b.updater(patient, func(step string) {
		if strings.HasPrefix(step, "wait up to") {
			cancel()
		}
	})
	err := u.Update(ctx, "1.0.0", "1.1.0", agent("1.1.0", "unlinked"))
	if r, ok := errors.AsType[*RolledBack](err); !ok || r.Now != nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v", err)
	}
	b.await(t, "1.0.0")
	b.whole(t, "1.0.0", "")
	if !u.Refused(agent("1.1.0", "unlinked")).IsZero() {
		t.Error("a program that nobody has judged is refused")
	}
}

// TestRollbackThatDoesNotStart: the old program is in its place, the reason is told, and the next run has another look.
func TestRollbackThatDoesNotStart(t *testing.T) {
	t.Parallel()
	b := newBox(t, true)
	u := b.updater(patient, nil)
	u.Service = broken{b}
	err := u.Update(t.Context(), "1.0.0", "1.1.0", agent("1.1.0", "none"))
	if r, ok := errors.AsType[*RolledBack](err); !ok || r.Now == nil || !strings.HasSuffix(err.Error(), "Version 1.0.0 is back in its place, but: start it: the manager is out of order") {
		t.Errorf("%v", err)
	}
	if v, err := Version(t.Context(), b.program()); err != nil || v != "1.0.0" {
		t.Errorf("version %s is in the place (%v)", v, err)
	}
	ended, err := b.updater(patient, nil).Settle(t.Context())
	if !ended || err != nil {
		t.Errorf("the next run: %v, %v", ended, err)
	}
	b.await(t, "1.0.0")
	b.whole(t, "1.0.0", "")
}

// broken stops the service, and cannot start it.
type broken struct{ *box }

func (b broken) Restart(context.Context) error {
	b.stop()
	return errors.New("the manager is out of order")
}

// TestFullDisk: a program that does not fit changes nothing.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	b := &box{loud.NeedsDisk(t, 3, "an update onto a full disk is not tried")}
	if err := write(b.program(), agent("1.0.0", "none"), 0o755); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		err := b.updater(hasty, nil).Update(t.Context(), "1.0.0", "1.1.0", append(agent("1.1.0", "none"), make([]byte, 3<<20)...))
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("try %d: %v", n+1, err)
		}
		b.whole(t, "1.0.0", "")
	}
}

// trial is an update by a process of its own, which kills itself before the step with the number KILL_AT.
func trial(dir string) int {
	b := &box{dir}
	kill, err := strconv.Atoi(os.Getenv("KILL_AT"))
	if err != nil {
		panic(err)
	}
	next, err := os.ReadFile(os.Getenv("NEXT"))
	if err != nil {
		panic(err)
	}
	n := 0
	u := b.updater(hasty, func(string) {
		if n++; n == kill {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	if os.Getenv("FAULT") == "none" {
		u.Within = patient
	}
	_ = u.Update(context.Background(), "1.0.0", "1.1.0", next)
	return 0
}

// TestKilledAtEachStep: whenever an update is killed, a complete program lies in its place, and the next run ends what was
// begun: a good program is kept if it got into its place, one that does not link never is.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	const steps = 9 // of a rollback; an update has 7
	for _, fault := range []string{"none", "unlinked"} {
		next := filepath.Join(t.TempDir(), "next")
		if err := os.WriteFile(next, agent("1.1.0", fault), 0o600); err != nil {
			t.Fatal(err)
		}
		for at := 1; at <= steps; at++ {
			t.Run(fmt.Sprintf("%s at %d", fault, at), func(t *testing.T) {
				t.Parallel()
				b := newBox(t, true)
				c := exec.Command(os.Args[0])
				c.Env = append(os.Environ(), "UPDATE_TRIAL="+b.dir, "NEXT="+next, "FAULT="+fault, "KILL_AT="+strconv.Itoa(at))
				out, err := c.CombinedOutput()
				e, killed := errors.AsType[*exec.ExitError](err)
				killed = killed && e.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
				if want := fault == "unlinked" || at <= 7; killed != want {
					t.Fatalf("it was killed: %v, want %v (%v)\n%s", killed, want, err, out)
				}
				said, err := exec.Command(b.program(), "version", "--json").Output()
				if err != nil {
					t.Fatalf("no working program lies in the place: %v", err)
				}
				u := b.updater(hasty, nil)
				if fault == "none" {
					u.Within = patient
				} else {
					u.Service = &slowly{box: b, u: u}
				}
				ended, err := u.Settle(t.Context())
				if _, rolled := errors.AsType[*RolledBack](err); err != nil && !rolled {
					t.Fatal(err)
				}
				version, old := "1.0.0", ""
				if fault == "none" && strings.Contains(string(said), "1.1.0") {
					version, old = "1.1.0", "1.0.0"
				}
				b.await(t, version)
				b.whole(t, version, old)
				if again, err := u.Settle(t.Context()); again || err != nil {
					t.Errorf("a second look finds something: %v, %v (the first: %v)", again, err, ended)
				}
			})
		}
	}
}

// TestPublisher: a program of another publisher is not put in place and not even run; going back asks for none.
func TestPublisher(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	u := b.updater(patient, nil)
	var looked []string
	u.sealOf = func(path string) (seal, error) {
		looked = append(looked, filepath.Base(path))
		return seal{signed: path == b.program(), publisher: "CN=Example"}, nil
	}
	next := agent("1.1.0", "mute") // which would be seen if it ran
	if err := u.Update(t.Context(), "1.0.0", "1.1.0", next); !errors.Is(err, ErrPublisher) {
		t.Errorf("an unsigned program: %v", err)
	}
	if err := u.Admits(next); !errors.Is(err, ErrPublisher) {
		t.Errorf("an unsigned program, asked for: %v", err)
	}
	b.whole(t, "1.0.0", "")
	if len(looked) != 4 || looked[0] != "sallyport-agent" || looked[1] != "sallyport-agent.new" {
		t.Errorf("it looked at %v", looked)
	}
	u.AnyPublisher = true
	if err := u.Update(t.Context(), "1.0.0", "1.1.0", agent("1.1.0", "none")); err != nil {
		t.Error(err)
	}
	u.AnyPublisher = false
	if to, err := u.Back(t.Context(), "1.1.0"); err != nil || to != "1.0.0" {
		t.Errorf("back to %s: %v", to, err)
	}
	b.whole(t, "1.0.0", "1.1.0")
}
