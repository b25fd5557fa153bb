package agent

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// DefaultState is the directory for the agent's key and secrets if the configuration names none. The system is asked,
// not the environment, which whoever starts the program could set.
func DefaultState() string {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		dir = `C:\ProgramData`
	}
	return filepath.Join(dir, "Sallyport")
}
