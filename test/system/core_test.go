//go:build linux

package system

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var noCore = regexp.MustCompile(`(?m)^Max core file size +0 +0 `)

// TestNoCoreDumps: a program that is made to crash where everything asks for a core file writes none, so that no secret gets out of
// memory that way.
func TestNoCoreDumps(t *testing.T) {
	t.Parallel()
	b := ready(t, lean, []string{"web"}, api("web", newUpstream(t).url, "", everything))
	dir := t.TempDir()
	crash := func(name string, argv ...string) (*exec.Cmd, syscall.WaitStatus) {
		cmd := exec.Command("sh", append([]string{"-c", `ulimit -c unlimited && exec "$@"`, "sh"}, argv...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOTRACEBACK=crash")
		log := &transcript{}
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if name != "" {
			eventually(t, 20*time.Second, name+" runs", func() bool {
				return strings.Contains(log.String(), "agent starts") || strings.Contains(log.String(), "the relay is ready")
			})
			limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
			if err != nil || !noCore.Match(limits) {
				t.Errorf("%s may write a core file (%v):\n%s", name, err, limits)
			}
			if err := cmd.Process.Signal(syscall.SIGABRT); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait() // it was killed
		if !strings.Contains(log.String(), "SIGABRT") && name != "" {
			t.Errorf("%s did not crash: %s", name, log.String())
		}
		return cmd, cmd.ProcessState.Sys().(syscall.WaitStatus)
	}
	if _, status := crash("", "sh", "-c", "kill -ABRT $$"); !status.CoreDump() {
		t.Log("this machine writes no core files at all: the programs' limits alone are looked at")
	}
	b.agent.stop(t)
	b.relay.stop(t)
	for name, argv := range map[string][]string{
		"agent": {b.bin.agent, "run", "--config", b.path("agent.yaml")},
		"relay": {b.bin.relay, "serve", "--config", b.path("relay.yaml")},
	} {
		if _, status := crash(name, argv...); status.CoreDump() {
			t.Errorf("%s has dumped core", name)
		}
	}
}
