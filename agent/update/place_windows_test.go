package update

import (
	"os"
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
	for _, path := range []string{p.old(), p.staged()} {
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
	if err := p.swap(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{p.program: "next", p.old(): "present"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
}
