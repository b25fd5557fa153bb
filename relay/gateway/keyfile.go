package gateway

import "path/filepath"

// KeyFile is the file of the relay's signing key, given the data folder.
func KeyFile(dir string) string { return filepath.Join(dir, keyFile) }
