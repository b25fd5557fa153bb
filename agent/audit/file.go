package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"sallyport/agent/state"
)

const (
	subdirectory = "audit"
	current      = "audit.jsonl"
	asideForm    = "20060102T150405.000000000Z"
)

// Open opens the record in the agent's state directory, for appending. A last line that a crash cut off is ended, and
// an event says so.
func Open(dir state.Dir, o Options) (*Log, error) {
	o = o.withDefaults()
	sub, err := dir.Sub(subdirectory)
	if err != nil {
		return nil, fmt.Errorf("open the audit record: %w", err)
	}
	f := &rotated{dir: sub, maxBytes: o.MaxBytes, maxFiles: o.MaxFiles, put: (*os.File).Write}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("open the audit record: %w", err)
	}
	return &Log{queue: make(chan Event, o.Queue), file: f, log: o.Log}, nil
}

// A rotated file is set aside when it is full; the oldest of those set aside are deleted.
type rotated struct {
	dir      state.Dir
	maxBytes int64
	maxFiles int
	put      func(*os.File, []byte) (int, error) // (*os.File).Write, or a test's full disk
	f        *os.File                            // nil after an error: the next write opens it again
	size     int64
	dirty    bool
}

func (r *rotated) open() error {
	path := r.dir.Path(current)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = r.dir.Adopt(f) // 'join' run by root must not leave a record that the service cannot go on with
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.f, r.size = f, info.Size()
	if err := r.mendEnd(); err != nil {
		return errors.Join(fmt.Errorf("mend the end of %s: %w", path, err), r.close())
	}
	return nil
}

// mendEnd ends a line that has no end.
func (r *rotated) mendEnd() error {
	if r.size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := r.f.ReadAt(last[:], r.size-1); err != nil || last[0] == '\n' {
		return err
	}
	return r.append(appendLine([]byte{'\n'}, Event{Time: time.Now(), Kind: Repair}))
}

// write appends whole lines.
func (r *rotated) write(lines []byte) error {
	if r.f == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	if r.size > 0 && r.size+int64(len(lines)) > r.maxBytes {
		if err := r.rotate(); err != nil {
			return err
		}
	}
	return r.append(lines)
}

// append writes; after a short write (disk full) the file is cut back to whole lines, or reopened and mended later.
func (r *rotated) append(lines []byte) error {
	n, err := r.put(r.f, lines)
	if err != nil {
		if n > 0 && r.f.Truncate(r.size) != nil {
			r.size += int64(n)
		}
		return errors.Join(err, r.close())
	}
	r.size += int64(n)
	r.dirty = true
	return nil
}

func (r *rotated) rotate() error {
	if err := errors.Join(r.sync(), r.close()); err != nil {
		return err
	}
	// The names sort by time; a clock that was set back must not make two of them equal.
	aside := ""
	for now := time.Now().UTC(); ; now = now.Add(1) {
		aside = "audit-" + now.Format(asideForm) + ".jsonl"
		if _, err := os.Lstat(r.dir.Path(aside)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
	}
	if err := os.Rename(r.dir.Path(current), r.dir.Path(aside)); err != nil {
		return err
	}
	if err := r.prune(); err != nil {
		return err
	}
	return r.open()
}

// prune deletes the oldest of the files set aside.
func (r *rotated) prune() error {
	names, err := r.dir.Names()
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		return !strings.HasPrefix(n, "audit-") || !strings.HasSuffix(n, ".jsonl")
	})
	slices.Sort(names)
	for len(names) > r.maxFiles {
		if err := r.dir.Remove(names[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		names = names[1:]
	}
	return nil
}

func (r *rotated) sync() error {
	if r.f == nil || !r.dirty {
		return nil
	}
	err := r.f.Sync()
	r.dirty = err != nil
	return err
}

func (r *rotated) close() error {
	if r.f == nil {
		return nil
	}
	f := r.f
	r.f = nil
	return f.Close()
}
