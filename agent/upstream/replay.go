package upstream

import (
	"errors"
	"io"
	"sync"
)

// A replay is a request's body that can be sent more than once while it is small. Attempts read it one after another; an
// attempt that was given up may still be waiting for the caller's next bytes, and what it gets is kept for the next one.
type replay struct {
	src    io.ReadCloser
	length int64 // -1: not known
	whole  bool  // kept is all of it, from the start

	turn sync.Mutex // held while src is read

	mu   sync.Mutex // guards what follows
	keep bool
	kept []byte
	read int64 // bytes taken from src
	err  error // src's end, or its fault
}

var errOutgrown = errors.New("the body has outgrown what is kept for sending it again")

// newReplay takes a request's body; keep says whether it may have to be sent again.
func newReplay(src io.ReadCloser, length int64, keep bool) *replay {
	return &replay{src: src, length: length, keep: keep && length <= replayLimit}
}

// small says that the body will certainly be kept whole.
func (b *replay) small() bool { return b.keep && b.length >= 0 }

// fill takes a small body that has arrived whole, so that it leaves together with the head.
func (b *replay) fill(from *streamBody) error {
	whole, err := from.atHand(b.length)
	if err != nil || whole == nil {
		return err
	}
	b.keep, b.whole, b.kept, b.read, b.err = true, true, whole, int64(len(whole)), io.EOF
	return nil
}

// rewindable says that the body can still be sent from its beginning.
func (b *replay) rewindable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read == int64(len(b.kept))
}

// reader gives the body from its beginning.
func (b *replay) reader() io.Reader { return &replayReader{b: b} }

type replayReader struct {
	b   *replay
	off int64
}

func (r *replayReader) Read(p []byte) (int, error) {
	if n, ok, err := r.again(p); ok {
		return n, err
	}
	r.b.turn.Lock()
	defer r.b.turn.Unlock()
	// An earlier attempt's read may have ended while this one waited for its turn.
	if n, ok, err := r.again(p); ok {
		return n, err
	}
	n, err := r.b.src.Read(p)
	r.b.took(p[:n], err)
	r.off += int64(n)
	return n, err
}

// again serves what has been read before.
func (r *replayReader) again(p []byte) (n int, ok bool, err error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.off < int64(len(b.kept)):
		n = copy(p, b.kept[r.off:])
		r.off += int64(n)
		return n, true, nil
	case r.off != b.read:
		return 0, true, errOutgrown
	case b.err != nil:
		return 0, true, b.err
	}
	return 0, false, nil
}

func (b *replay) took(p []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += int64(len(p))
	if b.keep {
		if len(b.kept)+len(p) > replayLimit {
			b.keep, b.kept = false, nil
		} else {
			b.kept = append(b.kept, p...)
		}
	}
	b.err = err
}
