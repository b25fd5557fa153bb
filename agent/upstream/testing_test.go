package upstream

import (
	"io"
	"sync/atomic"
)

// A countingBody knows whether anybody has read it.
type countingBody struct {
	io.Reader
	read atomic.Bool
}

func (b *countingBody) Read(p []byte) (int, error) { b.read.Store(true); return b.Reader.Read(p) }
func (b *countingBody) Close() error               { return nil }
