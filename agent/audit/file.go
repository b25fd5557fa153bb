package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/agent/state"
	"sallyport/internal/backlog"
)

const (
	subdirectory = "audit"
	current      = "audit.jsonl"
	headFile     = "audit.head"
	lockFile     = "audit.lock"
	asideForm    = "20060102T150405.000000000Z"
	// sealRoom is left in a file for the seal at its end.
	sealRoom = 512
	// sealEvery bounds what can be changed without a trace, if there was anything new.
	sealEvery = time.Minute
	// lockTimeout bounds the wait for another process that ends: two cannot continue one chain.
	lockTimeout = 10 * time.Second
)

// ErrInUse is wrapped by Open's error while another process writes the record.
var ErrInUse = errors.New("another process writes this record; stop it first")

// Open opens the record in the agent's state directory, for appending, and for this process alone until Run has ended. A
// last line that a crash cut off is removed, and an event says so.
func Open(dir state.Dir, o Options) (*Log, error) {
	o = o.withDefaults()
	sub, err := dir.Sub(subdirectory)
	if err != nil {
		return nil, fmt.Errorf("open the audit record: %w", err)
	}
	if held, err := sub.Held(lockFile); err == nil && held {
		o.Log.Info("another process writes the record, an agent that ends perhaps; waiting for it", "at_most", lockTimeout)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), lockTimeout, ErrInUse)
	defer cancel()
	unlock, err := sub.Lock(ctx, lockFile)
	if err != nil {
		return nil, fmt.Errorf("open the audit record: %w", err)
	}
	f := &rotated{
		dir: sub, maxBytes: o.MaxBytes, maxFiles: o.MaxFiles, maxAge: o.MaxAge, key: o.Key, told: o.Sealed, forward: o.Written, unlock: unlock, put: (*os.File).Write, sealAt: time.Now(),
	}
	if err := f.resume(); err != nil {
		return nil, fmt.Errorf("open the audit record: %w", errors.Join(err, f.end()))
	}
	if f.sealed > 0 {
		f.tell(f.sealAt)
	}
	calls := "they go on and are counted"
	if o.Refuse {
		calls = "they are refused"
	}
	return &Log{queue: backlog.New[entry](o.Queue), seals: make(chan chan<- error), file: f, log: o.Log, calls: calls}, nil
}

// InUse reports whether a process is writing the record of the agent with this state directory, and so runs.
func InUse(dir state.Dir) bool {
	held, err := dir.Held(filepath.Join(subdirectory, lockFile))
	return err == nil && held
}

// A rotated file is set aside when it is full; the oldest of those set aside are deleted.
type rotated struct {
	dir      state.Dir
	maxBytes int64
	maxFiles int
	maxAge   time.Duration // 0: none
	agedAt   time.Time     // when that was looked at last
	key      func() crypto.Signer
	told     func(Head)   // nil: nobody
	forward  func([]byte) // nil: nobody
	unlock   func()
	put      func(*os.File, []byte) (int, error) // (*os.File).Write, or a test's full disk
	f        *os.File                            // nil after an error: the next write opens it again
	size     int64                               // of whole records
	dirty    bool
	buf      []byte

	link   link      // the last record on the disk
	first  []Event   // what is to be written before anything else
	sealed uint64    // the number of the last seal, if no record follows it
	sealAt time.Time // when a seal was last tried
}

// open opens the file again after an error of the disk. What is in it beyond the last whole record was written in part.
func (r *rotated) open() error {
	size := r.size
	if err := r.openFile(); err != nil {
		return err
	}
	switch {
	case r.size > size:
		if err := r.f.Truncate(size); err != nil {
			return errors.Join(err, r.close())
		}
		if !slices.ContainsFunc(r.first, func(e Event) bool { return e.Kind == Repair }) {
			r.first = append(r.first, repair(r.size-size))
		}
		r.size = size
	case r.size == 0:
		r.begin(Event{})
	}
	return nil
}

