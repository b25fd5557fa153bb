//go:build !linux

package tunnel

import "net"

// boundUnsent: Windows and the BSDs size the queue by what the line carries (on Windows, ideal send backlog).
func boundUnsent(net.Conn) {}
