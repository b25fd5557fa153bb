//go:build !windows

// Package nodump keeps a program's memory, with the secrets in it, out of files when it crashes.
package nodump

import "golang.org/x/sys/unix"

// Set has the kernel write no core file of this process, whatever GOTRACEBACK, ulimit or a unit say. systemd-coredump and
// apport keep to it too. Who may debug the process may still read its memory.
func Set() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // to lower a limit is always allowed
}
