//go:build unix

package store

import "golang.org/x/sys/unix"

// freeSpace is how many bytes a process without privileges can still write below the folder (statfs(2), f_bavail).
func freeSpace(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return uint64(fs.Bavail) * uint64(fs.Bsize), nil
}
