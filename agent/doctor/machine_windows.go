package doctor

import "golang.org/x/sys/windows"

// freeSpace is what the agent may still write where path is, in bytes.
func freeSpace(path string) (uint64, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(name, &free, nil, nil)
	return free, err
}

// handleLimit is unknown: Windows has none that an agent reaches.
func handleLimit() (limit uint64, known bool) { return 0, false }

// strangers has nothing to find: the directory's access list is inherited, and agent.yaml's is the folder's.
func strangers(string, string) string { return "" }
