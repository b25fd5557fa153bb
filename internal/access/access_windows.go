package access

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
)

// The rights that are asked about. Read and Change are those by which content gets out, or becomes another.
const (
	Read   = windows.FILE_READ_DATA | windows.GENERIC_READ | windows.GENERIC_ALL
	Change = windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | Replace | windows.GENERIC_WRITE
	// Replace are those by which something else can take its place.
	Replace = deleteChild | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_ALL

	deleteChild = 0x40 // FILE_DELETE_CHILD
)

// ServiceSID is the account of a service by its name, as RtlCreateServiceSid has it: it is there before the service is.
func ServiceSID(name string) (*windows.SID, error) {
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

// AccountSID finds an account by a name as the service manager has it.
func AccountSID(account string) (*windows.SID, error) {
	scope, name, qualified := strings.Cut(account, `\`)
	switch {
	case strings.EqualFold(account, "LocalSystem"), strings.EqualFold(account, `NT AUTHORITY\SYSTEM`):
		return windows.CreateWellKnownSid(windows.WinLocalSystemSid)
	case qualified && strings.EqualFold(scope, "NT SERVICE"):
		return ServiceSID(name)
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

// A List is the accounts that may get at something.
type List []*windows.SID

func (l List) trusted(sid *windows.SID) bool {
	return sid != nil && (slices.ContainsFunc(l, sid.Equals) || sid.IsWellKnown(windows.WinCreatorOwnerRightsSid))
}

// Judge looks for an owner or an entry of the path's access list that lets somebody else have a right of mask, or of inherited
// on the files that are made in it later.
func (l List) Judge(path string, mask, inherited windows.ACCESS_MASK) (*Fault, error) {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return nil, fmt.Errorf("read the access list of %s: %w", path, err)
	}
	f, err := l.judge(sd, mask, inherited)
	if err != nil {
		return nil, fmt.Errorf("read the access list of %s: %w", path, err)
	}
	return f, nil
}

// A Fault is why a path is not private.
type Fault struct {
	Owner bool // the owner is the fault, not an entry of the access list
	who   *windows.SID
	what  string
}

func (l List) judge(sd *windows.SECURITY_DESCRIPTOR, mask, inherited windows.ACCESS_MASK) (*Fault, error) {
	owner, _, err := sd.Owner()
	if err != nil {
		return nil, err
	}
	if !l.trusted(owner) {
		return &Fault{Owner: true, who: owner}, nil
	}
	dacl, _, err := sd.DACL()
	if err != nil && !errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) {
		return nil, err
	}
	if dacl == nil {
		return &Fault{what: "everybody"}, nil // no list: everybody may do everything
	}
	for i := range uint32(dacl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &ace); err != nil {
			return nil, err
		}
		if f := l.judgeEntry(ace, mask, inherited); f != nil {
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

func (l List) judgeEntry(ace *windows.ACCESS_ALLOWED_ACE, mask, inherited windows.ACCESS_MASK) *Fault {
	switch ace.Header.AceType {
	case allowed, allowedCallback:
	case allowedObject, allowedBoth:
		return &Fault{what: "an entry of a kind that files do not have"}
	default:
		return nil
	}
	sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
	if l.trusted(sid) {
		return nil
	}
	now := ace.Header.AceFlags&windows.INHERIT_ONLY_ACE == 0 && ace.Mask&mask != 0
	later := ace.Header.AceFlags&windows.OBJECT_INHERIT_ACE != 0 && ace.Mask&inherited != 0 && !sid.IsWellKnown(windows.WinCreatorOwnerSid)
	if now || later {
		return &Fault{who: sid}
	}
	return nil
}

// String names an account as people know it.
func (f *Fault) String() string {
	if f.who == nil {
		return f.what
	}
	if account, domain, _, err := f.who.LookupAccount(""); err == nil {
		name := domain + `\` + account
		return strings.TrimPrefix(name, `\`) + " (" + f.who.String() + ")" // Everyone is of no domain
	}
	return f.who.String()
}

// Mend is what to do about it, as an administrator.
func (f *Fault) Mend(path string) string {
	switch {
	case f.Owner:
		return fmt.Sprintf("if it is not you who made it, remove it; else give it to the administrators, as one of them: "+
			`icacls "%s" /setowner *S-1-5-32-544 /T`, path)
	case f.who == nil:
		return fmt.Sprintf(`mend with: icacls "%s" /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F`, path)
	}
	return fmt.Sprintf(`mend with: icacls "%s" /inheritance:d, then icacls "%[1]s" /remove:g *%s /T`, path, f.who)
}

// Grants says whether an entry of the path's own access list gives the account all of mask.
func Grants(path string, sid *windows.SID, mask windows.ACCESS_MASK) (bool, error) {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return false, fmt.Errorf("read the access list of %s: %w", path, err)
	}
	dacl, _, err := sd.DACL()
	if err != nil || dacl == nil {
		return false, err
	}
	for i := range uint32(dacl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &ace); err != nil {
			return false, err
		}
		if ace.Header.AceType == allowed && ace.Mask&mask == mask && sid.Equals((*windows.SID)(unsafe.Pointer(&ace.SidStart))) {
			return true, nil
		}
	}
	return false, nil
}
