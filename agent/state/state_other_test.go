//go:build !windows

package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/test/loud"
)

func TestModes(t *testing.T) {
	t.Parallel()
	d := open(t)
	if err := d.Write("key", []byte("k")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{d.String(): 0o700, d.Path("key"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
}

func TestReadRefusesExposedFile(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644} {
		d := open(t)
		if err := d.Write("key", []byte("k")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d.Path("key"), mode); err != nil {
			t.Fatal(err)
		}
		_, err := d.Read("key", 100)
		if !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+d.Path("key")) {
			t.Errorf("mode %04o: %v, want ErrExposed and the chmod", mode, err)
		}
	}
}

func TestOpenRefusesWritableDirectory(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o770, 0o707, 0o777} {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		if !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "chmod 700 "+path) {
			t.Errorf("mode %04o: %v, want ErrExposed and the chmod", mode, err)
		}
	}
}

// An admin who works as root must not leave files that the service's account cannot read.
func TestRootGivesFilesToTheDirectorysOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		loud.Missing(t, "root", "that files made by root go to the service's account is not tried")
	}
	const service = 65534
	path := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, service, service)); err != nil {
		t.Fatal(err)
	}
	dir, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := dir.Sub("secrets")
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Write("erp", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{sub.String(), sub.Path("erp")} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != service {
			t.Errorf("%s belongs to %d", p, uid)
		}
	}
}
