//go:build !linux

package admin

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// peerOf has no portable way to ask; the socket's permissions have decided who may be here.
func peerOf(net.Conn) string { return "local" }

// refused reports whether a dial failed because nobody listens. Windows has an error number of its own for it.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "refused")
}
