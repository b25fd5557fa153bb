package winauth

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

// What KERB_S4U_LOGON takes (ntsecapi.h).
const (
	kerberosPackage  = "Kerberos"
	kerbS4ULogon     = 12 // KERB_LOGON_SUBMIT_TYPE
	networkLogon     = 3  // SECURITY_LOGON_TYPE
	userPrincipal    = 8  // EXTENDED_NAME_FORMAT
	maxLogonName     = 1024
	tcbRight         = "SeTcbPrivilege"
	impersonateRight = "SeImpersonatePrivilege"
)

var (
	secur32             = windows.NewLazySystemDLL("secur32.dll")
	lsaRegister         = secur32.NewProc("LsaRegisterLogonProcess")
	lsaDeregister       = secur32.NewProc("LsaDeregisterLogonProcess")
	lsaLookupPackage    = secur32.NewProc("LsaLookupAuthenticationPackage")
	lsaLogonUser        = secur32.NewProc("LsaLogonUser")
	lsaFreeReturnBuffer = secur32.NewProc("LsaFreeReturnBuffer")
	impersonateUser     = windows.NewLazySystemDLL("advapi32.dll").NewProc("ImpersonateLoggedOnUser")
)

// logonError is what Windows says of a logon.
type logonError struct {
	status windows.NTStatus
	what   string
}

func (e *logonError) Error() string {
	return fmt.Sprintf("%s: %v (0x%08X)", e.what, e.status, uint32(e.status))
}
func (e *logonError) Unwrap() error { return e.status }

// statusOf turns an NTSTATUS into an error, nil for success.
func statusOf(r uintptr, what string) error {
	if s := windows.NTStatus(uint32(r)); s != windows.STATUS_SUCCESS {
		return &logonError{status: s, what: what}
	}
	return nil
}

// logonHandle is a connection to the local security authority.
type logonHandle struct {
	h    windows.Handle
	kerb uint32
}

// registerLogon connects to the local security authority as a part of the operating system, which SeTcbPrivilege allows:
// without it, what comes back can name a person and not act for them.
func registerLogon() (*logonHandle, error) {
	if err := enableRight(tcbRight); err != nil {
		return nil, fmt.Errorf("switch on %s: %w", tcbRight, err)
	}
	for _, p := range []*windows.LazyProc{lsaRegister, lsaDeregister, lsaLookupPackage, lsaLogonUser, lsaFreeReturnBuffer, impersonateUser} {
		if err := p.Find(); err != nil {
			return nil, err
		}
	}
	name, err := windows.NewNTString("Sallyport")
	if err != nil {
		return nil, err
	}
	var l logonHandle
	var mode uint32
	r, _, _ := lsaRegister.Call(uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&l.h)), uintptr(unsafe.Pointer(&mode)))
	if err := statusOf(r, "connect to the local security authority"); err != nil {
		return nil, err
	}
	pkg, err := windows.NewNTString(kerberosPackage)
	if err == nil {
		r, _, _ = lsaLookupPackage.Call(uintptr(l.h), uintptr(unsafe.Pointer(pkg)), uintptr(unsafe.Pointer(&l.kerb)))
		err = statusOf(r, "find Windows' Kerberos")
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return &l, nil
}

func (l *logonHandle) close() { _, _, _ = lsaDeregister.Call(uintptr(l.h)) }

// s4uLogon is KERB_S4U_LOGON with the texts behind it, as one buffer.
type s4uLogon struct {
	kind, flags uint32
	upn, realm  windows.NTUnicodeString
	text        [2][maxLogonName]uint16
}

func (l *s4uLogon) set(i int, into *windows.NTUnicodeString, s string) error {
	u := utf16.Encode([]rune(s))
	if len(u) > maxLogonName || slices.Contains(u, 0) {
		return errors.New("a name is too long, or has a zero in it")
	}
	copy(l.text[i][:], u)
	*into = windows.NTUnicodeString{Length: uint16(2 * len(u)), MaximumLength: uint16(2 * len(u)), Buffer: &l.text[i][0]}
	return nil
}

// s4u is S4U2Self: a session in the name of somebody whose identity the caller of this function has proved. With a realm, the
// name is an account's, else a user principal name.
func (l *logonHandle) s4u(name, realm string) (*session, error) {
	what := &s4uLogon{kind: kerbS4ULogon}
	if err := errors.Join(what.set(0, &what.upn, name), what.set(1, &what.realm, realm)); err != nil {
		return nil, err
	}
	origin, err := windows.NewNTString("Sallyport")
	if err != nil {
		return nil, err
	}
	source := struct {
		name [8]byte
		id   windows.LUID
	}{name: [8]byte{'S', 'a', 'l', 'l', 'y', 'p', 'r', 't'}}
	var (
		profile   unsafe.Pointer
		profileN  uint32
		luid      windows.LUID
		token     windows.Token
		quotas    [16]uintptr // QUOTA_LIMITS, with room
		subStatus windows.NTStatus
	)
	r, _, _ := lsaLogonUser.Call(uintptr(l.h), uintptr(unsafe.Pointer(origin)), networkLogon, uintptr(l.kerb),
		uintptr(unsafe.Pointer(what)), unsafe.Sizeof(*what), 0, uintptr(unsafe.Pointer(&source)),
		uintptr(unsafe.Pointer(&profile)), uintptr(unsafe.Pointer(&profileN)), uintptr(unsafe.Pointer(&luid)),
		uintptr(unsafe.Pointer(&token)), uintptr(unsafe.Pointer(&quotas)), uintptr(unsafe.Pointer(&subStatus)))
	runtime.KeepAlive(what)
	if profile != nil {
		_, _, _ = lsaFreeReturnBuffer.Call(uintptr(profile))
	}
	const doing = "ask for a session in a person's name"
	if windows.NTStatus(uint32(r)) == windows.STATUS_ACCOUNT_RESTRICTION && subStatus != windows.STATUS_SUCCESS {
		return nil, &logonError{status: subStatus, what: doing} // it says which restriction
	}
	if err := statusOf(r, doing); err != nil {
		return nil, err
	}
	if token == 0 {
		return nil, &logonError{status: windows.STATUS_NOT_IMPLEMENTED, what: doing}
	}
	s := &session{token: token}
	runtime.AddCleanup(s, func(t windows.Token) { _ = t.Close() }, token)
	return s, s.read()
}

