package tunnel

import (
	"net"
	"syscall"
)

const (
	// mostUnsent is how many bytes of a link the kernel takes before it has sent them. Left alone it takes megabytes, which
	// on a slow line are in front of every ping, window and small answer for half a minute. It is two whole messages, so
	// that one can be put together while the other leaves.
	mostUnsent = 128 << 10
	// tcpNotSentLowAt is TCP_NOTSENT_LOWAT of linux/tcp.h, which package syscall does not have. See tcp(7).
	tcpNotSentLowAt = 25
)

// boundUnsent keeps the kernel's queue for the link short, so that what comes first in the link's own order leaves first.
// Where the connection is none of the kernel's, nothing is lost but that.
func boundUnsent(conn net.Conn) {
	for {
		if c, ok := conn.(syscall.Conn); ok {
			if raw, err := c.SyscallConn(); err == nil {
				_ = raw.Control(func(fd uintptr) {
					_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowAt, mostUnsent)
				})
			}
			return
		}
		if conn = unwrap(conn); conn == nil {
			return
		}
	}
}
