package tunnel

import (
	"fmt"
	"net/http"
	"time"
)

// A Request is the head of an exchange as the relay hands it to the agent: what the caller asked for, already stripped
// of everything that concerns only the hop between caller and relay. Strings that come from the caller travel byte for
// byte.
type Request struct {
	// ID names this exchange in both sides' logs and in every error; 1 to 64 bytes of [0-9A-Za-z_.-].
	ID string
	// API is the name under which the agent offers the API (a DNS label), never an address.
	API string
	// Method is the request method as the caller sent it, a token (RFC 9110 section 9.1).
	Method string
	// Target is what follows the connector's base path in the caller's request target, query included: origin-form,
	// begins with "/" and is otherwise exactly the caller's bytes.
	Target string
	// Base is the connector's public base URL without a trailing slash, for links that must come back public:
	// https://relay.example.com/plant1/orders.
	Base string
	// Header holds the end-to-end fields. Hop-by-hop fields, Host, Content-Length and the caller's credential for the
	// relay are not in it.
	Header http.Header
	// ContentLength is the body's length in bytes, 0 for no body, -1 if it is not known in advance.
	ContentLength int64
	// Expect says that the caller waits for "100 Continue": no body byte is sent before the accepting side has called
	// Stream.AllowBody (RFC 9110 section 10.1.1).
	Expect bool
	// Upgrade is the protocol that the caller asks to switch to ("websocket"), empty for a plain exchange.
	Upgrade string
	// Timeout is how long the relay waits for the response's head, and for each silence after it. The agent's own
	// timers fire before that, so that the error names the right place. Zero: the agent's own setting alone.
	Timeout time.Duration
	// Caller is who the relay says is calling ("key:flow-prod"), for the agent's record. It authorises nothing.
	Caller string
}

// A Response is the head of an answer. An exchange has any number of informational ones (1xx but not 101), then one
// final one.
type Response struct {
	// Status is the HTTP status code, 100 to 599.
	Status int
	// Header holds the end-to-end fields. A "Trailer" field announces the names that Stream.Trailer will hold.
	Header http.Header
	// ContentLength is the body's length in bytes as the upstream announced it, -1 if it did not. For an answer to HEAD
	// and for 304 it describes the body that is not sent.
	ContentLength int64
	// Problem is set when the agent itself answers, because it refused or failed; the relay words the answer's body.
	Problem *Problem
	// Times says where the agent's time went until this head was ready.
	Times Times
}

// Origins of a Problem: which program refused or failed.
const (
	OriginRelay    = "relay"
	OriginAgent    = "agent"
	OriginUpstream = "upstream"
)

// Values of Problem.Executed.
const (
	ExecutedNo      = "no"      // the upstream has certainly not run the request
	ExecutedUnknown = "unknown" // it may have
)

// A Problem says why there is no answer from the upstream. Nothing internal is in it (no host name, no account, no
// path of a file): it is shown to callers. It becomes application/problem+json (RFC 9457) at the relay.
type Problem struct {
	// Code is stable and for machines: "policy-refused", "upstream-auth", ... The list is in docs/errors.md.
	Code string
	// Title is a short sentence, the same for every problem of this code.
	Title string
	// Detail says what happened this time and what the reader can do about it.
	Detail string
	// Origin is OriginRelay, OriginAgent or OriginUpstream.
	Origin string
	// Executed is ExecutedNo or ExecutedUnknown.
	Executed string
	// RetryAfter, if not zero, is when a repetition makes sense.
	RetryAfter time.Duration
}

// Times is where the time of an exchange went inside the agent, up to the final head.
type Times struct {
	Agent    time.Duration // deciding, waiting for a connection, everything else
	Auth     time.Duration // Windows authentication: tickets and handshakes
	Upstream time.Duration // from the request written to the head read
}

// A ResetCode says why one side gave up a stream.
type ResetCode byte

// The codes of a RESET frame (SPEC.md section 6).
const (
	Cancelled   ResetCode = 1  // the caller has gone, or the sender no longer wants the stream
	Refused     ResetCode = 2  // not run: no such API, too many streams, draining; may be tried elsewhere
	TimedOut    ResetCode = 3  // a deadline passed
	Stalled     ResetCode = 4  // a full window and no progress for too long
	BrokenOff   ResetCode = 5  // the upstream or the caller broke off in the middle of a body
	TooLarge    ResetCode = 6  // a configured limit was exceeded
	Internal    ResetCode = 7  // a fault of the sender's
	BadSequence ResetCode = 8  // the peer broke the protocol on this stream
	NoMore      ResetCode = 9  // nothing is wrong: the rest of the receiver's body is not wanted; the sender's own half goes on
	Leaving     ResetCode = 10 // the sender is being stopped and can wait no longer
)

func (c ResetCode) String() string {
	names := [...]string{"", "cancelled", "refused", "timed out", "stalled", "broken off", "too large", "internal", "bad sequence", "no more", "leaving"}
	if int(c) < len(names) && c > 0 {
		return names[c]
	}
	return fmt.Sprintf("code %d", byte(c))
}