// session is a person's session of Windows. A nil one is the process's own.
type session struct {
	token  windows.Token
	sid    string
	name   name
	groups []string // sorted
}

// read finds out whose it is, and that it can act for them.
func (s *session) read() error {
	var level, n uint32
	if err := windows.GetTokenInformation(s.token, windows.TokenImpersonationLevel, (*byte)(unsafe.Pointer(&level)), 4, &n); err != nil {
		return fmt.Errorf("read the level of a session: %w", err)
	}
	if level < windows.SecurityImpersonation {
		return &logonError{status: windows.STATUS_PRIVILEGE_NOT_HELD, what: "the session names the person and cannot act for them"}
	}
	u, err := s.token.GetTokenUser()
	if err != nil {
		return fmt.Errorf("read whose a session is: %w", err)
	}
	s.sid = u.User.Sid.String()
	if s.name.user, s.name.domain, _, err = u.User.Sid.LookupAccount(""); err != nil {
		return fmt.Errorf("read the name of %s: %w", s.sid, err)
	}
	groups, err := s.token.GetTokenGroups()
	if err != nil {
		return fmt.Errorf("read the groups of %s: %w", s.name.identity(), err)
	}
	for _, g := range groups.AllGroups() {
		s.groups = append(s.groups, g.Sid.String())
	}
	slices.Sort(s.groups)
	runtime.KeepAlive(s)
	return nil
}

// upn asks for the person's user principal name; "" if nobody tells.
func (s *session) upn() string {
	buf := make([]uint16, maxLogonName)
	n := uint32(len(buf))
	if err := s.run(func() error { return windows.GetUserNameEx(userPrincipal, &buf[0], &n) }); err != nil {
		return ""
	}
	return windows.UTF16ToString(buf)
}

// run does something in the session. It has a thread of its own, which ends with it if the way back to the process's own
// account fails: no other work ever runs in a person's name.
func (s *session) run(f func() error) error {
	if s == nil {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if ok, _, err := impersonateUser.Call(uintptr(s.token)); ok == 0 {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("act in the session of %s: %w", s.name.identity(), err)
			return
		}
		err := f()
		if windows.RevertToSelf() == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	err := <-done
	runtime.KeepAlive(s)
	return err
}

// missingRights gives those of some rights that the process's account does not have.
func missingRights(names ...string) ([]string, error) {
	var n uint32
	token := windows.GetCurrentProcessToken()
	err := windows.GetTokenInformation(token, windows.TokenPrivileges, nil, 0, &n)
	if !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) {
		return nil, fmt.Errorf("read the rights of this process: %w", err)
	}
	buf := make([]uint64, n/8+1) // aligned as the structure is
	if err := windows.GetTokenInformation(token, windows.TokenPrivileges, (*byte)(unsafe.Pointer(&buf[0])), n, &n); err != nil {
		return nil, fmt.Errorf("read the rights of this process: %w", err)
	}
	have := (*windows.Tokenprivileges)(unsafe.Pointer(&buf[0])).AllPrivileges()
	var missing []string
	for _, name := range names {
		luid, err := rightID(name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(have, func(p windows.LUIDAndAttributes) bool { return p.Luid == luid }) {
			missing = append(missing, name)
		}
	}
	runtime.KeepAlive(buf)
	return missing, nil
}

func rightID(name string) (luid windows.LUID, err error) {
	u, err := windows.UTF16PtrFromString(name)
	if err == nil {
		err = windows.LookupPrivilegeValue(nil, u, &luid)
	}
	return luid, err
}

// enableRight switches a right on that the process's account has.
func enableRight(name string) error {
	luid, err := rightID(name)
	if err != nil {
		return err
	}
	var token windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_ADJUST_PRIVILEGES|windows.TOKEN_QUERY, &token); err != nil {
		return err
	}
	defer func() { _ = token.Close() }()
	next := windows.Tokenprivileges{PrivilegeCount: 1}
	next.Privileges[0] = windows.LUIDAndAttributes{Luid: luid, Attributes: windows.SE_PRIVILEGE_ENABLED}
	return windows.AdjustTokenPrivileges(token, false, &next, 0, nil, nil)
}
