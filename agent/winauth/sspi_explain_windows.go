package winauth

import (
	"errors"
	"fmt"
	"syscall"
)

// The SSPI errors that have a mend (winerror.h).
const (
	secTargetUnknown      = syscall.Errno(0x80090303)
	secInvalidToken       = syscall.Errno(0x80090308)
	secLogonDenied        = syscall.Errno(0x8009030C)
	secUnknownCredentials = syscall.Errno(0x8009030D)
	secNoCredentials      = syscall.Errno(0x8009030E)
	secMessageAltered     = syscall.Errno(0x8009030F)
	secNoAuthority        = syscall.Errno(0x80090311)
	secWrongPrincipal     = syscall.Errno(0x80090322)
	secTimeSkew           = syscall.Errno(0x80090324)
	secDowngrade          = syscall.Errno(0x80090350)
	secBadBindings        = syscall.Errno(0x80090346)
	secDelegationPolicy   = syscall.Errno(0x8009035E)
)

// explainSSPI turns an error of SSPI into an Error that says what to do.
func explainSSPI(err error, who, spn string) error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	code, _ := errors.AsType[syscall.Errno](err)
	e := &Error{Kind: NotReady, Err: fmt.Errorf("sign-on of %s by Windows: %w (0x%08X)", who, err, uint32(code))}
	switch code {
	case secTargetUnknown:
		e.Kind = UnknownSPN
		e.Mend = "add the SPN to the account that the service runs as with: setspn -S " + spn +
			" DOMAIN\\ACCOUNT, or set the API's spn to one that exists"
	case secInvalidToken, secMessageAltered:
		e.Kind = BadToken
	case secLogonDenied, secUnknownCredentials:
		e.Kind = BadCredential
		e.Mend = "the password of " + who + " is wrong, or the account is disabled, locked or expired"
	case secNoCredentials:
		e.Mend = "run the service as a domain account, a gMSA or the machine's own, or use a named account"
	case secNoAuthority, secDowngrade:
		e.Kind = KDCUnreachable
		e.Mend = "check DNS and the way to the domain controllers: nltest /dsgetdc:DOMAIN"
	case secWrongPrincipal:
		e.Kind = Rejected
		e.Mend = spn + " belongs to another account than the service runs as; find the owner with: setspn -Q " + spn
	case secTimeSkew:
		e.Kind = ClockSkew
		e.Mend = "synchronise the clock: w32tm /resync"
	case secBadBindings:
		e.Kind = Rejected
		e.Mend = "something between here and the API ends TLS, so that the channel binding is of another certificate"
	}
	return e
}

// explain does so for this credential. In a person's name, what Windows has no credentials for is what nobody may delegate.
func (c *sspiCredential) explain(err error, spn string) error {
	e := explainSSPI(err, c.id, spn)
	code, _ := errors.AsType[syscall.Errno](err)
	own, ok := errors.AsType[*Error](e)
	if c.person == nil || !ok {
		return e
	}
	switch code {
	case secNoCredentials, secUnknownCredentials, secLogonDenied, secDelegationPolicy:
		own.Kind = NoDelegation
		own.Mend = "let the account of the service act for people towards " + spn + ": in Active Directory Users and Computers, tab Delegation, " +
			"\"Trust this user for delegation to specified services only\" with \"Use any authentication protocol\", and add the SPN; " +
			"see too that " + c.id + " is not marked \"Account is sensitive and cannot be delegated\""
	}
	return own
}
