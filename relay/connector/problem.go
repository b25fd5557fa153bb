package connector

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

// A Problem is why a caller gets no answer from the upstream. It is an error inside this package and
// application/problem+json (RFC 9457) at the caller. What it says is public; its cause is for the log alone.
type Problem struct {
	tunnel.Problem
	// Status is the HTTP status; zero takes the one that the code has in Codes.
	Status int
	// Challenges are the WWW-Authenticate values of a 401, and of a 403 for want of a scope (RFC 6750 section 3.1).
	Challenges []string
	// Cause is what happened inside, for the log.
	Cause error
}

func (p *Problem) Error() string {
	if p.Cause != nil {
		return p.Code + ": " + p.Cause.Error()
	}
	return p.Code + ": " + p.Detail
}

func (p *Problem) Unwrap() error { return p.Cause }

// NewProblem makes a problem of the relay's own; the upstream has not seen the request.
func NewProblem(code, detail string) *Problem {
	return &Problem{Problem: tunnel.Problem{
		Code: code, Detail: detail, Origin: tunnel.OriginRelay, Executed: tunnel.ExecutedNo,
	}}
}

// unknown makes a problem of a request that may have been run.
func unknown(code, origin, detail string, cause error) *Problem {
	return &Problem{
		Problem: tunnel.Problem{Code: code, Detail: detail, Origin: origin, Executed: tunnel.ExecutedUnknown},
		Cause:   cause,
	}
}

// because adds the cause for the log.
func (p *Problem) because(err error) *Problem {
	p.Cause = err
	return p
}

// after says when a repetition makes sense.
func (p *Problem) after(d time.Duration) *Problem {
	p.RetryAfter = d
	return p
}

// How long callers are asked to wait. An agent that restarts is back in seconds; a link that is full is free in less.
const (
	retryNoLink = 5 * time.Second
	// retryPaused is for an API that people have paused: it takes them longer.
	retryPaused = time.Minute
	retryBusy   = 2 * time.Second
)

// errCallerGone is the cause of what fails because nobody is there any more.
var errCallerGone = errors.New("the caller has gone")

// ErrStopping is the cause to cancel a server's BaseContext with when the relay stops before its calls have ended.
var ErrStopping = errors.New("the relay is stopping")

// problemOf is the one place where an error of a call becomes what the caller reads.
func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	reset, isReset := errors.AsType[*tunnel.ResetError](err)
	switch {
	case errors.Is(err, ErrStopping):
		return unknown("relay-stopping", tunnel.OriginRelay, "The relay was stopped before the answer was there.", err)
	case errors.Is(err, errCallerGone), errors.Is(err, context.Canceled):
		return unknown("caller-gone", tunnel.OriginRelay, "The caller hung up before the answer was there.", err)
	case isReset && reset.Remote:
		return problemOfReset(reset, err)
	case errors.Is(err, gateway.ErrUnknownGateway):
		return notFound().because(err)
	case errors.Is(err, gateway.ErrPaused):
		return NewProblem("paused", "The people who run this API have paused it.").because(err).after(retryPaused)
	case errors.Is(err, gateway.ErrNotOffered):
		return NewProblem("not-offered", "The agents of this gateway are linked, but none offers this API now. "+
			"Its name in the agent's configuration has changed, or the agent has not read it yet.").because(err).after(retryNoLink)
	case errors.Is(err, gateway.ErrNoLink):
		return NewProblem("no-agent", "No agent of this gateway is linked to the relay now. "+
			"Whoever runs the agent finds the reason in its log.").because(err).after(retryNoLink)
	case errors.Is(err, tunnel.ErrNotRun):
		return notRun(err)
	case errors.Is(err, tunnel.ErrTimeout):
		return unknown("timeout", tunnel.OriginRelay, "The API did not answer in the time the relay waits.", err)
	case errors.Is(err, tunnel.ErrLinkLost):
		return unknown("link-lost", tunnel.OriginRelay, "The link to the agent broke before the answer was there.", err)
	case isReset:
		return problemOfReset(reset, err)
	}
	return unknown("internal", tunnel.OriginRelay, "The relay failed. Its log has the reason under this request ID.", err)
}

