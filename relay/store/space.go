package store

import (
	"errors"
	"fmt"
)

// ErrNoSpace says that there is too little room on the disk for a write to be begun.
var ErrNoSpace = errors.New("the disk is full")

const (
	// reserve is how much must be free for a change to be written. JetStream does not survive a full disk: a bucket whose
	// write fails takes none any more until it is opened anew. So the store stops well before, with room for what the
	// server writes besides: its index, and the copy of a block that it compacts.
	reserve = 32 << 20
	// logReserve is the same for the access log and for objects, which are to leave room for changes.
	logReserve = 64 << 20
)

// A fullError words ErrNoSpace for an admin.
type fullError struct {
	dir        string
	free, need uint64
}

func (e *fullError) Error() string {
	return fmt.Sprintf("the disk of %s is full: %d MB free, %d MB needed; free some space", e.dir, e.free>>20, e.need>>20)
}

func (e *fullError) Is(target error) bool { return target == ErrNoSpace }

// room reports with ErrNoSpace that less than need is free. A system that cannot tell is believed to have room.
func (s *Store) room(need uint64) error {
	if free, err := s.free(s.dir); err == nil && free < need {
		return &fullError{dir: s.dir, free: free, need: need}
	}
	return nil
}
