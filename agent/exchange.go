package agent

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/policy"
	"sallyport/agent/upstream"
	"sallyport/tunnel"
)

// serve makes one exchange: which API, may it be called, call it, record it. A fault of this program in one exchange
// ends that exchange and not the agent.
func (a *Agent) serve(st upstream.Stream) {
	began, in := time.Now(), st.Request()
	path, _, _ := strings.Cut(in.Target, "?")
	e := call{Event: audit.Event{
		Time: began, Kind: audit.Call, Request: in.ID, API: in.API, Method: in.Method, Path: path, Caller: in.Caller,
		Verdict: audit.Refused, Flow: flowOf(in.Header),
	}}
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("a fault of the agent ended an exchange", "request", in.ID, "api", in.API, "panic", fmt.Sprint(p),
				"stack", string(debug.Stack()))
			e.Problem, e.Status = "internal", refuse(st, http.StatusInternalServerError, internalProblem(), tunnel.Internal)
		}
		e.Millis = float64(time.Since(began).Microseconds()) / 1000
		a.audit.Record(e.line())
		a.count(&e)
	}()
	a.exchange(st, in, &e)
}

// A call is what will be known of an exchange when it has ended.
type call struct {
	audit.Event
	allowed bool // the verdict is on record: what is left to record is the outcome

	signOn   upstream.Outcome // of one that was made for this call
	signOnBy string           // its protocol
	waited   time.Duration    // for its turn; 0: it did not
}

// line is what is left to record when the exchange has ended.
func (c *call) line() audit.Event {
	if !c.allowed {
		return c.Event
	}
	return audit.Event{
		Kind: audit.Done, Request: c.Request, API: c.API, Principal: c.Principal, Status: c.Status, In: c.In, Out: c.Out, Millis: c.Millis,
		Auth: c.Auth, Problem: c.Problem,
	}
}

// allow puts on record that a call is made, before it is. Where nothing may be called that is not on record, an error says
// that it must not be.
func (a *Agent) allow(ctx context.Context, c *call, rule string) error {
	c.Verdict, c.Rule = audit.Allowed, rule
	if a.config.Audit.OnFailure == auditRefuse {
		if err := a.audit.Commit(ctx, c.Event); err != nil {
			c.Verdict = audit.Refused
			return err
		}
	} else {
		a.audit.Record(c.Event)
	}
	c.allowed = true
	return nil
}

// exchange decides and calls, and fills in what is recorded about it.
func (a *Agent) exchange(st upstream.Stream, in *tunnel.Request, e *call) {
	if in.API == "" { // the relay's own question
		a.serveOwn(st, in, &e.Event)
		return
	}
	snap := a.now.Load()
	api := snap.apis[in.API]
	if api == nil {
		a.refuse(st, &e.Event, http.StatusServiceUnavailable, unknownProblem())
		return
	}
	if a.told.Load().paused(in.API) { // the relay knows, and may not have heard of it yet
		a.refuse(st, &e.Event, pausedStatus, pausedProblem())
		return
	}
	v, named := snap.judge(st.Context(), api, in, &e.Event)
	if !v.Allowed {
		if v.Identity != nil {
			a.log.Info("nobody is proved to call", "request", in.ID, "api", in.API, "error", causes(v.Identity))
		}
		status, p := verdictProblem(v)
		a.refuse(st, &e.Event, status, p)
		return
	}
	if err := a.allow(st.Context(), e, v.Rule); err != nil {
		a.log.Error("a call is not made, because it cannot be put on record", "request", in.ID, "api", in.API, "error", err)
		a.refuse(st, &e.Event, http.StatusServiceUnavailable, unrecordedProblem())
		return
	}
	policy.StripOverrides(in.Header, api.overrides)
	if named != nil {
		st = personal{st, named}
	}
	r := api.transport.ServeWithin(st, v.Body)
	e.Status, e.In, e.Out, e.Auth, e.Problem = r.Status, r.BytesIn, r.BytesOut, r.Protocol, r.Problem
	e.signOn, e.signOnBy, e.waited = r.SignOn, r.SignOnBy, r.Waited
	if r.Principal != "" {
		e.Principal = "windows:" + r.Principal
	}
}

// flowOf are the IDs by which a caller on the Power Platform finds its own run again; nil for other callers.
func flowOf(h http.Header) map[string]string {
	ids := tunnel.FlowIDs(h)
	if len(ids) == 0 {
		return nil
	}
	flow := make(map[string]string, len(ids))
	for _, id := range ids {
		flow[id.Name] = id.Value
	}
	return flow
}

func (a *Agent) refuse(st upstream.Stream, e *audit.Event, status int, p *tunnel.Problem) {
	e.Problem, e.Detail = p.Code, p.Detail
	e.Status = refuse(st, status, p, tunnel.Refused)
	a.log.Info("call refused", "request", e.Request, "api", e.API, "method", e.Method, "path", e.Path, "problem", p.Code, "detail", p.Detail)
}

// refuse answers a stream with a problem, or resets it if an answer is under way. It gives the status that was sent, or 0.
func refuse(st upstream.Stream, status int, p *tunnel.Problem, code tunnel.ResetCode) int {
	if err := st.SendResponse(&tunnel.Response{Status: status, Header: http.Header{}, Problem: p}, true); err != nil {
		st.Reset(code, p.Title)
		return 0
	}
	return status
}

// verdictProblem says to the caller why the policy refused. The rule that would admit the request is made of the
// request alone, so it tells nothing that the caller does not know.
func verdictProblem(v policy.Verdict) (status int, p *tunnel.Problem) {
	p = &tunnel.Problem{
		Code: "policy-refused", Title: "The agent's allow-list does not admit this call.", Detail: v.Reason,
		Origin: tunnel.OriginAgent, Executed: tunnel.ExecutedNo,
	}
	status = http.StatusForbidden
	switch {
	case v.Identity != nil:
		return identityProblem(v)
	case v.Fault == policy.FaultBody:
		p.Code, p.Title, status = v.Fault, "The request's body is too large.", http.StatusRequestEntityTooLarge
	case v.Fault == policy.FaultTooLong:
		p.Code, p.Title, status = v.Fault, "The request target is too long.", http.StatusRequestURITooLong
	case v.Fault != "":
		p.Code, p.Title, status = v.Fault, "The request cannot be passed on.", http.StatusBadRequest
	case v.Ambiguous:
		p.Code, p.Title, status = "ambiguous-target", "The request target could be read in more than one way.", http.StatusBadRequest
	}
	if v.Admit != "" {
		p.Detail += "; the agent's administrator can admit it with the rule: " + v.Admit
	}
	return status, p
}

func unknownProblem() *tunnel.Problem {
	return &tunnel.Problem{
		Code: "unknown-api", Title: "The agent offers no such API.",
		Detail: "The connector names an API that is not in the agent's configuration.",
		Origin: tunnel.OriginAgent, Executed: tunnel.ExecutedNo,
	}
}

func unrecordedProblem() *tunnel.Problem {
	return &tunnel.Problem{
		Code: "unrecorded", Title: "The agent cannot put the call on record.",
		Detail: "The agent is told to make no call that is not on record, and its record cannot be written. Its log says why.",
		Origin: tunnel.OriginAgent, Executed: tunnel.ExecutedNo,
	}
}

func internalProblem() *tunnel.Problem {
	return &tunnel.Problem{
		Code: "internal", Title: "The agent failed.",
		Detail: "A fault of the agent ended the exchange. Its log has more under this request ID.",
		Origin: tunnel.OriginAgent, Executed: tunnel.ExecutedUnknown,
	}
}
