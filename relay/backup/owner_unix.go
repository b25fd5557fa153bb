//go:build unix

package backup

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// checkOwner refuses root in another account's folder: the relay could not read what root restores there.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the data folder: %w", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && s.Uid != 0 {
		name := strconv.FormatUint(uint64(s.Uid), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		return fmt.Errorf("the data folder %s belongs to the account %s; restore as that account, or the relay cannot read what is restored: "+
			"runuser -u %s -- sallyport-relay restore - --config FILE <relay.backup", dir, name, name)
	}
	return nil
}
