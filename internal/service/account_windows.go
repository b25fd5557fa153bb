package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"sallyport/internal/access"
)

const (
	virtual = `NT SERVICE\`
	builtin = `NT AUTHORITY\`
)

// withAccount decides as whom it is to run: as told, else as it does, else as the account that each service has. A password
// is asked for when an account was named that has one: it cannot be seen whether the one that Windows has is right.
func withAccount(ctx context.Context, s Spec, now *registered, dry bool) (wanted, error) {
	told := s.Account != ""
	switch {
	case told:
	case now != nil && now.account != "" && !strings.EqualFold(now.account, "LocalSystem"):
		s.Account = now.account
	default:
		s.Account = virtual + s.Name
	}
	if err := checkAccount(s.Account, s.Name); err != nil {
		return wanted{}, err
	}
	if !told || dry || !hasPassword(s.Account) {
		return wanted{Spec: s}, nil
	}
	if s.Password == nil {
		return wanted{}, errors.New("there is nobody to ask for the account's password")
	}
	password, err := s.Password(ctx, "Password of "+s.Account+": ")
	if err != nil {
		return wanted{}, fmt.Errorf("get the password of %s: %w", s.Account, err)
	}
	if password == "" {
		return wanted{}, fmt.Errorf("the password of %s is empty", s.Account)
	}
	return wanted{Spec: s, password: password}, nil
}

func hasPrefix(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func checkAccount(account, service string) error {
	switch {
	case strings.EqualFold(account, "LocalSystem"), strings.EqualFold(account, builtin+"SYSTEM"), strings.EqualFold(account, "SYSTEM"):
		return errors.New("it does not run as SYSTEM, which it has no need of; leave --account out for an account of its own, which " +
			"is the machine's on the network as well")
	case strings.ContainsAny(account, "\"/[]:;|=,+*?<>\x00\r\n"):
		return fmt.Errorf("%q is no name of an account", account)
	case hasPrefix(account, virtual) && !strings.EqualFold(account, virtual+service):
		return fmt.Errorf("%s is another service's account; this one's is %s", account, virtual+service)
	case !strings.ContainsAny(account, `\@`):
		return fmt.Errorf(`%q could be of this machine or of a domain: write .\%[1]s or DOMAIN\%[1]s`, account)
	}
	return nil
}

// managed is a (group) managed service account, whose password Windows gets from the domain.
func managed(account string) bool { return strings.HasSuffix(account, "$") }

func hasPassword(account string) bool {
	return !managed(account) && !hasPrefix(account, virtual) && !hasPrefix(account, builtin)
}

// ofDomain says whether a domain controller has to be asked when the account logs on.
func ofDomain(account string) bool {
	scope, _, qualified := strings.Cut(account, `\`)
	host, err := windows.ComputerName()
	switch {
	case hasPrefix(account, virtual), hasPrefix(account, builtin), qualified && scope == ".":
		return false
	case qualified && err == nil && strings.EqualFold(scope, host):
		return false
	}
	return true
}

// needs is what has to run before it.
func needs(account string) []string {
	if ofDomain(account) {
		return []string{"Netlogon"}
	}
	return nil
}

func sameAccount(a, b string) bool {
	host, err := windows.ComputerName()
	local := func(s string) string {
		if scope, name, ok := strings.Cut(s, `\`); ok && err == nil && strings.EqualFold(scope, host) {
			return `.\` + name
		}
		return s
	}
	return strings.EqualFold(local(a), local(b))
}

// planAccount has the account able to log on, and the folder its own.
func planAccount(s Spec) ([]step, error) {
	var steps []step
	if s.Secured != nil && !s.Secured(s.Account) {
		steps = append(steps, step{"give the folder " + s.State + " to " + s.Account + " and the administrators alone", func(context.Context) error {
			return s.Secure(s.Account)
		}})
	}
	if hasPrefix(s.Account, virtual) || hasPrefix(s.Account, builtin) {
		return steps, nil // they may log on as services
	}
	sid, err := access.AccountSID(s.Account)
	if err != nil {
		return nil, fmt.Errorf("%w; see whether the name is right, and whether a domain controller answers: nltest /dsgetdc:DOMAIN", err)
	}
	if has, err := mayLogOn(sid); err != nil || !has {
		steps = append(steps, step{"give " + s.Account + " the right to log on as a service", func(context.Context) error { return letLogOn(sid) }})
	}
	return steps, nil
}

// planManaged tells Windows that it is to get the account's password from the domain, as 'sc managedaccount' does.
func planManaged(s Spec) []step {
	if !managed(s.Account) || markedManaged(s.Name) {
		return nil
	}
	return []step{{"have Windows keep the password of " + s.Account, func(ctx context.Context) error {
		dir, err := windows.GetSystemDirectory()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, commandLimit)
		defer cancel()
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "sc.exe"), "managedaccount", s.Name, "TRUE").CombinedOutput()
		if err != nil {
			return fmt.Errorf("sc managedaccount %s TRUE: %w: %s", s.Name, err, bytes.TrimSpace(out))
		}
		return nil
	}}}
}

func markedManaged(service string) bool {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\`+service, registry.QUERY_VALUE)
	if err != nil {
		return false
	}
	defer key.Close()
	mark, _, err := key.GetBinaryValue("ServiceAccountManaged")
	return err == nil && len(mark) > 0 && mark[0] == 1
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

// checkProgram refuses a program that somebody who is no administrator could replace, or put a library beside.
func checkProgram(path string) error {
	var list access.List
	for _, text := range []string{"S-1-5-18", "S-1-5-32-544", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"} { // TrustedInstaller
		sid, err := windows.StringToSid(text)
		if err != nil {
			return err
		}
		list = append(list, sid)
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("find out the own account: %w", err)
	}
	list = append(list, user.User.Sid) // an administrator, who installs it
	mask := windows.ACCESS_MASK(access.Change)
	for p := path; ; p = filepath.Dir(p) {
		fault, err := list.Judge(p, mask, 0)
		if err != nil {
			return err
		}
		if fault != nil {
			return fmt.Errorf("%s is no administrator and may change %s, and so replace what the service runs; put the program where only "+
				`administrators can write: %%ProgramFiles%%\Sallyport`, fault, p)
		}
		if filepath.Dir(p) == p {
			return nil
		}
		if p != path {
			mask = access.Replace // users may make folders beside it, not put another one in its place
		}
	}
}

// The rights on the machine's policy (ntsecapi.h) and what Windows calls the right.
const (
	policyRead   = 0x1 | 0x800  // POLICY_VIEW_LOCAL_INFORMATION, POLICY_LOOKUP_NAMES
	policyWrite  = 0x10 | 0x800 // POLICY_CREATE_ACCOUNT, POLICY_LOOKUP_NAMES
	noneRecorded = 0xC0000034   // STATUS_OBJECT_NAME_NOT_FOUND: the account has no rights of its own
	logOnRight   = "SeServiceLogonRight"
)

// lsa calls a function of the local security authority.
func lsa(name string, args ...uintptr) error {
	r, _, _ := windows.NewLazySystemDLL("advapi32.dll").NewProc(name).Call(args...)
	if r != 0 {
		return windows.NTStatus(r)
	}
	return nil
}

// withPolicy opens the machine's policy.
func withPolicy(rights uint32, do func(policy uintptr) error) error {
	var attributes windows.OBJECT_ATTRIBUTES
	var policy uintptr
	err := lsa("LsaOpenPolicy", 0, uintptr(unsafe.Pointer(&attributes)), uintptr(rights), uintptr(unsafe.Pointer(&policy)))
	if err != nil {
		return fmt.Errorf("open the machine's security policy: %w", err)
	}
	defer lsa("LsaClose", policy)
	return do(policy)
}

func mayLogOn(sid *windows.SID) (has bool, err error) {
	err = withPolicy(policyRead, func(policy uintptr) error {
		var rights *windows.NTUnicodeString
		var count uint32
		err := lsa("LsaEnumerateAccountRights", policy, uintptr(unsafe.Pointer(sid)), uintptr(unsafe.Pointer(&rights)), uintptr(unsafe.Pointer(&count)))
		if status, ok := errors.AsType[windows.NTStatus](err); ok && status == noneRecorded {
			return nil
		}
		if err != nil || rights == nil {
			return err
		}
		defer lsa("LsaFreeMemory", uintptr(unsafe.Pointer(rights)))
		for _, one := range unsafe.Slice(rights, count) {
			has = has || one.String() == logOnRight
		}
		return nil
	})
	return has, err
}

func letLogOn(sid *windows.SID) error {
	right, err := windows.NewNTUnicodeString(logOnRight)
	if err != nil {
		return err
	}
	return withPolicy(policyWrite, func(policy uintptr) error {
		return lsa("LsaAddAccountRights", policy, uintptr(unsafe.Pointer(sid)), uintptr(unsafe.Pointer(right)), 1)
	})
}