// notRun words a request that an agent refused before it looked at it.
func notRun(err error) *Problem {
	return NewProblem("not-run", "The agent took no new request, because it is busy or restarting. "+
		"The request was not run and can be repeated.").because(err).after(retryBusy)
}

// problemOfReset words a stream that the agent gave up.
func problemOfReset(reset *tunnel.ResetError, err error) *Problem {
	switch reset.Code {
	case tunnel.Refused:
		return notRun(err)
	case tunnel.TimedOut:
		return unknown("timeout", tunnel.OriginAgent, "The API did not answer in the time the agent waits.", err)
	case tunnel.Stalled:
		return unknown("stalled", tunnel.OriginAgent, "The API took no more of the request's body.", err)
	case tunnel.BrokenOff:
		return unknown("upstream-broken", tunnel.OriginUpstream, "The API broke off before its answer was there.", err)
	case tunnel.Leaving:
		return unknown("agent-stopping", tunnel.OriginAgent, "The agent was stopped before the answer was there.", err)
	case tunnel.TooLarge:
		return unknown("body-too-large", tunnel.OriginAgent, "The request's body exceeds the agent's limit.", err)
	}
	return unknown("agent-failed", tunnel.OriginAgent, "The agent gave up the request. "+
		"Its log has the reason under this request ID.", err)
}

// problemOfAgent takes over what the agent says, in the relay's own words where both know the code: the status comes
// from Codes, so that an agent cannot make the relay say 401 or 200 for a failure.
func (c *call) problemOfAgent(resp *tunnel.Response) *Problem {
	p := &Problem{Problem: *resp.Problem}
	if p.Origin != tunnel.OriginUpstream {
		p.Origin = tunnel.OriginAgent
	}
	if p.Executed != tunnel.ExecutedNo {
		p.Executed = tunnel.ExecutedUnknown
	}
	if code, known := findCode(p.Code); known {
		p.Status, p.Title = code.Status, code.Title
		c.countRefusal(p)
		if p.Status == http.StatusUnauthorized {
			p.Challenges = []string{`Basic realm="` + c.event.Gateway + "/" + c.event.Connector + `", charset="UTF-8"`}
			if code.Name == "token-required" || code.Name == "token-refused" {
				p.Challenges = []string{`Bearer realm="` + c.event.Gateway + "/" + c.event.Connector + `"`}
			}
		}
		return p
	}
	p.Status = resp.Status
	if p.Status < 400 || p.Status > 599 || p.Status == http.StatusUnauthorized {
		p.Status = http.StatusBadGateway
	}
	return p
}

// notFound is the one answer to everything that is not published, so that nobody can tell a gateway that does not exist
// from one that publishes nothing by this name.
func notFound() *Problem {
	return NewProblem("not-found", "No connector is published at this address. "+
		"A connector's address is /{gateway}/{connector}/..., as its publisher was told.")
}

// problemJSON is the body, in the order in which people read it. Power Platform shows error.message.
type problemJSON struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail,omitempty"`
	RequestID string       `json:"requestId"`
	Origin    string       `json:"origin"`
	Executed  string       `json:"executed"`
	Error     problemError `json:"error"`
}

type problemError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// typePrefix begins the type of every problem; the code follows. A URN, because no page is promised there.
const typePrefix = "urn:sallyport:problem:"

// complete fills in what the table knows.
func (p *Problem) complete() {
	code, known := findCode(p.Code)
	if p.Title == "" {
		p.Title = code.Title
	}
	if p.Status == 0 {
		p.Status = code.Status
	}
	if !known && p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
}

// write answers with the problem. The header map is emptied first: what was prepared for a proper answer must not
// travel with an error.
func (p *Problem) write(w http.ResponseWriter, r *http.Request, id string) error {
	p.complete()
	message := p.Title
	if p.Detail != "" {
		message += ": " + p.Detail
	}
	body, err := json.Marshal(problemJSON{
		Type: typePrefix + p.Code, Title: p.Title, Status: p.Status, Detail: p.Detail, RequestID: id,
		Origin: p.Origin, Executed: p.Executed, Error: problemError{Code: p.Code, Message: message},
	})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set(requestIDHeader, id)
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	if len(p.Challenges) > 0 {
		h["Www-Authenticate"] = p.Challenges
	}
	w.WriteHeader(p.Status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err = w.Write(body)
	return err
}
