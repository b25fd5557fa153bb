// Package logfile keeps the log of a program that has no standard error and no journal: a service of Windows. There is a file for
// each day, and another one when that is full; the oldest are deleted. Who logs never learns that a disk is full: the event log,
// which has what matters, is apart from it.
//
//	var file logfile.File
//	log := slog.New(slog.NewTextHandler(&file, nil)) // what is logged before Open is dropped
//	err := file.Open(dir)
package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/agent/state"
)

// Bounds of what is kept.
const (
	maxSize  = 4 << 20 // of a file, in bytes; its last line may go beyond
	maxFiles = 16
	maxAge   = 14 * 24 * time.Hour
	// openAgain is how long nothing is written after a disk has refused.
	openAgain = 10 * time.Second
)

const (
	folder  = "log"
	prefix  = "agent-"
	suffix  = ".log"
	dayForm = "20060102"
)

// A File takes lines. The zero value drops them until it is opened. It is safe for concurrent use.
type File struct {
	mu    sync.Mutex // guards what follows
	dir   *state.Dir
	f     *os.File
	day   string // of f
	size  int64  // of f
	after time.Time
	lost  int // lines since the last that was written
}

// Open has the lines that follow be kept, in a folder of a state directory, or of another one than before.
func (l *File) Open(dir state.Dir) error {
	sub, err := dir.Sub(folder)
	if err != nil {
		return fmt.Errorf("open the folder of the log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dir = &sub
	_ = l.close() // of the directory before
	return l.open(time.Now())
}

// Close ends the file; what comes later is dropped.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dir = nil
	return l.close()
}

// Write adds a line. It always succeeds; lines that the disk refuses are counted, and the next that it takes is told.
func (l *File) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dir == nil {
		return len(line), nil
	}
	now := time.Now()
	if l.f != nil && (l.size >= maxSize || l.day != day(now)) {
		_ = l.close() // the lines are written
	}
	if l.f == nil && now.Before(l.after) || l.f == nil && l.open(now) != nil {
		l.lost++
		return len(line), nil
	}
	text := line
	if l.lost > 0 {
		text = fmt.Appendf(nil, "time=%s level=WARN msg=\"the log could not be written\" lines=%d\n%s", now.Format(time.RFC3339), l.lost, line)
	}
	n, err := l.f.Write(text)
	if l.size += int64(n); err != nil {
		l.lost++
		l.after = now.Add(openAgain)
		_ = l.close() // it is opened again
		return len(line), nil
	}
	l.lost = 0
	return len(line), nil
}

func (l *File) close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

func day(now time.Time) string { return now.Format(dayForm) }

// open goes on with the last file of the day, or begins another.
func (l *File) open(now time.Time) (err error) {
	defer func() {
		if err != nil {
			l.after = now.Add(openAgain)
		}
	}()
	names, err := files(*l.dir)
	if err != nil {
		return err
	}
	today, number := day(now), 1
	for _, name := range slices.Backward(names) {
		var n int
		if _, err := fmt.Sscanf(name, prefix+today+"-%d"+suffix, &n); err != nil {
			continue
		}
		number = n
		if info, err := os.Stat(l.dir.Path(name)); err == nil && info.Size() >= maxSize {
			number++
		}
		break
	}
	f, err := os.OpenFile(l.dir.Path(fmt.Sprintf("%s%s-%04d%s", prefix, today, number, suffix)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = l.dir.Adopt(f)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.day, l.size = f, today, info.Size()
	sweep(*l.dir, names, now)
	return nil
}

// sweep deletes what is too old or too many beside the file that is open. One that somebody reads stays until the next time.
func sweep(dir state.Dir, names []string, now time.Time) {
	oldest := prefix + day(now.Add(-maxAge))
	for i, name := range names {
		if name < oldest || i < len(names)-maxFiles {
			_ = dir.Remove(name)
		}
	}
}

// files are the names of all there are, the oldest first.
func files(dir state.Dir) ([]string, error) {
	names, err := dir.Names()
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) || !strings.HasSuffix(n, suffix) })
	slices.Sort(names)
	return names, nil
}

// Newest gives the newest lines that are kept below a state directory, about limit bytes of them. The error wraps
// fs.ErrNotExist where none are kept.
func Newest(dir state.Dir, limit int) ([]byte, error) {
	path := dir.Path(folder)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	sub, err := state.Open(path)
	if err != nil {
		return nil, err
	}
	names, err := files(sub)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, name := range slices.Backward(names) {
		part, err := sub.Read(name, 2*maxSize)
		if err != nil {
			return text, err
		}
		if text = append(part, text...); len(text) >= limit {
			break
		}
	}
	return text, nil
}
