package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// lockPoll is how often a lock that somebody holds is tried again.
const lockPoll = 50 * time.Millisecond

// Lock takes the lock file of this name, which the operating system gives back when the process ends in whatever way. It
// waits until ctx ends.
func (d Dir) Lock(ctx context.Context, name string) (unlock func(), err error) {
	path := d.Path(name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := d.adoptFile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		ok, err := tryLock(f)
		if ok {
			return func() { f.Close() }, nil
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		}
	}
}

// Held reports whether a process holds the lock file of this name; it makes none.
func (d Dir) Held(name string) (bool, error) {
	f, err := os.OpenFile(d.Path(name), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at a lock: %w", err)
	}
	defer f.Close() // gives it back
	ok, err := tryLock(f)
	return !ok && err == nil, err
}
