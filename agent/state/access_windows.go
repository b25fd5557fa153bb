package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"sallyport/internal/access"
)

// Service is the name of the agent's service. What an administrator makes is for its accounts too: for NT SERVICE\ and this
// name, which is in the service's token whatever it runs as, and for the account that it is set to run as.
const Service = "sallyport-agent"

// The rights that are granted. Modify is without the rights to delete what others put into a folder, to change access lists
// and to take files over.
const (
	modify  = "0x1301bf"
	readRun = "0x1200a9"
)

// serviceAccounts are those that the agent's service has. What cannot be found out (the service is not there, no domain
// controller answers) is left out: a folder is rather refused than trusted.
func serviceAccounts() ([]*windows.SID, error) {
	own, err := access.ServiceSID(Service)
	if err != nil {
		return nil, err
	}
	list := []*windows.SID{own}
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\`+Service, registry.QUERY_VALUE)
	if err != nil {
		return list, nil
	}
	defer key.Close()
	name, _, err := key.GetStringValue("ObjectName")
	if err != nil {
		return list, nil
	}
	if sid, err := access.AccountSID(name); err == nil && !sid.Equals(own) {
		list = append(list, sid)
	}
	return list, nil
}

// An accounts is who may use what the agent keeps.
type accounts struct {
	system, admins, self *windows.SID
	service              []*windows.SID
	elevated             bool // this process has an administrator's rights
}

func whoMay() (*accounts, error) {
	var a accounts
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("find out the own account: %w", err)
	}
	a.self = user.User.Sid
	var errs [3]error
	a.system, errs[0] = windows.CreateWellKnownSid(windows.WinLocalSystemSid)
	a.admins, errs[1] = windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	a.service, errs[2] = serviceAccounts()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	a.elevated, err = windows.Token(0).IsMember(a.admins)
	if err != nil {
		return nil, fmt.Errorf("find out the rights of this process: %w", err)
	}
	return &a, nil
}

// list is all who may get at what the agent keeps.
func (a *accounts) list() access.List {
	return append(access.List{a.system, a.admins, a.self}, a.service...)
}

// descriptor is the access list of what this process makes, as SDDL: protected, for SYSTEM, Administrators, and whom the
// agent runs as. An administrator makes it for the service, everybody else for themselves.
func (a *accounts) descriptor(dir bool, rights string) string {
	flags := ""
	if dir {
		flags = "OICI"
	}
	owner, who := a.self, []*windows.SID{a.self}
	if a.elevated {
		owner, who = a.admins, a.service
	} else if slices.ContainsFunc(a.service, a.self.Equals) {
		who = a.service
	}
	var b strings.Builder
	fmt.Fprintf(&b, "O:%sD:P(A;%s;FA;;;SY)(A;%[2]s;FA;;;BA)", owner, flags)
	for _, sid := range who {
		fmt.Fprintf(&b, "(A;%s;%s;;;%s)", flags, rights, sid)
	}
	return b.String()
}

// checkAccess refuses a path that is somebody else's, or that grants a right of mask to somebody else.
func checkAccess(path string, mask, inherited windows.ACCESS_MASK, what string) error {
	a, err := whoMay()
	if err != nil {
		return err
	}
	f, err := a.list().Judge(path, mask, inherited)
	switch {
	case err != nil || f == nil:
		return err
	case f.Owner:
		return fmt.Errorf("%s is %w: it belongs to %s; %s", path, ErrExposed, f, f.Mend(path))
	}
	return fmt.Errorf("%s is %w: %s may %s; %s", path, ErrExposed, f, what, f.Mend(path))
}
