package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// A tail is how a file ends.
type tail struct {
	link   link   // the last record's, if it is one of the chain
	legacy string // the hash of the last line, if it is of version 1
	seal   bool   // the last record is a seal
	torn   int64  // bytes after the last line
	size   int64
	bad    error // why the last line is no record
}

func tailOf(path string) (tail, error) {
	f, err := openToRead(path)
	if err != nil {
		return tail{}, err
	}
	defer f.Close()
	return readTail(f)
}

// readTail reads the last whole line and what follows it.
func readTail(f *os.File) (t tail, err error) {
	info, err := f.Stat()
	if err != nil {
		return t, err
	}
	t.size = info.Size()
	b := make([]byte, min(t.size, 2*maxLine))
	if _, err := f.ReadAt(b, t.size-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
		return t, err
	}
	end := bytes.LastIndexByte(b, '\n')
	t.torn = int64(len(b) - end - 1)
	if end < 0 {
		if t.size > maxLine {
			return t, fmt.Errorf("%s has no line feed in its last %d bytes: it is none of the record's files; move it away", f.Name(), len(b))
		}
		return t, nil
	}
	line := b[bytes.LastIndexByte(b[:end], '\n')+1 : end]
	r, err := parse(line)
	switch {
	case err != nil:
		t.bad = err
	case r.Version == 1:
		sum := sha256.Sum256(line)
		t.legacy = encode(sum[:])
	default:
		t.link, t.seal = link{r.N, r.h}, r.Kind == Seal
	}
	return t, nil
}

// resume opens the file in a new process, and finds where the chain goes on.
func (r *rotated) resume() error {
	if err := r.openFile(); err != nil {
		return err
	}
	t, err := readTail(r.f)
	if err != nil {
		return err
	}
	if t.torn > 0 {
		if err := r.f.Truncate(t.size - t.torn); err != nil {
			return fmt.Errorf("mend the end of %s: %w", r.dir.Path(current), err)
		}
		r.size = t.size - t.torn
	}
	cut := t.torn
	if r.size == 0 { // a new file: the chain goes on from the one before it
		names, err := asides(r.dir)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			if t, err = tailOf(r.dir.Path(names[len(names)-1])); err != nil {
				return err
			}
		}
	}
	return r.resumeAfter(t, cut)
}

func (r *rotated) resumeAfter(t tail, cut int64) error {
	r.link = t.link
	if t.seal {
		r.sealed = t.link.n
	}
	r.begin(Event{Head: t.legacy})
	if cut > 0 {
		r.first = append(r.first, repair(cut))
	}
	head, why, err := r.head()
	if err != nil {
		return err
	}
	switch {
	case t.bad != nil:
		why = "the last line was no record: " + t.bad.Error()
	case head.N > t.link.n:
		why = "records that were sealed were missing at the end"
	}
	if why == "" {
		return nil
	}
	broken := Event{Time: time.Now(), Kind: Broken, Detail: why}
	if head.N > 0 {
		broken.Last, broken.Head = head.N, encode(head.h[:])
	}
	r.first = append(r.first, broken)
	return nil
}

// head is the last seal as audit.head has it; the zero record if there is none, or why it is none. That does not keep the
// agent from starting: who can damage the file must not be able to stop it so.
func (r *rotated) head() (rec record, why string, err error) {
	line, err := r.dir.Read(headFile, maxLine)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, "", nil
	}
	if err != nil {
		return record{}, "", err
	}
	rec, err = parse(bytes.TrimSuffix(line, []byte("\n")))
	if err != nil {
		return record{}, headFile + " was damaged: " + err.Error(), nil
	}
	return rec, "", nil
}

// begin has a begin written before anything else.
func (r *rotated) begin(e Event) {
	if len(r.first) > 0 && r.first[0].Kind == Begin {
		return
	}
	e.Time, e.Kind = time.Now(), Begin
	r.first = append([]Event{e}, r.first...)
}

func repair(cut int64) Event {
	return Event{Time: time.Now(), Kind: Repair, Detail: fmt.Sprintf("%d bytes of a line without an end were removed", cut)}
}
