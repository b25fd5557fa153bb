package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"

	"sallyport/internal/access"
)

// Secure makes the folder, if it is not there, and gives it and all in it to SYSTEM, the administrators, and the agent's service,
// which is to run as account. The service may read the file readOnly in it, and not change it. It is for administrators.
// It follows no link, and takes over nothing that somebody else owns or that has another name elsewhere: who could put
// it there knows what is in it. What the service made belongs to the account that it is still registered with, and is taken over.
func Secure(path, account, readOnly string) error {
	a, err := forService(account)
	if err != nil {
		return err
	}
	before, err := serviceAccounts()
	if err != nil {
		return err
	}
	owners := a.owners(before)
	if err := makeDir(path); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	return filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if f, err := owners.Judge(p, 0, 0); err != nil {
			return err
		} else if f != nil && f.Owner {
			return fmt.Errorf("%s is %w: it belongs to %s; %s", p, ErrExposed, f, f.Mend(p))
		}
		rights := modify
		if strings.EqualFold(p, readOnly) {
			rights = readRun
		}
		return a.set(p, rights)
	})
}

// owners are those whose files are taken over.
func (a *accounts) owners(before []*windows.SID) access.List { return append(a.list(), before...) }

// Secured says whether Secure has nothing to do.
func Secured(path, account, readOnly string) bool {
	a, err := forService(account)
	if err != nil || checkDir(path) != nil {
		return false
	}
	wrong := errors.New("another list")
	return filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		isReadOnly := strings.EqualFold(p, readOnly)
		for _, sid := range a.service {
			reads, err := access.Grants(p, sid, windows.FILE_READ_DATA)
			changes, err2 := access.Grants(p, sid, windows.FILE_WRITE_DATA)
			if err != nil || err2 != nil || !reads || changes == isReadOnly {
				return wrong
			}
		}
		if f, err := a.list().Judge(p, access.Read|access.Change, 0); err != nil || f != nil {
			return wrong
		}
		return nil
	}) == nil
}

// forService is what an administrator makes for a service that is to run as account.
func forService(account string) (*accounts, error) {
	a, err := whoMay()
	if err != nil {
		return nil, err
	}
	own, err := access.ServiceSID(Service)
	if err != nil {
		return nil, err
	}
	sid, err := access.AccountSID(account)
	if err != nil {
		return nil, err
	}
	a.elevated, a.service = true, []*windows.SID{own}
	if !sid.Equals(own) {
		a.service = append(a.service, sid)
	}
	return a, nil
}

// ReadOnly lets the agent's service read a file in d and not change it, if this process is an administrator's. The
// configuration decides what may be called, so the agent itself must not be able to widen it.
func (d Dir) ReadOnly(path string) error {
	a, err := whoMay()
	if err != nil || !a.elevated || !strings.EqualFold(filepath.Dir(path), d.path) {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return a.set(path, readRun)
}
