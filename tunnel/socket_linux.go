package tunnel

import (
	"errors"
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

// A writeNow writes to a socket without waiting for room. One goroutine at a time may use it.
type writeNow struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // made once: it would be allocated for each write

	p   []byte
	n   int
	err error
}

// newWriteNow gives nil where conn is no socket.
func newWriteNow(conn net.Conn) *writeNow {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	w := &writeNow{raw: raw}
	w.try = func(fd uintptr) bool {
		for {
			w.n, w.err = syscall.Write(int(fd), w.p)
			if !errors.Is(w.err, syscall.EINTR) {
				return true // and do not wait
			}
		}
	}
	return w
}

// write writes as much of p as the kernel takes at once.
func (w *writeNow) write(p []byte) (int, error) {
	w.p = p
	err := w.raw.Write(w.try)
	n := max(w.n, 0)
	w.p, w.n = nil, 0
	switch {
	case err != nil: // it was not tried: the connection is closed, or its deadline has passed
		return 0, err
	case errors.Is(w.err, syscall.EAGAIN):
		return 0, nil
	}
	return n, w.err
}
