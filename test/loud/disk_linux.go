package loud

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// NeedsDisk gives a folder on a file system of its own, of so many megabytes, and ends the test where none may be mounted.
func NeedsDisk(t testing.TB, megabytes int, consequence string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		Missing(t, "the right to mount a tmpfs ("+err.Error()+")", consequence)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
