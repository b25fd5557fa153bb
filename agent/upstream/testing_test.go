package upstream

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// A countingBody knows whether anybody has read it.
type countingBody struct {
	io.Reader
	read atomic.Bool
}

func (b *countingBody) Read(p []byte) (int, error) { b.read.Store(true); return b.Reader.Read(p) }
func (b *countingBody) Close() error               { return nil }

// A sink is a connection that nothing comes from.
type sink struct {
	net.Conn
	closed atomic.Bool
}

func (s *sink) Close() error                     { s.closed.Store(true); return nil }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }
