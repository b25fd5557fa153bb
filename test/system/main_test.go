//go:build linux

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The binaries under test. Racy are built like the test itself, with the race detector if it has it; lean are built as
// they are shipped, for tests that measure memory.
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
	return m.Run()
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
