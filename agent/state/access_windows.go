package state

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// Service is the name of the agent's service. What an administrator makes is for its accounts too: for NT SERVICE\ and this
// name, which is in the service's token whatever it runs as, and for the account that it is set to run as.
const Service = "sallyport-agent"

// The rights that are asked about and granted. Modify is without the rights to delete what others put into a folder, to
// change access lists and to take files over.
const (
	readData   = windows.FILE_READ_DATA | windows.GENERIC_READ | windows.GENERIC_ALL
	changeData = windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | deleteChild | windows.DELETE |
		windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_WRITE | windows.GENERIC_ALL
	deleteChild = 0x40 // FILE_DELETE_CHILD

	modify  = "0x1301bf"
	readRun = "0x1200a9"
)

// serviceSID is the account of a service by its name, as RtlCreateServiceSid has it: it is there before the service is.
func serviceSID(name string) (*windows.SID, error) {
	units := utf16.Encode([]rune(strings.ToUpper(name)))
	raw := make([]byte, 0, 2*len(units))
	for _, u := range units {
		raw = binary.LittleEndian.AppendUint16(raw, u)
	}
	sum := sha1.Sum(raw)
	text := "S-1-5-80"
	for part := range slices.Chunk(sum[:], 4) {
		text += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(part))
	}
	return windows.StringToSid(text)
}

// accountSID finds an account by a name as the service manager has it.
func accountSID(account string) (*windows.SID, error) {
	scope, name, qualified := strings.Cut(account, `\`)
	switch {
	case strings.EqualFold(account, "LocalSystem"), strings.EqualFold(account, `NT AUTHORITY\SYSTEM`):
		return windows.CreateWellKnownSid(windows.WinLocalSystemSid)
	case qualified && strings.EqualFold(scope, "NT SERVICE"):
		return serviceSID(name)
	case qualified && scope == ".":
		host, err := windows.ComputerName()
		if err != nil {
			return nil, fmt.Errorf("find out this machine's name: %w", err)
		}
		account = host + `\` + name
	}
	sid, _, _, err := windows.LookupSID("", account)
	if err != nil {
		return nil, fmt.Errorf("look for the account %s: %w", account, err)
	}
	return sid, nil
}

// serviceAccounts are those that the agent's service has. What cannot be found out (the service is not there, no domain
// controller answers) is left out: a folder is rather refused than trusted.
func serviceAccounts() ([]*windows.SID, error) {
	own, err := serviceSID(Service)
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
	if sid, err := accountSID(name); err == nil && !sid.Equals(own) {
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

func (a *accounts) trusted(sid *windows.SID) bool {
	known := append([]*windows.SID{a.system, a.admins, a.self}, a.service...)
	return sid != nil && (slices.ContainsFunc(known, sid.Equals) || sid.IsWellKnown(windows.WinCreatorOwnerRightsSid))
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

// A fault is why a path is not private.
type fault struct {
	owner bool // the owner is the fault, not an entry of the access list
	who   *windows.SID
	what  string
}

// judge looks for an owner or an entry that lets somebody else at the content: by mask, and with inherits also by what
// files made later would get.
func (a *accounts) judge(sd *windows.SECURITY_DESCRIPTOR, mask, inherited windows.ACCESS_MASK) (*fault, error) {
	owner, _, err := sd.Owner()
	if err != nil {
		return nil, err
	}
	if !a.trusted(owner) {
		return &fault{owner: true, who: owner}, nil
	}
	dacl, _, err := sd.DACL()
	if err != nil && !errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) {
		return nil, err
	}
	if dacl == nil {
		return &fault{what: "everybody"}, nil // no list: everybody may do everything
	}
	for i := range uint32(dacl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &ace); err != nil {
			return nil, err
		}
		if f := a.judgeEntry(ace, mask, inherited); f != nil {
			return f, nil
		}
	}
	return nil, nil
}

// The kinds of entries that allow something, of winnt.h.
const (
	allowed         = windows.ACCESS_ALLOWED_ACE_TYPE
	allowedObject   = 5
	allowedCallback = 9
	allowedBoth     = 11
)

func (a *accounts) judgeEntry(ace *windows.ACCESS_ALLOWED_ACE, mask, inherited windows.ACCESS_MASK) *fault {
	switch ace.Header.AceType {
	case allowed, allowedCallback:
	case allowedObject, allowedBoth:
		return &fault{what: "an entry of a kind that files do not have"}
	default:
		return nil
	}
	sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
	if a.trusted(sid) {
		return nil
	}
	now := ace.Header.AceFlags&windows.INHERIT_ONLY_ACE == 0 && ace.Mask&mask != 0
	later := ace.Header.AceFlags&windows.OBJECT_INHERIT_ACE != 0 && ace.Mask&inherited != 0 && !sid.IsWellKnown(windows.WinCreatorOwnerSid)
	if now || later {
		return &fault{who: sid}
	}
	return nil
}

// String names an account as people know it.
func (f *fault) String() string {
	if f.who == nil {
		return f.what
	}
	if account, domain, _, err := f.who.LookupAccount(""); err == nil {
		return domain + `\` + account + " (" + f.who.String() + ")"
	}
	return f.who.String()
}

func (f *fault) mend(path string) string {
	switch {
	case f.owner:
		return fmt.Sprintf("if it is not you who made it, remove it; else give it to the administrators, as one of them: "+
			`icacls "%s" /setowner *S-1-5-32-544 /T`, path)
	case f.who == nil:
		return fmt.Sprintf(`mend with: icacls "%s" /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F`, path)
	}
	return fmt.Sprintf(`mend with: icacls "%s" /inheritance:d, then icacls "%[1]s" /remove:g *%s /T`, path, f.who)
}

// checkAccess refuses a path that is somebody else's, or that grants a right of mask to somebody else.
func checkAccess(path string, mask, inherited windows.ACCESS_MASK, what string) error {
	a, err := whoMay()
	if err != nil {
		return err
	}
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("read the access list of %s: %w", path, err)
	}
	f, err := a.judge(sd, mask, inherited)
	switch {
	case err != nil:
		return fmt.Errorf("read the access list of %s: %w", path, err)
	case f == nil:
		return nil
	case f.owner:
		return fmt.Errorf("%s is %w: it belongs to %s; %s", path, ErrExposed, f, f.mend(path))
	}
	return fmt.Errorf("%s is %w: %s may %s; %s", path, ErrExposed, f, what, f.mend(path))
}
