package service

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"

	"sallyport/internal/access"
)

// arcGroup is the group of the machine whose members Azure's Connected Machine agent gives tokens of the machine's identity; it
// makes the group when it is installed. https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication
const arcGroup = "Hybrid agent extension applications"

// What NetLocalGroup functions answer (lmerr.h, winerror.h).
const (
	groupNotFound = windows.Errno(2220) // NERR_GroupNotFound
	memberAlready = windows.Errno(1378) // ERROR_MEMBER_IN_ALIAS
	noSuchAlias   = windows.Errno(1376) // ERROR_NO_SUCH_ALIAS
)

var (
	netapi32     = windows.NewLazySystemDLL("netapi32.dll")
	getMembers   = netapi32.NewProc("NetLocalGroupGetMembers")
	addMembers   = netapi32.NewProc("NetLocalGroupAddMembers")
	freeNetapi   = netapi32.NewProc("NetApiBufferFree")
	errArcAbsent = errors.New("there is no group '" + arcGroup + "': Azure's Connected Machine agent, which makes it, is not installed; install it, then run 'service install' once more")
)

// planArc has the account be one that may ask Azure Arc for tokens, where the configuration wants them. A group counts from the
// next start of the service.
func planArc(s Spec) ([]step, error) {
	if !s.Arc {
		return nil, nil
	}
	sid, err := access.AccountSID(s.Account)
	if err != nil {
		return nil, err
	}
	if in, err := inGroup(arcGroup, sid); in || errors.Is(err, errArcAbsent) {
		return nil, err
	}
	return []step{{"let " + s.Account + " ask Azure Arc for tokens (the group '" + arcGroup + "')", func(context.Context) error {
		return joinGroup(arcGroup, sid)
	}}}, nil
}

// inGroup says whether an account is a member of a group of this machine. A domain's groups in it are not looked into.
func inGroup(group string, sid *windows.SID) (bool, error) {
	name, err := windows.UTF16PtrFromString(group)
	if err != nil {
		return false, err
	}
	const whole = ^uintptr(0) // MAX_PREFERRED_LENGTH, a DWORD
	var list **windows.SID    // LOCALGROUP_MEMBERS_INFO_0 is a pointer to a SID
	var read, all uint32
	r, _, _ := getMembers.Call(0, uintptr(unsafe.Pointer(name)), 0, uintptr(unsafe.Pointer(&list)), whole&0xFFFFFFFF, uintptr(unsafe.Pointer(&read)),
		uintptr(unsafe.Pointer(&all)), 0)
	if list != nil {
		defer freeNetapi.Call(uintptr(unsafe.Pointer(list)))
	}
	switch code := windows.Errno(r); {
	case code == groupNotFound || code == noSuchAlias:
		return false, errArcAbsent
	case code != 0:
		return false, fmt.Errorf("ask who is in the group '%s': %w", group, code)
	case list == nil:
		return false, nil
	}
	for _, one := range unsafe.Slice(list, read) {
		if one.Equals(sid) {
			return true, nil
		}
	}
	return false, nil
}

func joinGroup(group string, sid *windows.SID) error {
	name, err := windows.UTF16PtrFromString(group)
	if err != nil {
		return err
	}
	r, _, _ := addMembers.Call(0, uintptr(unsafe.Pointer(name)), 0, uintptr(unsafe.Pointer(&sid)), 1)
	switch code := windows.Errno(r); code {
	case 0, memberAlready:
		return nil
	case groupNotFound, noSuchAlias:
		return errArcAbsent
	default:
		return explain(code)
	}
}
