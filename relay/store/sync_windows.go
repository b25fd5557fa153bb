package store

// syncFolder has nothing to do on Windows: NTFS journals a rename, and a folder cannot be synced.
func syncFolder(string) error { return nil }
