package connector

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"sallyport/internal/bearer"
	"sallyport/internal/issuer"
)

// retryIssuer is when to come again if the issuer's keys cannot be had. It is asked no more often than that.
const retryIssuer = 15 * time.Second

// proveToken takes a bearer token from the field Authorization, once, and from nowhere else (RFC 6750 section 2).
func (c *call) proveToken(pub *Published, authorization []string) proof {
	if _, inQuery := cutQuery(c.place.Target, "access_token"); len(inQuery) > 0 {
		return proof{err: c.misplaced(pub, "A token in the address is not taken: addresses end up in logs. Send it in Authorization.")}
	}
	if len(authorization) > 1 {
		return proof{err: c.misplaced(pub, "The field Authorization stands in the request more than once.")}
	}
	address := addressSource(c.from.remote)
	scheme, raw := "", ""
	if len(authorization) == 1 {
		scheme, raw, _ = strings.Cut(authorization[0], " ")
		raw = strings.Trim(raw, " ")
	}
	switch {
	case scheme == "", pub.Takes(AuthBasic) && strings.EqualFold(scheme, "Basic"):
		return proof{err: c.unauthorised(pub, "token-required", "Send an access token of the connector's issuer: 'Authorization: Bearer ...'.")}
	case !strings.EqualFold(scheme, "Bearer"), raw == "", strings.ContainsAny(raw, " ,\t"):
		return proof{err: c.refuse(pub, "token-refused", "Authorization does not hold one bearer token.", address)}
	}
	who, err := pub.judge.Judge(c.r.Context(), raw)
	if err == nil {
		return proof{principal: who.Principal, client: who.Client, token: authorization}
	}
	bad, judged := errors.AsType[*bearer.Refused](err)
	if !judged {
		if _, outage := errors.AsType[*issuer.Unavailable](err); outage {
			return proof{err: NewProblem("issuer-unreachable", "The relay cannot fetch the keys of the token's issuer now, so nobody can tell whether the token is good.").
				because(err).after(retryIssuer)}
		}
		return proof{err: err}
	}
	switch detail := "The token does not count: " + bad.Reason + "."; bad.Kind {
	case bearer.Unproved:
		return proof{err: c.refuse(pub, "token-refused", detail, address).because(bad.Cause)}
	case bearer.Insufficient:
		c.event.Principal, c.event.Client = who.Principal, who.Client // it has proved them, and may not call
		return proof{err: c.insufficient(pub, detail, bad.Scopes)}
	default:
		// Not counted as an attempt: nobody guesses a token that the issuer has signed, and a caller whose token has ended
		// has to learn so with a 401, or it gets no new one.
		return proof{err: c.unauthorised(pub, "token-refused", detail)}
	}
}

// misplaced is RFC 6750's invalid_request.
func (c *call) misplaced(pub *Published, detail string) *Problem {
	p := NewProblem("token-misplaced", detail)
	p.Challenges = []string{bearerChallenge(pub, "invalid_request", detail, nil)}
	return p
}

// insufficient is RFC 6750's insufficient_scope, with the scopes that would do if that is what is missing.
func (c *call) insufficient(pub *Published, detail string, scopes []string) *Problem {
	p := NewProblem("token-insufficient", detail)
	p.Challenges = []string{bearerChallenge(pub, "insufficient_scope", detail, scopes)}
	return p
}

// bearerChallenge is a challenge by RFC 6750 section 3. Without a token no error is named.
func bearerChallenge(pub *Published, code, description string, scopes []string) string {
	out := `Bearer realm="` + pub.Gateway + "/" + pub.Name + `"`
	if code != "" {
		out += `, error="` + code + `", error_description="` + describable(description) + `"`
	}
	if len(scopes) > 0 {
		out += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	return out
}

// describable leaves out what an error_description must not hold: quotes, backslashes, and all beyond printable ASCII.
func describable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < ' ' || r > '~' || r == '\\':
			return -1
		}
		return r
	}, s)
}

// passToken leaves the token to the agent if its API wants it: because the API's own auth is the caller's, or because a rule
// inside needs the caller's proof. To every other agent nothing goes that authenticates the caller at the relay.
func (c *call) passToken(h http.Header, wanted bool) {
	if c.token == nil {
		return
	}
	if delete(h, "Authorization"); wanted {
		h["Authorization"] = c.token
	}
}
