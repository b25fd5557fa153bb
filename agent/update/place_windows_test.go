package update

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// TestAProgramThatIsHeldForAMoment: a virus scanner that looks at the new program, or a process of the one before last that has not quite
// gone, does not undo an update.
func TestAProgramThatIsHeldForAMoment(t *testing.T) {
	t.Parallel()
	p := place{filepath.Join(t.TempDir(), "sallyport-agent.exe")}
	for path, text := range map[string]string{p.program: "present", p.staged(): "next", p.old(): "before"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(path string) {
		t.Helper()
		name, err := windows.UTF16PtrFromString(path)
		if err != nil {
			t.Fatal(err)
		}
		h, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err == nil {
			t.Fatalf("%s is not held", path)
		}
		time.AfterFunc(5*tryAgain, func() { windows.CloseHandle(h) })
	}
	hold(p.old())
	hold(p.staged())
	if err := p.swap(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{p.program: "next", p.old(): "present"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
	if err := os.WriteFile(p.staged(), []byte("cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	hold(p.staged())
	if err := p.unstage(); err != nil {
		t.Error(err)
	}
}

// TestAProgramThatRunsStill: an update that is killed leaves the program running that it has asked for its version, perhaps for long. The
// next one gets past it, and the one after has it away.
func TestAProgramThatRunsStill(t *testing.T) {
	if os.Getenv("SALLYPORT_TEST_RUNS") != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	p := place{filepath.Join(t.TempDir(), "sallyport-agent.exe")}
	if err := os.WriteFile(p.staged(), program, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p.staged(), "-test.run=^TestAProgramThatRunsStill$")
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST_RUNS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p.staged()); err == nil {
		t.Fatal("a program that runs can be removed here: that proves nothing")
	}
	if err := p.unstage(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.staged()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the program is in its place still: %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(tryAgain) {
		p.sweep()
		if _, err := os.Stat(p.failed()); errors.Is(err, fs.ErrNotExist) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("what has ended is there still: %v", err)
		}
	}
}
