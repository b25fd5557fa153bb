package winauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"

	"sallyport/agent/winauth/kerberos"
)

// NTSTATUS values by which Active Directory says why an account may not sign on.
const (
	statusLogonHours      = 0xC000006F
	statusWorkstation     = 0xC0000070
	statusPasswordExpired = 0xC0000071
	statusDisabled        = 0xC0000072
	statusExpired         = 0xC0000193
	statusMustChange      = 0xC0000224
	statusLocked          = 0xC0000234
)

// explain turns an error of the Kerberos client into an Error that says what to do.
func explain(err error, who, spn string) error {
	if k, ok := errors.AsType[*kerberos.KDCError](err); ok {
		kind, mend := explainCode(k, who, spn)
		return &Error{Kind: kind, Err: err, Mend: mend}
	}
	if _, ok := errors.AsType[*kerberos.UnreachableError](err); ok {
		return &Error{
			Kind: KDCUnreachable, Err: err,
			Mend: "check DNS, and that port 88/TCP of the domain controllers is open from this machine",
		}
	}
	switch {
	case errors.Is(err, kerberos.ErrNoTransition):
		return &Error{
			Kind: NoDelegation, Err: err, Mend: "let " + who + " act for people: in Active Directory Users and Computers, tab Delegation, " +
				"\"Trust this user for delegation to specified services only\" with \"Use any authentication protocol\"",
		}
	case errors.Is(err, kerberos.ErrForeignRealm):
		return &Error{Kind: NoDelegation, Err: err, Mend: "let an account of the API's own domain act, by an agent of its own if need be"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Kind: KDCUnreachable, Err: fmt.Errorf("get a ticket for %s: %w", spn, err)}
	case errors.Is(err, kerberos.ErrNoTGT):
		return &Error{Kind: BadCredential, Err: err, Mend: "renew it with kinit, or have k5start keep it renewed"}
	case errors.Is(err, kerberos.ErrNoKey):
		return &Error{Kind: BadCredential, Err: err, Mend: "make a keytab with the account's AES keys"}
	case errors.Is(err, kerberos.ErrOtherOwner):
		return &Error{Kind: BadCredential, Err: err, Mend: "restart the agent if that is meant"}
	}
	return &Error{Kind: NotReady, Err: err}
}

func explainCode(k *kerberos.KDCError, who, spn string) (Kind, string) {
	switch {
	case k.Step == kerberos.StepProxy && k.Code == errorcode.KDC_ERR_BADOPTION:
		return NoDelegation, who + " may not act for people towards " + spn + ": add it to the services on the account's tab Delegation " +
			"(msDS-AllowedToDelegateTo)"
	case k.Step == kerberos.StepSelf && k.Code == errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		return NoDelegation, who + " has no service principal name, without which nobody acts for people: setspn -S sallyport/HOST " + who
	}
	switch k.Code {
	case errorcode.KDC_ERR_PREAUTH_FAILED:
		if k.KVNO > 0 {
			return BadCredential, fmt.Sprintf("the keytab is stale: its key version is %d, and the password of %s has changed "+
				"since; make a new keytab", k.KVNO, who)
		}
		return BadCredential, "the password of " + who + " is wrong: set it again with: sallyport-agent secret set"
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		return BadCredential, "the domain has no account " + who + ": check the name and the domain"
	case errorcode.KDC_ERR_CLIENT_REVOKED, errorcode.KDC_ERR_NAME_EXP, errorcode.KDC_ERR_KEY_EXPIRED,
		errorcode.KDC_ERR_CLIENT_NOTYET, errorcode.KDC_ERR_POLICY:
		if k.Step == kerberos.StepLogon {
			return AccountBlocked, blocked(k, who)
		}
		return Rejected, "a policy of the domain forbids " + who + " to use " + spn
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		if k.Step == kerberos.StepLogon {
			return BadCredential, "the domain controller does not serve the realm " + k.Realm + ": check the account's domain"
		}
		return UnknownSPN, "add the SPN to the account that the service runs as with: setspn -S " + spn +
			" DOMAIN\\ACCOUNT, or set the API's spn to one that exists"
	case errorcode.KDC_ERR_PRINCIPAL_NOT_UNIQUE:
		return UnknownSPN, "several accounts have the SPN " + spn + ": find them with: setspn -Q " + spn
	case errorcode.KRB_AP_ERR_SKEW, errorcode.KRB_AP_ERR_TKT_NYV:
		return ClockSkew, fmt.Sprintf("the other clock is %s from this machine's: set up time synchronisation (w32time, chrony)",
			k.Skew.Round(time.Second))
	case errorcode.KDC_ERR_ETYPE_NOSUPP:
		if k.Step == kerberos.StepLogon {
			return BadCredential, "no common encryption type with " + who +
				": set its password anew, and let msDS-SupportedEncryptionTypes have AES (24)"
		}
		return Rejected, "no common encryption type with the account of " + spn +
			": let its msDS-SupportedEncryptionTypes have AES (24) and set its password anew"
	case errorcode.KRB_AP_ERR_MODIFIED, errorcode.KRB_AP_ERR_BAD_INTEGRITY, errorcode.KRB_AP_ERR_NOT_US,
		errorcode.KRB_AP_ERR_NOKEY, errorcode.KRB_AP_ERR_BADKEYVER:
		return Rejected, "the server cannot decrypt the ticket: " + spn + " belongs to another account than the service runs " +
			"as, or the server's keytab is stale; find the owner with: setspn -Q " + spn
	}
	if k.Step == kerberos.StepLogon {
		return BadCredential, "look for the logon of " + who + " in the domain controller's security log"
	}
	return Rejected, ""
}

// blocked names the reason why an account may not sign on, from the NTSTATUS or else from the code.
func blocked(k *kerberos.KDCError, who string) string {
	if reason := blockedBy(k.NTStatus, who); reason != "" {
		return reason
	}
	switch k.Code {
	case errorcode.KDC_ERR_KEY_EXPIRED:
		return "the password of " + who + " has expired or must be changed: set a new one that does not expire"
	case errorcode.KDC_ERR_NAME_EXP:
		return who + " has expired: set its account expiry"
	case errorcode.KDC_ERR_POLICY:
		return "a policy of the domain keeps " + who + " from signing on here or now"
	}
	return who + " is disabled, locked or expired: look at the account in Active Directory"
}

// blockedBy names the reason that an NTSTATUS gives; "" if it gives none.
func blockedBy(status uint32, who string) string {
	switch status {
	case statusDisabled:
		return who + " is disabled: enable it in Active Directory"
	case statusLocked:
		return who + " is locked after wrong passwords: unlock it, and look for who tries them"
	case statusExpired:
		return who + " has expired: set its account expiry"
	case statusPasswordExpired, statusMustChange:
		return "the password of " + who + " has expired or must be changed: set a new one that does not expire"
	case statusLogonHours:
		return who + " may not sign on at this hour"
	case statusWorkstation:
		return who + " may not sign on from this machine"
	}
	return ""
}
