package update

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	wintrust          = windows.NewLazySystemDLL("wintrust.dll")
	provDataFromState = wintrust.NewProc("WTHelperProvDataFromStateData")
	provSigner        = wintrust.NewProc("WTHelperGetProvSignerFromChain")
	provCertificate   = wintrust.NewProc("WTHelperGetProvCertFromChain")
)

// sealOf asks Windows for the signature in a program.
func sealOf(path string) (s seal, err error) {
	if s.signed, err = isSigned(path); err != nil || !s.signed {
		return s, err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return s, err
	}
	file := windows.WinTrustFileInfo{Size: uint32(unsafe.Sizeof(windows.WinTrustFileInfo{})), FilePath: name}
	trust := windows.WinTrustData{
		Size:     uint32(unsafe.Sizeof(windows.WinTrustData{})),
		UIChoice: windows.WTD_UI_NONE,
		// A machine that reaches nothing but its relay could not ask for revocations, and would take no update.
		RevocationChecks:                windows.WTD_REVOKE_NONE,
		UnionChoice:                     windows.WTD_CHOICE_FILE,
		StateAction:                     windows.WTD_STATEACTION_VERIFY,
		FileOrCatalogOrBlobOrSgnrOrCert: unsafe.Pointer(&file),
		UIContext:                       windows.WTD_UICONTEXT_INSTALL,
	}
	s.wrong = verifyTrust(&trust)
	defer func() {
		trust.StateAction = windows.WTD_STATEACTION_CLOSE
		_ = verifyTrust(&trust) // frees what the first call has kept
	}()
	s.publisher, err = publisherOf(trust.StateData)
	if s.wrong == nil {
		s.wrong = err // a signature without a signer is none
	}
	return s, nil
}

func verifyTrust(t *windows.WinTrustData) error {
	err := windows.WinVerifyTrustEx(windows.InvalidHWND, &windows.WINTRUST_ACTION_GENERIC_VERIFY_V2, t)
	if code, ok := errors.AsType[windows.Errno](err); ok {
		return fmt.Errorf("%w (0x%08X)", err, uint32(code))
	}
	return err
}

// certNameX500 asks for a name as in RFC 4514 (CERT_X500_NAME_STR).
const certNameX500 = 3

// publisherOf gives the subject of the certificate that has signed what was just verified: of that very signature, where a
// program has several.
func publisherOf(state windows.Handle) (string, error) {
	for _, p := range []*windows.LazyProc{provDataFromState, provSigner, provCertificate} {
		if err := p.Find(); err != nil {
			return "", err
		}
	}
	data, _, _ := provDataFromState.Call(uintptr(state))
	if data == 0 {
		return "", errors.New("the system found no signature")
	}
	signer, _, _ := provSigner.Call(data, 0, 0, 0)
	if signer == 0 {
		return "", errors.New("the system found no signer")
	}
	first, _, _ := provCertificate.Call(signer, 0)
	if first == 0 {
		return "", errors.New("the signer's certificate is not there")
	}
	// CRYPT_PROVIDER_CERT begins with its size and a pointer to the certificate. It is Windows' memory: vet cannot know.
	c := *(**struct {
		_    uint32
		cert *windows.CertContext
	})(unsafe.Pointer(&first))
	kind := uint32(certNameX500)
	name := make([]uint16, 4096)
	n := windows.CertGetNameString(c.cert, windows.CERT_NAME_RDN_TYPE, 0, unsafe.Pointer(&kind), &name[0], uint32(len(name)))
	return windows.UTF16ToString(name[:n]), nil
}
