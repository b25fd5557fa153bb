package backup

// checkOwner has nothing to do on Windows, where what is made in a folder inherits its access list.
func checkOwner(string) error { return nil }
