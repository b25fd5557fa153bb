package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"

	"sallyport/internal/access"
)

// makeDir makes the directory, and those above it that are missing, each with an access list of its own from its first
// moment: ProgramData lets every user read, and make files.
func makeDir(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if up := filepath.Dir(path); up != path {
		if err := makeDir(up); err != nil {
			return err
		}
	}
	a, err := whoMay()
	if err != nil {
		return err
	}
	sd, err := windows.SecurityDescriptorFromString(a.descriptor(true, modify))
	if err != nil {
		return fmt.Errorf("make the access list of %s: %w", path, err)
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	sa := windows.SecurityAttributes{Length: uint32(unsafe.Sizeof(windows.SecurityAttributes{})), SecurityDescriptor: sd}
	if err := windows.CreateDirectory(name, &sa); err != nil && !errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

func checkDir(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0 {
		return fmt.Errorf("state directory %s is a link, which others could turn elsewhere; name the real folder", path)
	}
	if !info.IsDir() {
		return fmt.Errorf("state directory %s is not a directory", path)
	}
	return checkAccess(path, access.Change, access.Read|access.Change, "use what is in it")
}

func checkWritable(path string) error { return checkAccess(path, access.Change, 0, "write it") }

func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	return checkAccess(f.Name(), access.Read|access.Change, 0, "use it")
}

// syncDir has nothing to do: NTFS journals the rename, and a directory cannot be flushed.
func syncDir(string) error { return nil }

// adopt has nothing to do: who makes a directory makes it for the service's accounts as well.
func (d Dir) adopt(string) error { return nil }

// adoptFile closes a file to others if what it inherited from its folder does not. An administrator's becomes the
// administrators': the service would not trust that of a person.
func (d Dir) adoptFile(f *os.File) error {
	a, err := whoMay()
	if err != nil || !a.elevated && checkFile(f) == nil {
		return err
	}
	return a.set(f.Name(), modify)
}

// set gives a path, which is no link and has no other name, the access list of what is made for these accounts.
func (a *accounts) set(path, rights string) error {
	needed := uint32(windows.READ_CONTROL | windows.WRITE_DAC)
	info := windows.SECURITY_INFORMATION(windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION)
	if a.elevated {
		needed, info = needed|windows.WRITE_OWNER, info|windows.OWNER_SECURITY_INFORMATION
	}
	h, data, err := openItself(path, needed)
	if err != nil {
		return fmt.Errorf("set the access list of %s: %w", path, err)
	}
	defer windows.CloseHandle(h)
	dir := data.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0
	sd, err := windows.SecurityDescriptorFromString(a.descriptor(dir, rights))
	if err != nil {
		return fmt.Errorf("make the access list of %s: %w", path, err)
	}
	if err := windows.SetKernelObjectSecurity(h, info, sd); err != nil {
		return fmt.Errorf("set the access list of %s: %w", path, err)
	}
	return nil
}

// openItself opens a path to change its access list, and follows no link.
func openItself(path string, rights uint32) (windows.Handle, *windows.ByHandleFileInformation, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, nil, err
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	const flags = windows.FILE_FLAG_BACKUP_SEMANTICS | windows.FILE_FLAG_OPEN_REPARSE_POINT
	h, err := windows.CreateFile(name, rights, share, nil, windows.OPEN_EXISTING, flags, 0)
	if err != nil {
		return 0, nil, err
	}
	var data windows.ByHandleFileInformation
	if err = windows.GetFileInformationByHandle(h, &data); err == nil && data.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0 {
		err = errors.New("it is a link; remove it")
	} else if err == nil && data.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY == 0 && data.NumberOfLinks > 1 {
		err = errors.New("it has another name elsewhere; remove it")
	}
	if err != nil {
		windows.CloseHandle(h)
		return 0, nil, err
	}
	return h, &data, nil
}
