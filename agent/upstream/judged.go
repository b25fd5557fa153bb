package upstream

import (
	"errors"
	"strings"

	"sallyport/agent/winauth"
)

// tell says once what became of the sign-on with a caller's own credential.
func (x *call) tell(o Outcome) {
	if x.sign.Done != nil {
		x.sign.Done(o)
		x.sign.Done = func(Outcome) {}
	}
}

// judged tells what became of the sign-on, and turns the refusal of a caller's own password into the caller's error.
func (x *call) judged(err error) error {
	if x.sign.Done == nil {
		return err
	}
	switch {
	case x.proved:
		x.tell(Accepted)
	case err != nil && x.passwordRefused(err):
		x.tell(Refused)
		return &Error{Kind: LogonRefused, NotRun: true, Err: err}
	default:
		x.tell(Untold)
	}
	return err
}

// passwordRefused says that err is a refusal of the password or its account. A server that refuses a Kerberos ticket is
// none: the domain has accepted the password then.
func (x *call) passwordRefused(err error) bool {
	e, ok := errors.AsType[*winauth.Error](err)
	if !ok {
		return false
	}
	switch e.Kind {
	case winauth.BadCredential, winauth.AccountBlocked:
		return true
	case winauth.Rejected:
		return strings.Contains(x.tried, "ntlm")
	}
	return false
}

// signedOn says what came of a sign-on that was made for the call, by its error, and by which protocol. x may be nil: no call
// was made.
func (x *call) signedOn(err error) (Outcome, string) {
	if x == nil || x.sign.Credential == nil {
		return Untold, ""
	}
	if x.proved {
		return Accepted, x.protocol
	}
	if e, ok := errors.AsType[*Error](err); ok && (e.Kind == AuthFailed || e.Kind == LogonRefused) {
		return Refused, x.tried
	}
	return Untold, ""
}

// principal is the caller's account: the one that the call was made as, or the one whose password is proved by the answer or by
// the connection that it came over.
func (x *call) principal() string {
	if x.sign.Named {
		return x.sign.Credential.Identity()
	}
	if x.sign.Done == nil || !x.proved && !x.vouched {
		return ""
	}
	return x.sign.Credential.Identity()
}
