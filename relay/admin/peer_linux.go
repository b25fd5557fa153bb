package admin

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerOf names the process at the other end: the kernel tells its user ID (unix(7), SO_PEERCRED).
func peerOf(c net.Conn) string {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return "unknown"
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return "unknown"
	}
	who := "unknown"
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			who = fmt.Sprintf("uid:%d", cred.Uid)
		}
	})
	return who
}

// refused reports whether a dial failed because nobody listens.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
