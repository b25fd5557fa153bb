//go:build !windows

package agent

import "io/fs"

// DefaultState is the directory for the agent's key and secrets if the configuration names none.
func DefaultState() string { return "/var/lib/sallyport-agent" }

// writableByOthers says whether the group or everybody may write a file.
func writableByOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }
