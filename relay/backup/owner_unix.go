//go:build unix

package backup

import (
	"fmt"
	"os"
	"syscall"
)

// checkOwner refuses root in another account's folder: the relay could not read what root restores there.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the data folder: %w", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && s.Uid != 0 {
		return fmt.Errorf("the data folder %s belongs to the user ID %d; restore as that account (sudo -u '#%d' sallyport-relay restore ...), "+
			"or the relay cannot read what is restored", dir, s.Uid, s.Uid)
	}
	return nil
}
