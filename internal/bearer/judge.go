// Package bearer judges the access tokens (RFC 6750, RFC 9068) that callers show: of one OpenID Connect issuer, or of one
// Microsoft Entra ID tenant in both of its token versions. The relay judges for its connectors, the agent (agent/caller) once
// more for itself; they share this code and nothing else.
//
// It says who a token proves and why one does not count. It does not know of HTTP, of challenges or of how guessing is
// slowed (relay/connector does), and fetches no key (internal/issuer does).
//
//	rule, problems := bearer.Rule{Tenant: tid, Audience: []string{"api://orders"}}.Normal()
//	j := bearer.NewJudge(rule, issuers)
//	who, err := j.Judge(ctx, raw)   // *Refused: the token does not count; *issuer.Unavailable: nobody can say
//
// The order of reading: rule.go (what can be demanded), token.go (taking a token apart), judge.go, check.go (each demand),
// cache.go.
package bearer

import (
	"context"
	"errors"
	"sync"
	"time"

	"sallyport/internal/issuer"
)

// A Kind says what a refusal means.
type Kind int

// The kinds of refusals.
const (
	// Unproved: nothing of the token is known to be true.
	Unproved Kind = iota
	// Unfit: the issuer has made the token, but it does not count here, or not now.
	Unfit
	// Insufficient: it proves who calls, and the rule does not admit that caller.
	Insufficient
)

// Refused is the error of a token that does not count. Reason quotes only what the token says of itself, and is safe to show
// to whoever showed it.
type Refused struct {
	Kind   Kind
	Reason string
	// Scopes are those that are missing, of an Insufficient token.
	Scopes []string
	// Cause is for the log.
	Cause error
}

func (e *Refused) Error() string { return "the token is refused: " + e.Reason }
func (e *Refused) Unwrap() error { return e.Cause }

// A Caller is who a token proves.
type Caller struct {
	// Principal names the person or application: "entra:TENANT/OBJECT", else "oauth2:SUBJECT@ISSUER".
	Principal string `json:"principal"`
	// Client is the application that shows the token; "" if the issuer does not say.
	Client string `json:"client,omitempty"`
	// App says that it acts by itself, and not on behalf of a person.
	App     bool      `json:"app"`
	Expires time.Time `json:"expires"`
	// Says is what else the token says of its caller.
	Says Says `json:"-"`
}

// Says are claims of a token that was found good; zero where it has none, or one of another form.
type Says struct {
	// Tenant and Object name a person or application for good: tid and oid of Entra, else issuer and subject.
	Tenant, Object string
	// UPN and SID are a person's names in the directory inside (upn, onprem_sid).
	UPN, SID string
	// Guest says that the account is another tenant's, as far as the token tells.
	Guest bool
	// Groups and Roles are the claims of these names. MoreGroups says that the person is in more groups than a token holds.
	Groups, Roles []string
	MoreGroups    bool
	// Issued is when the token was made; zero if it does not say.
	Issued time.Time
}

// Keys say whether an issuer has signed a token: an *issuer.Issuer, or keys from a file.
type Keys interface {
	// Signed gives nil if one of the keys has signed raw by one of the algorithms, and an *issuer.Unavailable if nobody can say.
	Signed(ctx context.Context, raw string, algorithms []string) error
}

// Issuers are those whose keys are known, by URL, so that connectors share them. Safe for concurrent use.
type Issuers struct {
	mu  sync.Mutex // guards all
	all map[string]*issuer.Issuer
}

// maxIssuers bounds what is kept of issuers that no connector may name any more.
const maxIssuers = 1024

func (s *Issuers) get(url string) *issuer.Issuer {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.all[url]
	if i == nil {
		if s.all == nil || len(s.all) >= maxIssuers {
			s.all = map[string]*issuer.Issuer{}
		}
		i = issuer.New(url)
		s.all[url] = i
	}
	return i
}

// A Judge applies one rule. Safe for concurrent use.
type Judge struct {
	rule       Rule
	v1, v2     string         // the issuers of Entra's two versions
	issuer     *issuer.Issuer // nil: keys are of another kind
	keys       Keys
	algorithms []string
	audiences  []string
	cache      cache
}

// NewJudge makes a Judge of a rule in its normal form. It does not touch the network.
func NewJudge(r Rule, s *Issuers) *Judge {
	i := s.get(r.IssuerURL())
	j := NewJudgeOf(r, i)
	j.issuer = i
	return j
}

// NewJudgeOf makes a Judge of a rule in its normal form and of keys that were found elsewhere. It has no Endpoints.
func NewJudgeOf(r Rule, keys Keys) *Judge {
	j := &Judge{rule: r, keys: keys, algorithms: r.algorithms(), audiences: r.audiences()}
	if r.Entra() {
		j.v1, j.v2 = issuer.Entra(r.authority(), r.Tenant)
	}
	return j
}

// Rule is the one that it applies.
func (j *Judge) Rule() Rule { return j.rule }

// Endpoints are where tokens are to be had, as the issuer's configuration says.
func (j *Judge) Endpoints(ctx context.Context) (issuer.Endpoints, error) {
	return j.issuer.Endpoints(ctx)
}

// Judge says who a token proves. The error is a *Refused, or an *issuer.Unavailable. With a refusal that is Insufficient, the
// caller is the one who was proved all the same.
func (j *Judge) Judge(ctx context.Context, raw string) (Caller, error) {
	now := time.Now()
	if len(raw) <= MaxToken {
		if who, ok := j.cache.get(raw, now); ok {
			return who, nil
		}
	}
	e := &examination{j: j, ctx: ctx, now: now}
	for _, c := range e.open(raw) {
		if _, err := c.judge(); err != nil {
			return e.who, err
		}
	}
	j.cache.put(raw, e.who, now, j.rule.leeway())
	return e.who, nil
}

// A Finding is what became of one demand.
type Finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	// Says what the token has, or what is wrong with it.
	Says string `json:"says"`
}

// A Report is what a judge has to say of a token: every demand, also beyond the first that it does not meet.
type Report struct {
	Accepted bool      `json:"accepted"`
	Caller   *Caller   `json:"caller,omitempty"`
	Findings []Finding `json:"findings"`
}

// Explain judges a token for people. Beyond a signature that does not hold, what a finding says is the token's own claim. The
// error is why the issuer's keys could not be had, for the log; the report says only that.
func (j *Judge) Explain(ctx context.Context, raw string) (r Report, outage error) {
	e := &examination{j: j, ctx: ctx, now: time.Now()}
	r.Accepted = true
	for _, c := range e.open(raw) {
		says, err := c.judge()
		if err != nil {
			r.Accepted = false
			if bad, ok := errors.AsType[*Refused](err); ok {
				says = bad.Reason
			} else {
				says, outage = "nobody can tell: the issuer's keys cannot be had now; the relay's log says why", err
			}
		}
		r.Findings = append(r.Findings, Finding{c.name, err == nil, says})
	}
	if r.Accepted {
		r.Caller = &e.who
	}
	return r, outage
}
