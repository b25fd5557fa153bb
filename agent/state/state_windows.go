package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// makeDir makes the directory with a DACL of its own, which its files inherit: ProgramData lets every user read.
func makeDir(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	owner, err := ownSID()
	if err != nil {
		return err
	}
	// Protected (P): SYSTEM, Administrators and the agent's own account, inherited by files and directories.
	sd, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;" + owner + ")")
	if err != nil {
		return fmt.Errorf("make the access list of %s: %w", path, err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("make the access list of %s: %w", path, err)
	}
	err = windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
	if err != nil {
		return fmt.Errorf("set the access list of %s: %w", path, err)
	}
	return nil
}

func ownSID() (string, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("find out the own account: %w", err)
	}
	return user.User.Sid.String(), nil
}

func checkDir(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("state directory %s is not a directory", path)
	}
	return checkAccess(path, write, "write in it")
}

func checkWritable(path string) error { return checkAccess(path, write, "write it") }

// write is any right by which content is changed.
const write = windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | windows.GENERIC_WRITE | windows.GENERIC_ALL

func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	const read = windows.FILE_READ_DATA | windows.GENERIC_READ | windows.GENERIC_ALL
	return checkAccess(f.Name(), read, "read it")
}

// checkAccess refuses a path that grants a right of mask to everybody, to all who signed on, or to all users.
func checkAccess(path string, mask windows.ACCESS_MASK, what string) error {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("read the access list of %s: %w", path, err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("read the access list of %s: %w", path, err)
	}
	exposed := dacl == nil // no list: everybody may do everything
	for i := uint32(0); !exposed && i < uint32(dacl.AceCount); i++ {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &ace); err != nil {
			return fmt.Errorf("read the access list of %s: %w", path, err)
		}
		if ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE || ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 {
			continue
		}
		exposed = ace.Mask&mask != 0 && isMany((*windows.SID)(unsafe.Pointer(&ace.SidStart)))
	}
	if exposed {
		return fmt.Errorf("%s is %w: other accounts may %s; mend with: "+
			`icacls "%s" /inheritance:r /grant:r SYSTEM:F Administrators:F`, path, ErrExposed, what, path)
	}
	return nil
}

func isMany(sid *windows.SID) bool {
	return sid.IsWellKnown(windows.WinWorldSid) ||
		sid.IsWellKnown(windows.WinAuthenticatedUserSid) ||
		sid.IsWellKnown(windows.WinBuiltinUsersSid) ||
		sid.IsWellKnown(windows.WinBuiltinGuestsSid)
}

// syncDir has nothing to do: NTFS journals the rename, and a directory cannot be flushed.
func syncDir(string) error { return nil }

// On Windows the directory's access list is inherited, whoever makes a file.
func (d Dir) adopt(string) error { return nil }

func (d Dir) adoptFile(*os.File) error { return nil }
