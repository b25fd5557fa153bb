//go:build linux

package system

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The binaries under test. Racy are built like the test itself, with the race detector if it has it; lean are built as
// they are shipped, for tests that measure memory. SALLYPORT_RELAY and SALLYPORT_AGENT name programs of another version to
// use instead (test/skew).
type binaries struct{ relay, agent string }

var racy, lean binaries

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "system")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if lean, err = build(filepath.Join(dir, "lean"), "-trimpath"); err == nil {
		racy = lean
		if raceEnabled {
			racy, err = build(filepath.Join(dir, "racy"), "-race")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "system:", err)
		return 1
	}
	racy, lean = racy.replaced(), lean.replaced()
	return m.Run()
}

func (b binaries) replaced() binaries {
	return binaries{cmp.Or(os.Getenv("SALLYPORT_RELAY"), b.relay), cmp.Or(os.Getenv("SALLYPORT_AGENT"), b.agent)}
}

func build(dir, flag string) (binaries, error) {
	b := binaries{filepath.Join(dir, "sallyport-relay"), filepath.Join(dir, "sallyport-agent")}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return b, err
	}
	cmd := exec.Command("go", "build", flag, "-o", dir+"/", "sallyport/cmd/sallyport-relay", "sallyport/cmd/sallyport-agent")
	if out, err := cmd.CombinedOutput(); err != nil {
		return b, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return b, nil
}
