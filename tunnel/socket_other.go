//go:build !linux

package tunnel

import (
	"errors"
	"net"
)

// boundUnsent: Windows and the BSDs size the queue by what the line carries (on Windows, ideal send backlog).
func boundUnsent(net.Conn) {}

// A writeNow writes to a socket without waiting for room, where that can be done.
type writeNow struct{}

func newWriteNow(net.Conn) *writeNow { return nil }

func (*writeNow) write([]byte) (int, error) { return 0, errors.ErrUnsupported }
