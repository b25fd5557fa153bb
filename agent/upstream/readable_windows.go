package upstream

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// pollRDNorm is POLLRDNORM of winsock2.h.
const pollRDNorm = 0x0100

// pollFD is WSAPOLLFD of winsock2.h.
type pollFD struct {
	fd      uintptr
	events  int16
	revents int16
}

// wsaPoll is not in x/sys/windows.
var wsaPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

// readable says whether a read of the idle connection would return at once: bytes, an end or an error. It asks the
// system without waiting, which is cheaper than a reader per idle connection.
func readable(sc syscall.Conn) bool {
	rc, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	ready := true
	err = rc.Control(func(fd uintptr) {
		p := pollFD{fd: fd, events: pollRDNorm}
		n, _, _ := wsaPoll.Call(uintptr(unsafe.Pointer(&p)), 1, 0)
		ready = int32(n) != 0
	})
	return err != nil || ready
}
