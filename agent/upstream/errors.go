package upstream

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// An Error is an exchange without an answer, in the operator's words. It can name internal hosts and accounts: it goes
// to the log, and problem.go says what a caller sees.
type Error struct {
	Kind Kind
	// NotRun says that the upstream has certainly not run the request.
	NotRun bool
	// Here says that the upstream had no part in it, although its Kind is mostly the upstream's doing: a secret that cannot be
	// read is not a refusal.
	Here bool
	// RetryAfter is when to come again, if that is known.
	RetryAfter time.Duration
	Err        error
}

// Kind classifies why there is no answer.
type Kind string

// The kinds of Error.
const (
	Unreachable Kind = "unreachable" // no connection
	TLSFailed   Kind = "tls"         // the TLS handshake or verification failed
	AuthFailed  Kind = "auth"        // the agent's credential was not accepted
	NoIdentity  Kind = "no-identity" // the request lacks the identity that the API's rule needs
	// PersonRefused: the directory or the configuration does not let the person who calls be acted for.
	PersonRefused Kind = "person-refused"
	LogonMissing  Kind = "logon-missing"  // the request has no Windows user name and password to sign on with
	LogonRefused  Kind = "logon-refused"  // the caller's own password, or account, was refused
	LogonResting  Kind = "logon-resting"  // the account has had too many failures to try another password
	TimedOut      Kind = "timeout"        // the upstream was silent for too long
	Busy          Kind = "busy"           // no place for another exchange
	Broken        Kind = "broken"         // the upstream broke off or its answer cannot be read
	BadRequest    Kind = "bad-request"    // the request cannot be written as HTTP/1.1
	BodyTooLarge  Kind = "body-too-large" // the request's body exceeds the API's limit
	BodyBroken    Kind = "body-broken"    // the caller's body broke off or stalled
	CallerGone    Kind = "caller-gone"    // the exchange was cancelled
)

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// asError gives err a Kind if it has none: a network error of a running exchange.
func asError(ctx context.Context, err error, notRun bool) *Error {
	e, known := errors.AsType[*Error](err)
	switch {
	case ctx.Err() != nil:
		// The connection was closed under the exchange; what it reports is only the echo.
		return &Error{Kind: CallerGone, NotRun: notRun || known && e.NotRun, Err: context.Cause(ctx)}
	case known:
		return e
	case isUnsent(err):
		return &Error{Kind: Broken, NotRun: true, Err: err}
	case isTimeout(err):
		return &Error{Kind: TimedOut, NotRun: notRun, Err: err}
	default:
		return &Error{Kind: Broken, NotRun: notRun, Err: err}
	}
}

func isUnsent(err error) bool {
	lost, ok := errors.AsType[*errLost](err)
	return ok && !lost.wrote
}

func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
