package store

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// signLock writes our process ID into the lock file, so that who comes second can be told who was first.
func signLock(f *os.File) (*os.File, error) {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write the lock file: %w", err)
	}
	return f, nil
}

// inUse words the refusal of a second process.
func inUse(path string) error {
	owner := "of unknown ID"
	if text, err := os.ReadFile(path); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			owner = strconv.Itoa(pid)
		}
	}
	return fmt.Errorf("%w (process %s); stop it first, or give this relay a data folder of its own", ErrInUse, owner)
}
