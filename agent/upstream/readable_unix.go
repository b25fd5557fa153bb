//go:build unix

package upstream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// readable says whether a read of the idle connection would return at once: bytes, an end or an error. It asks the
// kernel without waiting, which is cheaper than a reader per idle connection.
func readable(sc syscall.Conn) bool {
	rc, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	ready := true
	err = rc.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, perr := unix.Poll(fds, 0)
		for perr == unix.EINTR {
			n, perr = unix.Poll(fds, 0)
		}
		ready = perr != nil || n > 0
	})
	return err != nil || ready
}
