package update

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// maxJournal bounds the journal, in bytes.
const maxJournal = 64 << 10

// A journal says what an update is about to do, from before it does it until it is proved or undone.
type journal struct {
	From    string    `json:"from"`
	To      string    `json:"to"`
	Old     string    `json:"old"` // SHA-256 of the programs
	New     string    `json:"new"`
	Running bool      `json:"running"` // the service, so it is restarted
	Began   time.Time `json:"began"`
}

// begin notes which programs lie there, and has that on the disk before anything moves.
func (j *journal) begin(at place) (err error) {
	if j.Old, err = sumOf(at.program); err != nil {
		return err
	}
	if j.New, err = sumOf(at.staged()); err != nil {
		return err
	}
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	if err := write(at.journal(), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the journal of the update: %w", err)
	}
	return nil
}

func (j *journal) remove(at place) error {
	if err := os.Remove(at.journal()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end the journal of the update: %w", err)
	}
	return nil
}

// readJournal gives the journal of an update that was cut off; nil for none. One that was cut off itself was none: nothing
// moves before it is whole.
func readJournal(at place) (*journal, error) {
	j, err := readJSON(at.journal())
	if errors.Is(err, errTorn) {
		return nil, j.remove(at)
	}
	return j, err
}

// refuse notes that the new program was not kept.
func (j *journal) refuse(at place) error {
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	if err := os.Remove(at.refused()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return write(at.refused(), append(text, '\n'), 0o644)
}

// errTorn says that a file is not whole.
var errTorn = errors.New("the file is not whole")

// readJSON reads a journal; nil if it is not there.
func readJSON(path string) (*journal, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJournal))
	if err != nil {
		return nil, err
	}
	j := &journal{}
	if err := json.Unmarshal(text, j); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, errTorn, err)
	}
	return j, nil
}

// sumOf is the SHA-256 of a file.
func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
