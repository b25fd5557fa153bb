package tunnel

import (
	"net"
	"syscall"
	"testing"
)

// A sender keeps little in its system's buffers: what is there goes before each ping, however slow the line is.
func TestLittleWaitsInTheSystem(t *testing.T) {
	t.Parallel()
	rws, aws := sockets(t)
	New(rws, RelaySide, Options{})
	New(aws, AgentSide, Options{})
	for side, conn := range map[string]net.Conn{"relay": rws.NetConn(), "agent": aws.NetConn()} {
		kernels, ok := conn.(syscall.Conn)
		for ; !ok; kernels, ok = conn.(syscall.Conn) {
			if conn = unwrap(conn); conn == nil {
				t.Fatalf("%s: there is no connection of the kernel's", side)
			}
		}
		raw, err := kernels.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var most int
		var asked error
		if err := raw.Control(func(fd uintptr) {
			most, asked = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowAt)
		}); err != nil {
			t.Fatal(err)
		}
		if asked != nil || most <= 0 || most > 128<<10 {
			t.Errorf("%s: the system may hold %d bytes unsent, %v; want 128 KiB at most", side, most, asked)
		}
	}
}
