// Package state keeps the agent's private files: a directory that only the agent's account may write, files in it that
// only that account may read, each replaced as a whole or not at all.
//
// It knows nothing of what the files mean; agent/identity, agent/secret and agent/audit do.
//
//	dir, err := state.Open("/var/lib/sallyport-agent")
//	err = dir.Write("identity.json", data)
//	data, err := dir.Read("identity.json", 64<<10)
package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tempMark is in the name of every file that is not yet complete. Only a crash leaves one behind.
const tempMark = ".tmp-"

// staleAfter is the age at which an incomplete file is certainly nobody's work in progress.
const staleAfter = time.Hour

// A Dir is a private directory.
type Dir struct {
	path string
}

// Open gives the directory at path and makes it, for its owner alone, if it is not there. It refuses a directory in
// which other accounts may write, because they could put a key of their own there.
func Open(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Dir{}, fmt.Errorf("state directory %s: %w", path, err)
	}
	if err := makeDir(abs); err != nil {
		return Dir{}, fmt.Errorf("make state directory: %w", err)
	}
	if err := checkDir(abs); err != nil {
		return Dir{}, err
	}
	d := Dir{path: abs}
	d.sweep()
	return d, nil
}

// Sub gives a private directory inside d. One that is made belongs to whom d belongs to.
func (d Dir) Sub(name string) (Dir, error) {
	path := filepath.Join(d.path, name)
	_, err := os.Lstat(path)
	sub, openErr := Open(path)
	if openErr == nil && errors.Is(err, fs.ErrNotExist) {
		openErr = d.adopt(path)
	}
	return sub, openErr
}

// Adopt gives an open file in d to whom d belongs to. An admin works as root on what the service's account must read;
// Write and Sub do the same.
func (d Dir) Adopt(f *os.File) error { return d.adoptFile(f) }

// Path is the file's path, for messages and for what needs a path.
func (d Dir) Path(name string) string {
	return filepath.Join(d.path, name)
}

// String is the directory's path.
func (d Dir) String() string { return d.path }

// Write replaces the file as a whole: after a crash at any moment there is the old content or the new one, on the disk
// and not only in its cache. The file is for its owner alone.
func (d Dir) Write(name string, data []byte) (err error) {
	target := d.Path(name)
	f, err := os.CreateTemp(d.path, "."+name+tempMark) // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	defer func() {
		if err != nil {
			f.Close()           // twice is harmless
			os.Remove(f.Name()) // nothing half-written stays behind; the first error is the one to report
			err = fmt.Errorf("write %s: %w", target, err)
		}
	}()
	if err = d.adoptFile(f); err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), target); err != nil {
		return err
	}
	return syncDir(d.path)
}

// Read gives the file's content. It refuses a file that other accounts may read, and one larger than limit. The error
// wraps fs.ErrNotExist if there is no such file.
func (d Dir) Read(name string, limit int64) ([]byte, error) {
	return ReadFile(d.Path(name), limit)
}

// ReadFile is Dir.Read for a private file that lies elsewhere.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the path already
	}
	defer f.Close()
	if err := checkFile(f); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}

// CheckWritable says, as an error that wraps ErrExposed, that other accounts may write a file that lies elsewhere and need
// not be secret.
func CheckWritable(path string) error { return checkWritable(path) }

// Remove deletes the file. The error wraps fs.ErrNotExist if there is none.
func (d Dir) Remove(name string) error {
	if err := os.Remove(d.Path(name)); err != nil {
		return err
	}
	return syncDir(d.path)
}

// Names lists the complete regular files.
func (d Dir) Names() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", d.path, err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// sweep removes what crashed writers left: it may hold secrets. What it cannot remove does no other harm.
func (d Dir) sweep() {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") || !strings.Contains(e.Name(), tempMark) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleAfter {
			os.Remove(d.Path(e.Name()))
		}
	}
}

// ErrExposed is wrapped by errors about files and directories that other accounts can reach.
var ErrExposed = errors.New("not private")
