package agent

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/caller"
	"sallyport/agent/policy"
	"sallyport/agent/upstream"
	"sallyport/internal/issuer"
	"sallyport/tunnel"
)

// judge asks the allow-list about a call. Who calls is proved only where a rule asks for it, as each does of an API that is called in
// its callers' names: then the context that comes back has the person. It is nil otherwise.
func (s *snapshot) judge(ctx context.Context, one *api, in *tunnel.Request, e *audit.Event) (v policy.Verdict, personal context.Context) {
	v = one.policy.Judge(&policy.Request{
		Method: in.Method, Target: in.Target, Header: in.Header, Length: in.ContentLength, Upgrade: in.Upgrade != "", Now: time.Now(),
		Principal: func() (policy.Principal, error) {
			if s.callers == nil {
				return nil, policy.ErrNobody
			}
			p, err := s.callers.Prove(ctx, in.Header)
			if err != nil {
				return nil, err
			}
			e.Principal = p.String()
			if one.from.ActsForCallers() {
				if personal, err = withPerson(ctx, p); err != nil {
					return nil, err
				}
			}
			return p, nil
		},
	})
	return v, personal
}

// A personal stream is one whose context has the person who calls.
type personal struct {
	upstream.Stream
	ctx context.Context
}

func (p personal) Context() context.Context { return p.ctx }

// causes is an error with what is behind it, for the log.
func causes(err error) string {
	if cause := errors.Unwrap(err); cause != nil && cause.Error() != err.Error() {
		return err.Error() + ": " + cause.Error()
	}
	return err.Error()
}

// identityProblem says to the caller why nobody is proved. The causes that name this network's hosts stay here.
func identityProblem(v policy.Verdict) (status int, p *tunnel.Problem) {
	p = &tunnel.Problem{
		Code: "no-identity", Title: "The request lacks the identity that this API needs.",
		Detail: "The request does not prove who calls. It was not run as anybody else.", Origin: tunnel.OriginAgent, Executed: tunnel.ExecutedNo,
	}
	if _, outage := errors.AsType[*issuer.Unavailable](v.Identity); outage {
		p.Code, p.Title = "issuer-unreachable", "Tokens cannot be verified now."
		p.Detail = "The agent cannot have the issuer's keys; its log says why. The request was not run; repeat it later."
		return http.StatusServiceUnavailable, p
	}
	bad, ok := errors.AsType[*caller.Refused](v.Identity)
	if !ok {
		return http.StatusForbidden, p
	}
	p.Detail = bad.Reason
	switch bad.Kind {
	case caller.Missing:
		p.Code, p.Title = "token-required", "An access token is required."
		return http.StatusUnauthorized, p
	case caller.Bad:
		p.Code, p.Title = "token-refused", "The access token is not accepted."
		return http.StatusUnauthorized, p
	}
	return http.StatusForbidden, p
}
