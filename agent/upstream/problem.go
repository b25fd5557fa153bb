package upstream

import (
	"net/http"
	"time"

	"sallyport/tunnel"
)

// busyRetry is when a caller who found no place should come back.
const busyRetry = 2 * time.Second

// A refusal is what callers see of a Kind: status and problem. Nothing internal is in it; the Error goes to the log.
type refusal struct {
	status        int
	code          string
	title, detail string
	origin        string           // who refused or failed, as docs/errors.md says
	reset         tunnel.ResetCode // when an answer has already begun
}

// refusals is the one table from errors to what callers see.
var refusals = map[Kind]refusal{
	Unreachable: {
		http.StatusBadGateway, "upstream-unreachable", "The internal API cannot be reached.",
		"The agent could not connect to the API. Its administrator finds the reason in the agent's log under this request ID.",
		tunnel.OriginUpstream, tunnel.BrokenOff,
	},
	TLSFailed: {
		http.StatusBadGateway, "upstream-tls", "The internal API's TLS certificate or protocol is not accepted.",
		"The agent could not set up a verified TLS connection to the API. The agent's log says what is wrong with it.",
		tunnel.OriginUpstream, tunnel.BrokenOff,
	},
	AuthFailed: {
		http.StatusBadGateway, "upstream-auth", "The internal API did not accept the agent's credential.",
		"The agent's own sign-on to the API failed; another key or password of the caller's will not help. The agent's log says why.",
		tunnel.OriginUpstream, tunnel.BrokenOff,
	},
	NoIdentity: {
		http.StatusForbidden, "no-identity", "The request lacks the identity that this API needs.",
		"The API is called in the caller's own name, and the request does not prove one. It was not run as anybody else.",
		tunnel.OriginAgent, tunnel.BrokenOff,
	},
	PersonRefused: {
		http.StatusForbidden, "person-refused", "The agent does not call this API for this person.",
		"The API is called in the caller's own name, and the directory inside or the agent's configuration does not admit this person. " +
			"The agent's log says why, under this request ID.",
		tunnel.OriginAgent, tunnel.BrokenOff,
	},
	LogonMissing: {
		http.StatusUnauthorized, "logon-required", "A Windows logon is required.",
		"Send Windows user name and password as Basic credentials, once, in UTF-8; the name as DOMAIN\\user or user@domain.",
		tunnel.OriginAgent, tunnel.Refused,
	},
	LogonRefused: {
		http.StatusUnauthorized, "logon-refused", "The user name and password are not accepted.",
		"The Windows logon was refused. The same password is not tried again for half an hour, so as not to lock the account.",
		tunnel.OriginAgent, tunnel.Refused,
	},
	LogonResting: {
		http.StatusTooManyRequests, "logon-resting", "Too many Windows logons of this account have failed.",
		"So as not to lock the account, no other password is tried for a while. One that was right within the hour still works.",
		tunnel.OriginAgent, tunnel.Refused,
	},
	TimedOut: {
		http.StatusGatewayTimeout, "upstream-timeout", "The internal API did not answer in time.",
		"The API was silent for longer than its configured timeout. The request may still have been run.",
		tunnel.OriginUpstream, tunnel.TimedOut,
	},
	Busy: {
		http.StatusServiceUnavailable, "upstream-busy", "Too many calls to this API are running.",
		"The API's limit of concurrent calls is reached. The request was not run; repeat it later.",
		tunnel.OriginAgent, tunnel.Refused,
	},
	BadRequest: {
		http.StatusBadRequest, "bad-request", "The request cannot be passed on.",
		"The method, the request target or a header field has a form that cannot be sent to the API.",
		tunnel.OriginAgent, tunnel.BadSequence,
	},
	BodyTooLarge: {
		http.StatusRequestEntityTooLarge, "body-too-large", "The request's body is too large.",
		"The body exceeds the limit that the agent's configuration sets for this API.",
		tunnel.OriginAgent, tunnel.TooLarge,
	},
	BodyBroken: {
		http.StatusBadRequest, "body-incomplete", "The request's body did not arrive whole.",
		"The body stalled, broke off or did not have the length that was announced.",
		tunnel.OriginAgent, tunnel.BrokenOff,
	},
	CallerGone: {
		http.StatusServiceUnavailable, "cancelled", "The exchange was cancelled.",
		"The agent stopped the exchange before it was complete.",
		tunnel.OriginAgent, tunnel.Cancelled,
	},
	Broken: {
		http.StatusBadGateway, "upstream-broken", "The internal API's answer is broken.",
		"The API closed the connection or sent something that is not a valid answer. The agent's log says what.",
		tunnel.OriginUpstream, tunnel.BrokenOff,
	},
}

// refusalOf is what callers see of a Kind; of one that has no words of its own, that the answer is broken.
func refusalOf(k Kind) refusal {
	if r, known := refusals[k]; known {
		return r
	}
	return refusals[Broken]
}

// response is the answer to a caller whose exchange ended with e before the upstream's answer.
func (e *Error) response() *tunnel.Response {
	r := refusalOf(e.Kind)
	p := &tunnel.Problem{
		Code: r.code, Title: r.title, Detail: r.detail, Origin: r.origin, Executed: tunnel.ExecutedUnknown,
	}
	if e.Here {
		p.Origin = tunnel.OriginAgent
	}
	if e.NotRun {
		p.Executed = tunnel.ExecutedNo
	}
	if e.Kind == Busy {
		p.RetryAfter = busyRetry
	}
	if e.RetryAfter > 0 {
		p.RetryAfter = e.RetryAfter
	}
	return &tunnel.Response{Status: r.status, Header: make(http.Header), Problem: p}
}
