package systemd

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is CLOCK_MONOTONIC, by which systemd tells whether a reload began after it was asked for.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0 // it is there on every Linux
	}
	return time.Duration(now.Nano())
}

// stream names a file as JOURNAL_STREAM does: device and inode, in decimal.
func stream(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}

// rights is what goes with a datagram that passes a file on (unix(7), SCM_RIGHTS).
func rights(fd int) []byte { return syscall.UnixRights(fd) }
