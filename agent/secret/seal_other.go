//go:build !windows

package secret

// Seal gives the form in which a value lies on the disk. Off Windows it is the value itself: there is no key that the
// agent could read and others could not, so the file's mode is the protection.
func Seal(_ string, plain []byte) ([]byte, error) { return plain, nil }

// Unseal undoes Seal.
func Unseal(_ string, sealed []byte) ([]byte, error) { return sealed, nil }
