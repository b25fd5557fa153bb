//go:build unix

package relay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// everybodys says that all accounts may write in the data folder. That of a group may be meant so (a volume in a container).
func everybodys(data string) error {
	info, err := os.Stat(data)
	if err != nil || info.Mode().Perm()&0o002 == 0 {
		return nil // none yet, or it is well
	}
	return fmt.Errorf("%s: every account may write in the data folder, and so put another key, store or admin socket there (mode %04o); mend with: chmod go-w %s",
		data, info.Mode().Perm(), data)
}

// ownerCanRead says that the account to which the data folder belongs, and so the relay's, cannot read a file: root, who looks,
// does not notice.
func ownerCanRead(data, path string) error {
	info, err := os.Stat(data)
	if err != nil {
		return nil // there is none yet, and nobody knows the account
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	name, group, groups := account(owner)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return nil // said elsewhere
		}
		of, ok := info.Sys().(*syscall.Stat_t)
		need := fs.FileMode(0o4) // to read the file, and to pass through each folder
		if at != path {
			need = 0o1
		}
		if ok && !allowed(owner.Uid, groups, of, info.Mode().Perm(), need) {
			return fmt.Errorf("%s: the relay's account %s cannot read it (%s has mode %04o); mend with: chgrp %s %s && chmod g+%s %s",
				path, name, at, info.Mode().Perm(), group, at, map[bool]string{true: "r", false: "x"}[need == 0o4], at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// account gives the names of a folder's owner and group, and the IDs of all groups of the owner's.
func account(owner *syscall.Stat_t) (name, group string, groups []string) {
	name, group = strconv.FormatUint(uint64(owner.Uid), 10), strconv.FormatUint(uint64(owner.Gid), 10)
	groups = []string{group}
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	u, err := user.LookupId(name)
	if err != nil {
		return name, group, groups
	}
	if more, err := u.GroupIds(); err == nil {
		groups = append(groups, more...)
	}
	return u.Username, group, groups
}

// allowed is the rule of Unix; need is for others: 4 to read, 1 to pass.
func allowed(uid uint32, groups []string, of *syscall.Stat_t, mode, need fs.FileMode) bool {
	switch {
	case of.Uid == uid:
		return mode&(need<<6) != 0
	case slices.Contains(groups, strconv.FormatUint(uint64(of.Gid), 10)):
		return mode&(need<<3) != 0
	}
	return mode&need != 0
}

// mendAccess says how this process's account gets to read the files of an error.
func mendAccess(err error, paths ...string) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	group := strconv.Itoa(os.Getegid())
	if g, lookErr := user.LookupGroupId(group); lookErr == nil {
		group = g.Name
	}
	what := ""
	for _, p := range paths {
		if f, openErr := os.Open(p); openErr == nil {
			_ = f.Close()
		} else {
			what += " " + p
		}
	}
	return fmt.Errorf("%w; let the relay's account read it: chgrp %s%s && chmod 0640%s", err, group, what, what)
}
