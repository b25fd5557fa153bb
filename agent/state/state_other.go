//go:build !windows

package state

import (
	"fmt"
	"os"
	"syscall"
)

func makeDir(path string) error { return os.MkdirAll(path, 0o700) }

// owner says to whom d belongs, if that is another account and this process may give things away.
func (d Dir) owner() (uid, gid int, other bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	info, err := os.Stat(d.path)
	if err != nil {
		return 0, 0, false // the operation itself will say why
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid), ok && st.Uid != 0
}

func (d Dir) adopt(path string) error {
	uid, gid, other := d.owner()
	if !other {
		return nil
	}
	return os.Lchown(path, uid, gid)
}

func (d Dir) adoptFile(f *os.File) error {
	uid, gid, other := d.owner()
	if !other {
		return nil
	}
	return f.Chown(uid, gid)
}

// ReadOnly has nothing to do here: the configuration is root's.
func (d Dir) ReadOnly(string) error { return nil }

func checkDir(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("state directory %s is not a directory", path)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("state directory %s is %w: other accounts may write in it (mode %04o); mend with: chmod 700 %s",
			path, ErrExposed, mode, path)
	}
	return nil
}

func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s is %w: other accounts may use it (mode %04o); mend with: chmod 600 %s",
			f.Name(), ErrExposed, mode, f.Name())
	}
	return nil
}

func checkWritable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%s is %w: other accounts may write it (mode %04o); mend with: chmod go-w %s", path, ErrExposed, mode, path)
	}
	return nil
}

// syncDir makes a rename durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
