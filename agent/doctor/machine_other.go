//go:build !windows

package doctor

import (
	"fmt"
	"os"
	"syscall"
)

// freeSpace is what the agent may still write where path is, in bytes.
func freeSpace(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}

// handleLimit is how many files and connections this process may have open.
func handleLimit() (limit uint64, known bool) {
	var r syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r)
	return uint64(r.Cur), err == nil
}

// strangers says that the account to which the state directory belongs cannot read agent.yaml, which an admin with all
// rights does not notice. Other groups of the account than the directory's are not known here.
func strangers(state, config string) string {
	dir, err := os.Stat(state)
	if err != nil {
		return ""
	}
	file, err := os.Stat(config)
	if err != nil {
		return "" // said elsewhere
	}
	owner, ok := dir.Sys().(*syscall.Stat_t)
	of, ok2 := file.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || mayRead(owner.Uid, owner.Gid, of.Uid, of.Gid, file.Mode().Perm()) {
		return ""
	}
	return fmt.Sprintf("it belongs to the account %d, which may not be able to read %s (mode %04o)", owner.Uid, config, file.Mode().Perm())
}

// mayRead is the rule of Unix for one group.
func mayRead(uid, gid, ofUID, ofGID uint32, mode os.FileMode) bool {
	switch {
	case uid == 0:
		return true
	case uid == ofUID:
		return mode&0o400 != 0
	case gid == ofGID:
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}
