package update

import (
	"context"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// msiComponent is the program in the packages for Windows Installer, of every version and architecture: installer/windows/msi.sh
// makes it.
const msiComponent = "{8B8D415C-DC18-5F40-8B93-EF5ADF254D4E}"

var msiLocateComponent = windows.NewLazySystemDLL("msi.dll").NewProc("MsiLocateComponentW")

// Managed says that a program belongs to Windows Installer, and how that one updates it; empty if it does not. Windows Installer's
// own record is what a repair goes by, which would put the version of the package back.
func Managed(_ context.Context, program string) (manager, how string) {
	if where := msiProgram(); where == "" || !sameFile(where, program) {
		return "", ""
	}
	return "Windows Installer", "msiexec /i sallyport-agent-VERSION-windows-ARCH.msi"
}

// msiProgram is where Windows Installer has put the program; empty if it has not.
func msiProgram() string {
	const installedHere = 3 // INSTALLSTATE_LOCAL
	component, err := windows.UTF16PtrFromString(msiComponent)
	if err != nil || msiLocateComponent.Find() != nil {
		return ""
	}
	path := make([]uint16, 4096)
	size := uint32(len(path))
	state, _, _ := msiLocateComponent.Call(uintptr(unsafe.Pointer(component)), uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&size)))
	if int32(state) != installedHere {
		return ""
	}
	return windows.UTF16ToString(path)
}

func sameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}
