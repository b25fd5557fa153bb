package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"sallyport/agent/state"
)

// followEvery is how often a record that is followed is looked at.
const followEvery = 250 * time.Millisecond

// Follow is Events, and goes on with what is recorded until ctx ends, over files that are set aside meanwhile too. That ctx has
// ended is no error.
func Follow(ctx context.Context, dir state.Dir, each func([]byte, Event) error) (skipped int, err error) {
	sub, err := dir.Sub(subdirectory)
	if err != nil {
		return 0, fmt.Errorf("open the audit record: %w", err)
	}
	f := &follower{dir: sub, each: each}
	defer f.close()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			if more, err = f.step(ctx); err != nil {
				return f.skipped, fmt.Errorf("read the audit record: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return f.skipped, nil
		case <-tick.C:
		}
	}
}

// A follower reads one file after the other.
type follower struct {
	dir     state.Dir
	each    func([]byte, Event) error
	skipped int

	file *os.File // nil before the first
	at   int64    // where its next line begins: one that is being written, or that a restart cuts off, is read again
}

func (f *follower) close() {
	if f.file != nil {
		f.file.Close() // it was only read
	}
}

// step reads what there is in the file, and then takes the next one. It says whether there may be more.
func (f *follower) step(ctx context.Context) (more bool, err error) {
	next, err := f.next() // before the lines are read: a file that has a successor grows no more
	if err != nil {
		return false, err
	}
	if f.file != nil {
		if err := f.lines(ctx); err != nil {
			return false, errors.Join(err, closed(next))
		}
	}
	if next == nil {
		return false, nil
	}
	f.close()
	f.file, f.at = next, 0
	return true, nil
}

func closed(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// lines gives the whole lines that were not read yet.
func (f *follower) lines(ctx context.Context) error {
	r := bufio.NewReaderSize(io.NewSectionReader(f.file, f.at, math.MaxInt64-f.at), maxLine)
	long := false // the rest of a line that is none of ours
	for ctx.Err() == nil {
		line, err := r.ReadSlice('\n')
		var e Event
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = true
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case long || json.Unmarshal(line, &e) != nil:
			f.skipped++
			long = false
		default:
			if err := f.each(line, e); err != nil {
				return err
			}
		}
		f.at += int64(len(line))
	}
	return nil
}

// next opens the file after the present one, at first the oldest; nil if there is none yet.
func (f *follower) next() (*os.File, error) {
	before, err := asides(f.dir)
	if err != nil {
		return nil, err
	}
	names := append(slices.Clone(before), current)
	at := 0
	if f.file != nil {
		info, err := f.file.Stat()
		if err != nil {
			return nil, err
		}
		// A file that retention has deleted is in no place: what is left begins after it.
		at = 1 + slices.IndexFunc(names, func(name string) bool {
			other, err := os.Stat(f.dir.Path(name))
			return err == nil && os.SameFile(info, other)
		})
	}
	if at == len(names) {
		return nil, nil
	}
	next, err := openToRead(f.dir.Path(names[at]))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	// One that was set aside meanwhile has left its name to a newer one.
	if after, err := asides(f.dir); err != nil || !slices.Equal(before, after) {
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}
