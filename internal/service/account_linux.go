package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

var accountForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.@-]{0,63}\$?$`)

func checkAccount(name string) error {
	if !accountForm.MatchString(name) {
		return fmt.Errorf("%q is no name of an account", name)
	}
	if name == "root" {
		return errors.New("it does not run as root, which it has no need of; leave --account out for an account of its own")
	}
	return nil
}

// ownProgram is where this program really lies.
func ownProgram() (string, error) {
	path, err := os.Executable()
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", fmt.Errorf("find out where this program lies: %w", err)
	}
	return path, nil
}

// checkProgram refuses a program that somebody else could replace, or that the hardened unit cannot see.
func checkProgram(path string) error {
	mend := fmt.Sprintf("; put it where only root can: install -m 0755 %s /usr/local/bin/", path)
	for _, hidden := range []string{"home", "root", "run/user", "tmp", "var/tmp"} {
		if strings.HasPrefix(path, "/"+hidden+"/") {
			return fmt.Errorf("a service cannot run %s, because it sees no /%s%s", path, hidden, mend)
		}
	}
	for p := path; ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("others than root may write %s, and so replace what the service runs%s", p, mend)
		}
		if p == "/" {
			return nil
		}
	}
}

// planAccount has account and folders there, with the right owners; state is what changes the state folder.
func planAccount(ctx context.Context, s Spec) (steps, state []step, err error) {
	uid, _, there, err := lookup(ctx, s.Account)
	if err != nil {
		return nil, nil, err
	}
	if !there {
		steps = append(steps, step{"make the system account " + s.Account, func(ctx context.Context) error {
			_, err := command(ctx, "useradd", "--system", "--user-group", "--home-dir", "/nonexistent", "--no-create-home",
				"--shell", "/usr/sbin/nologin", "--comment", s.Display, s.Account)
			return err
		}})
	}
	for _, group := range s.Groups {
		if joins, err := mayJoin(ctx, s.Account, group, there); err != nil {
			return nil, nil, err
		} else if joins {
			steps = append(steps, step{"let " + s.Account + " into the group " + group + ", which counts from its next start", func(ctx context.Context) error {
				_, err := command(ctx, "usermod", "-aG", group, s.Account)
				return err
			}})
		}
	}
	if dir := filepath.Dir(s.Config); !isDir(dir) {
		steps = append(steps, step{"make the folder " + dir, func(context.Context) error { return os.MkdirAll(dir, 0o755) }})
	}
	if !isDir(s.State) || !there || !belongs(s.State, uid) {
		state = append(state, step{"give the folder " + s.State + " to " + s.Account + " alone", func(ctx context.Context) error {
			return giveState(ctx, s)
		}})
	}
	return steps, state, nil
}

// mayJoin says whether the machine has a group and the account is not in it.
func mayJoin(ctx context.Context, account, group string, there bool) (bool, error) {
	_, err := command(ctx, "getent", "group", group)
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == 2 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the group %s: %w", group, err)
	}
	if !there {
		return true, nil
	}
	in, err := command(ctx, "id", "-nG", account)
	if err != nil {
		return false, fmt.Errorf("look for the groups of %s: %w", account, err)
	}
	return !slices.Contains(strings.Fields(in), group), nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// lookup finds an account by all that the machine knows, a directory service too.
func lookup(ctx context.Context, name string) (uid, gid int, there bool, err error) {
	out, err := command(ctx, "getent", "passwd", name)
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == 2 {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, fmt.Errorf("look for the account %s: %w", name, err)
	}
	fields := strings.Split(strings.TrimSpace(out), ":")
	if len(fields) < 4 {
		return 0, 0, false, fmt.Errorf("look for the account %s: getent answered something else", name)
	}
	uid, err1 := strconv.Atoi(fields[2])
	gid, err2 := strconv.Atoi(fields[3])
	return uid, gid, true, errors.Join(err1, err2)
}

// belongs says whether a folder and all in it are the account's, and closed to others.
func belongs(path string, uid int) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		return false
	}
	wrong := errors.New("another owner")
	return filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
			return wrong
		}
		return nil
	}) == nil
}

// giveState makes the state folder the account's. It follows no link out of the folder, and leaves alone a file that has
// another name elsewhere: who owned the folder before could have put either there.
func giveState(ctx context.Context, s Spec) error {
	uid, gid, there, err := lookup(ctx, s.Account)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("there is no account %s", s.Account)
	}
	if err := os.MkdirAll(s.State, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.State)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Chmod(".", 0o700); err != nil {
		return err
	}
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && st.Nlink > 1 {
			return fmt.Errorf("%s has another name elsewhere; remove it", filepath.Join(s.State, path))
		}
		return root.Lchown(path, uid, gid)
	})
}
