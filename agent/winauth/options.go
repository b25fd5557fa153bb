package winauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// Protocol says what a Credential may speak.
type Protocol string

// The protocols. Negotiate is the default: Kerberos, and NTLM inside SPNEGO only where Kerberos cannot be had (the KDC
// knows no such service, no KDC answers, or there is no realm) and the credential has a password. A refused logon or a
// refused Kerberos token is never followed by NTLM: Windows does not do that either, and it would count a wrong password
// twice.
const (
	Negotiate Protocol = "negotiate"
	Kerberos  Protocol = "kerberos"
	NTLM      Protocol = "ntlm"
)

// ChannelBinding says whether sign-ons are bound to the TLS connection (Extended Protection, RFC 5929).
type ChannelBinding string

// The settings. BindingAuto is the default: bound over TLS where RFC 5929 defines a binding for the certificate.
const (
	BindingAuto    ChannelBinding = "auto"
	BindingRequire ChannelBinding = "require" // without a binding there is no sign-on
	BindingOff     ChannelBinding = "off"
)

// Options are common to all credentials. The zero value is the default.
type Options struct {
	Protocol       Protocol
	ChannelBinding ChannelBinding
	// Mutual demands that the server prove itself, which only Kerberos can: then NTLM is not used. Without it, a proof that
	// is there is verified, and none is accepted, since many servers send none.
	Mutual bool
	// Krb5Config is the path of a krb5.conf, "" for the system's; Krb5Text is its text and goes first. Not used where Windows
	// makes the tokens.
	Krb5Config string
	Krb5Text   []byte
	// Dial opens connections to KDCs; nil is net.Dialer's. Not used where Windows makes the tokens.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock is time.Now if nil.
	Clock func() time.Time
	// Log gets debug lines; nil is silence. Never a token or a password.
	Log *slog.Logger
}

// ServiceSource says where the service account's own credential comes from. With neither Keytab nor CCache it is
// /etc/krb5.keytab, and on Windows that of the process.
type ServiceSource struct {
	Keytab string
	// Principal picks one of the keytab's ("svc-gw@CORP.EXAMPLE"); "" is the keytab's first.
	Principal string
	// CCache is a credential cache file that somebody else keeps renewed (k5start, sssd).
	CCache string
}

// Account is a named account with a password or a keytab of its own.
type Account struct {
	// User is "CORP\\svc" or "svc@corp.example".
	User string
	// Password gives the password each time it is needed, so that a changed one counts at once and none is kept.
	Password func() (string, error)
	Keytab   string
}

// validate reports every problem at once and fills in the defaults.
func (o *Options) validate() error {
	var errs []error
	switch o.Protocol {
	case "":
		o.Protocol = Negotiate
	case Negotiate, Kerberos, NTLM:
	default:
		errs = append(errs, fmt.Errorf("protocol %q is none of negotiate, kerberos, ntlm", o.Protocol))
	}
	switch o.ChannelBinding {
	case "":
		o.ChannelBinding = BindingAuto
	case BindingAuto, BindingRequire, BindingOff:
	default:
		errs = append(errs, fmt.Errorf("channel binding %q is none of auto, require, off", o.ChannelBinding))
	}
	if o.Mutual && o.Protocol == NTLM {
		errs = append(errs, errors.New("mutual authentication is impossible with NTLM"))
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// name is an account's name taken apart.
type name struct{ user, domain, suffix string }

// parseName reads DOMAIN\user, user@suffix or user.
func parseName(s string) (name, error) {
	var n name
	if d, u, ok := strings.Cut(s, `\`); ok {
		n = name{user: u, domain: d}
		if d == "" || strings.Contains(u, `\`) {
			return n, fmt.Errorf(`account %q: write DOMAIN\user or user@domain`, s)
		}
	} else if i := strings.LastIndexByte(s, '@'); i >= 0 {
		n = name{user: s[:i], suffix: s[i+1:]}
		if n.suffix == "" {
			return n, fmt.Errorf(`account %q: write DOMAIN\user or user@domain`, s)
		}
	} else {
		n = name{user: s}
	}
	if n.user == "" || strings.ContainsAny(s, "\x00\r\n") {
		return n, fmt.Errorf(`account %q: write DOMAIN\user or user@domain`, s)
	}
	return n, nil
}

// identity is the one form in which an account is compared: Windows does not tell upper from lower case in names.
func (n name) identity() string {
	switch {
	case n.domain != "":
		return strings.ToUpper(n.domain) + `\` + strings.ToLower(n.user)
	case n.suffix != "":
		return strings.ToLower(n.user) + "@" + strings.ToUpper(n.suffix)
	}
	return strings.ToLower(n.user)
}

// spn gives the service principal name of a target.
func (t Target) spn() string {
	if t.SPN != "" {
		return t.SPN
	}
	return "HTTP/" + strings.ToLower(strings.TrimSuffix(t.Host, "."))
}