func (r *rotated) openFile() error {
	f, err := os.OpenFile(r.dir.Path(current), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
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
	return nil
}

// write appends events.
func (r *rotated) write(events []entry) error {
	if r.f == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	lines, end := r.lines(events)
	if r.size > 0 && r.size+int64(len(lines))+sealRoom > r.maxBytes {
		if err := r.rotate(); err != nil {
			return err
		}
		lines, end = r.lines(events)
	}
	return r.append(lines, end)
}

// lines are the events as they follow the last record on the disk, after what is to be written first.
func (r *rotated) lines(events []entry) ([]byte, link) {
	b, at := r.buf[:0], r.link
	for _, e := range r.first {
		if e.Kind == Begin && at.n > 0 {
			e.Last, e.Head = at.n, at.head()
		}
		b, at = at.append(b, e)
	}
	for _, e := range events {
		b, at = at.append(b, e.Event)
	}
	r.buf = b
	return b, at
}

// append writes; after a short write (disk full) the file is cut back to whole lines, or reopened and mended later.
func (r *rotated) append(lines []byte, end link) error {
	n, err := r.put(r.f, lines)
	if err != nil {
		if n > 0 {
			_ = r.f.Truncate(r.size) // or open finds the rest
		}
		return errors.Join(err, r.close())
	}
	r.size += int64(n)
	r.dirty = true
	r.link, r.first = end, nil
	if r.forward != nil {
		for line := range bytes.Lines(lines) {
			r.forward(line[:len(line)-1])
		}
	}
	return nil
}

// keep does what time demands: a sync, and a seal every minute in which there was something new.
func (r *rotated) keep(now time.Time) error {
	if r.maxAge > 0 && now.Sub(r.agedAt) >= min(ageEvery, r.maxAge/ageParts) {
		r.agedAt = now
		if err := r.expire(now); err != nil {
			return err
		}
	}
	if now.Sub(r.sealAt) >= sealEvery {
		return r.seal()
	}
	return r.sync()
}

const (
	// ageParts is into how many files the time is divided for which records are kept: so much longer the oldest may stay.
	ageParts = 10
	// ageEvery is how often ages are looked at.
	ageEvery = 10 * time.Minute
)

// expire sets a file aside that has been written to for long, and deletes those whose last record is too old.
func (r *rotated) expire(now time.Time) error {
	if began, err := r.began(); err != nil {
		return err
	} else if !began.IsZero() && now.Sub(began) >= r.maxAge/ageParts {
		if err := r.rotate(); err != nil {
			return err
		}
	}
	names, err := asides(r.dir)
	if err != nil {
		return err
	}
	oldest := asideName(now.Add(-r.maxAge)) // the names are the times when files were set aside
	old := 0
	for old < len(names) && names[old] < oldest {
		old++
	}
	return r.forget(names[:old])
}

// began is the time of the file's first record; zero if there is none.
func (r *rotated) began() (time.Time, error) {
	f, err := os.Open(r.dir.Path(current))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, lineLimit)).ReadBytes('\n')
	var e struct{ Time time.Time }
	if err != nil || json.Unmarshal(line, &e) != nil {
		return time.Time{}, nil // it is empty, or not a record; 'audit verify' says so
	}
	return e.Time, nil
}

// lineLimit is more than any record has.
const lineLimit = 64 << 10

// seal signs what is on record, unless that is done, and puts it on the disk.
func (r *rotated) seal() error {
	r.sealAt = time.Now()
	if r.key == nil || r.link.n == r.sealed {
		return r.sync()
	}
	if r.f == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	lines, at := r.lines(nil)
	start := len(lines)
	lines, end, err := at.appendSeal(lines, r.key(), r.sealAt)
	if err != nil {
		return err
	}
	if err := errors.Join(r.append(lines, end), r.sync()); err != nil {
		return err
	}
	r.sealed = end.n
	if err := r.dir.Write(headFile, lines[start:]); err != nil {
		return err
	}
	r.tell(r.sealAt)
	return nil
}

// tell tells of the seal at the end of the record.
func (r *rotated) tell(at time.Time) {
	if r.told != nil {
		r.told(Head{N: r.link.n, Hash: r.link.head(), Time: at})
	}
}

func (r *rotated) rotate() error {
	if err := errors.Join(r.seal(), r.sync(), r.close()); err != nil {
		return err
	}
	// The names sort by time; a clock that was set back must not change their order, nor make two of them equal.
	names, err := asides(r.dir)
	if err != nil {
		return err
	}
	aside := asideName(time.Now())
	if n := len(names); n > 0 && aside <= names[n-1] {
		last, err := time.Parse("audit-"+asideForm+".jsonl", names[n-1])
		if err != nil {
			return fmt.Errorf("%s is none of the record's names; move it away: %w", r.dir.Path(names[n-1]), err)
		}
		aside = asideName(last.Add(1))
	}
	if err := os.Rename(r.dir.Path(current), r.dir.Path(aside)); err != nil {
		return err
	}
	r.size = 0
	if err := r.open(); err != nil {
		return err
	}
	return r.prune(append(names, aside))
}

func asideName(t time.Time) string { return "audit-" + t.UTC().Format(asideForm) + ".jsonl" }

// asides are the files that were set aside, the oldest first.
func asides(dir state.Dir) ([]string, error) {
	names, err := dir.Names()
	names = slices.DeleteFunc(names, func(n string) bool {
		return !strings.HasPrefix(n, "audit-") || !strings.HasSuffix(n, ".jsonl")
	})
	slices.Sort(names)
	return names, err
}

// prune deletes the oldest of the files set aside, if there are too many.
func (r *rotated) prune(names []string) error {
	return r.forget(names[:max(0, len(names)-r.maxFiles)])
}

// forget deletes files, after a sealed checkpoint for each.
func (r *rotated) forget(names []string) error {
	if len(names) == 0 {
		return nil
	}
	if r.f == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	var checkpoints []entry
	for _, name := range names {
		t, err := tailOf(r.dir.Path(name))
		if err != nil {
			return err
		}
		e := Event{Time: time.Now(), Kind: Checkpoint, File: name, Last: t.link.n, Head: t.legacy}
		if t.link.n > 0 {
			e.Head = t.link.head()
		}
		checkpoints = append(checkpoints, entry{Event: e})
	}
	lines, end := r.lines(checkpoints)
	if err := errors.Join(r.append(lines, end), r.seal()); err != nil {
		return err
	}
	for _, name := range names {
		if err := r.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
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

// end closes the file and lets another process have the record.
func (r *rotated) end() error {
	err := r.close()
	r.unlock()
	return err
}
