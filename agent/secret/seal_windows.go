package secret

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// sealMark begins every sealed value, so that a file written by hand is told from a damaged one.
const sealMark = "dpapi1\x00"

// Seal gives the form in which a value lies on the disk: DPAPI under the machine's key (the service's account may be
// changed, and a gMSA has no profile), bound to the purpose by its entropy. Machine scope lets every account of the
// machine unseal, so the file's access list (agent/state) is needed as well.
func Seal(purpose string, plain []byte) ([]byte, error) {
	if len(plain) == 0 {
		return nil, errors.New("nothing to seal")
	}
	in, entropy, out := blob(plain), blob(entropyOf(purpose)), windows.DataBlob{}
	const flags = windows.CRYPTPROTECT_LOCAL_MACHINE | windows.CRYPTPROTECT_UI_FORBIDDEN
	if err := windows.CryptProtectData(&in, nil, &entropy, 0, nil, flags, &out); err != nil {
		return nil, fmt.Errorf("seal with DPAPI: %w", err)
	}
	return append([]byte(sealMark), take(out)...), nil
}

// Unseal undoes Seal.
func Unseal(purpose string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte(sealMark))
	if !ok || len(rest) == 0 {
		return nil, errors.New("it was not sealed by this program")
	}
	in, entropy, out := blob(rest), blob(entropyOf(purpose)), windows.DataBlob{}
	if err := windows.CryptUnprotectData(&in, nil, &entropy, 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
		return nil, fmt.Errorf("unseal with DPAPI (was the file made on another machine?): %w", err)
	}
	return take(out), nil
}

func entropyOf(purpose string) []byte { return []byte("sallyport-agent\x00" + purpose) }

func blob(b []byte) windows.DataBlob {
	return windows.DataBlob{Size: uint32(len(b)), Data: unsafe.SliceData(b)}
}

// take copies what DPAPI allocated and frees it.
func take(b windows.DataBlob) []byte {
	defer windows.LocalFree(windows.Handle(unsafe.Pointer(b.Data)))
	return bytes.Clone(unsafe.Slice(b.Data, b.Size))
}
