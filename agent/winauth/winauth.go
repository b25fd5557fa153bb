// Package winauth is Windows authentication as a client: Negotiate (SPNEGO with Kerberos or NTLM) and NTLM over HTTP,
// with channel bindings and mutual authentication (RFC 4559, RFC 4178, RFC 4121, RFC 5929, MS-NLMP, MS-KILE).
//
// It makes and checks tokens; it opens no HTTP connection and sends no request. agent/upstream owns the connections and
// drives one Handshake for each connection (or, where the server authenticates each request, for each request). The tokens
// are made here from a keytab, a credential cache or a password (credential, handshake, transition), or on Windows by the
// system, for a password, the process's own account, or a person in whose name that acts (sspi*, lsa, session).
package winauth

import (
	"context"
	"crypto/tls"
	"time"
)

// A Credential is a person or service as whom requests are signed on. It is safe for concurrent use. It caches what may
// be shared (TGT, service tickets) and bounds it.
type Credential interface {
	// Identity is stable, unique per account and secret-free ("CORP\\svc-gw", "svc-gw@CORP.EXAMPLE"): part of the pool
	// key of upstream connections, and shown to admins.
	Identity() string
	// Handshake starts signing on to one server over one connection.
	Handshake(t Target) Handshake
}

// A Target is the server on the other end of one connection.
type Target struct {
	// Host is the host name of the API's URL without port: the service principal name is HTTP/Host unless SPN is set.
	Host string
	// SPN overrides the service principal name ("HTTP/erp-pool.corp.example").
	SPN string
	// TLS is the connection's state, nil over plain HTTP. Its leaf certificate gives the channel binding
	// (tls-server-end-point, RFC 5929 section 4).
	TLS *tls.ConnectionState
}

// A Token is the value for an Authorization field.
type Token struct {
	// Value is scheme and token: "Negotiate YII...". It is a secret.
	Value string
	// Opening says that this is only a first leg (NTLM type 1, raw or inside SPNEGO): the server cannot run a request
	// under it, so an empty body may be sent with it. Under any other token the request goes out whole or not at all.
	Opening bool
}

// A Handshake is the token machine of one sign-on. Not safe for concurrent use; thrown away after Finish or an error.
type Handshake interface {
	// Ahead gives a token to send before the server has asked, for a server that is known to want it: a complete Kerberos
	// token, or none (Value "") where the protocol cannot do it.
	Ahead(ctx context.Context) (Token, error)
	// Answer takes all WWW-Authenticate values of a 401 and gives the next token. It returns an *Error when the server
	// offers nothing that this credential may use, refuses the credential, or keeps asking: there is no loop, the number
	// of legs is bounded.
	Answer(ctx context.Context, challenges []string) (Token, error)
	// Finish takes the WWW-Authenticate values of the answer that was not 401 and verifies the server's final token where
	// there is one; with Kerberos a server that does not prove itself is an error when the Credential demands mutual
	// authentication.
	Finish(challenges []string) error
	// Protocol says what was really used: "kerberos", "ntlm", "negotiate/ntlm"; "" before it is known.
	Protocol() string
}

// Expiring is what a Handshake also is when its sign-on ends at a known time.
type Expiring interface {
	// Expires says when the ticket ends under which the connection was signed on; zero if that is not known.
	Expires() time.Time
}

// An Error is a sign-on that failed, in words for the admin. It is never shown to callers.
type Error struct {
	Kind Kind
	// Mend says what the admin can do: "add the SPN with: setspn -S HTTP/erp.corp.example CORP\\svc-web".
	Mend string
	Err  error
}

// Kind classifies failures for the log, the doctor and tests.
type Kind string

// The kinds of Error.
const (
	BadCredential  Kind = "bad-credential"  // wrong password, stale keytab
	AccountBlocked Kind = "account-blocked" // disabled, locked, expired, must change password
	UnknownSPN     Kind = "unknown-spn"     // the KDC has no such service
	KDCUnreachable Kind = "kdc-unreachable" // no domain controller answered
	ClockSkew      Kind = "clock-skew"      // the clocks differ by more than the KDC allows
	NotOffered     Kind = "not-offered"     // the server offers no scheme that this credential may use
	Rejected       Kind = "rejected"        // the server answered 401 to a complete sign-on: rights, channel binding, SPN of another account
	NotMutual      Kind = "not-mutual"      // the server did not prove itself
	BadToken       Kind = "bad-token"       // the server's token cannot be read
	NoBinding      Kind = "no-binding"      // a channel binding is required, but this connection has none
	NoDelegation   Kind = "no-delegation"   // the agent's account may not act for people, or not towards this service
	NotReady       Kind = "not-ready"       // keytab, credential cache or stored password cannot be read
)

func (e *Error) Error() string {
	if e.Mend == "" {
		return string(e.Kind) + ": " + e.Err.Error()
	}
	return string(e.Kind) + ": " + e.Err.Error() + " (" + e.Mend + ")"
}

func (e *Error) Unwrap() error { return e.Err }
