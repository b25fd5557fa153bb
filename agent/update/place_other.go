//go:build !windows

package update

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// owned gives a file to the owner of another.
func owned(path string, like fs.FileInfo) error {
	st, ok := like.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() {
		return nil
	}
	return os.Chown(path, int(st.Uid), int(st.Gid))
}

// swap keeps the present program as the old one and puts the staged one into its place. Both are renames over what is there,
// so at every moment a complete program lies in the place.
func (p place) swap() error {
	keep := p.beside("keep")
	if err := os.Remove(keep); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(p.program, keep); err != nil {
		if err := copyFile(p.program, keep); err != nil { // a file system without links
			return err
		}
	}
	if err := os.Rename(keep, p.old()); err != nil {
		return err
	}
	// The old one is on the disk before the new one takes its place.
	if err := syncDir(p.program); err != nil {
		return err
	}
	if err := os.Rename(p.staged(), p.program); err != nil {
		return err
	}
	return syncDir(p.program)
}

// remove takes a program away.
func (p place) remove(path string) error { return os.Remove(path) }

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(write(to, data, info.Mode().Perm()), owned(to, info))
}

// back puts the old program into its place again.
func (p place) back() error {
	if err := os.Rename(p.old(), p.program); err != nil {
		return err
	}
	return syncDir(p.program)
}

// mend has nothing to do: the place is never empty.
func (p place) mend() error { return nil }

// sweep removes what cannot be removed while it runs: nothing.
func (p place) sweep() {}

func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
