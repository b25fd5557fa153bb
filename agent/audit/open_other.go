//go:build !windows

package audit

import "os"

// openToRead opens a file of the record that the running agent may rename or delete meanwhile.
func openToRead(path string) (*os.File, error) { return os.Open(path) }
