// Package caller proves inside who calls: it verifies the bearer token that a request carries, with keys that the agent
// fetches from the issuer itself or has in a file. What the relay says about a caller counts for nothing here, so a relay
// that was taken over cannot invent anybody. What it can do is show a token again that it has seen: Config.MaxAge bounds for
// how long.
//
// It does not decide who may call what (agent/policy does), and sends the token nowhere.
//
//	v, err := caller.New(caller.Config{Rule: rule, Keys: issuer.Through(rule.IssuerURL(), transport), MaxAge: time.Hour})
//	p, err := v.Prove(ctx, header)   // *Refused: it proves nobody; *issuer.Unavailable: nobody can say
//	p.Name()                         // whom the directory inside knows: for acting in the person's name
package caller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sallyport/agent/policy"
	"sallyport/internal/bearer"
)

// DefaultMaxAge is for how long a token counts after it was issued. Entra's live 60 to 90 minutes.
const DefaultMaxAge = 90 * time.Minute

// Config says whose tokens prove a caller.
type Config struct {
	// Rule is whose tokens count, in its normal form. Its Guests is set: guests are told apart here.
	Rule bearer.Rule
	// Keys are the issuer's.
	Keys bearer.Keys
	// MaxAge bounds for how long a token counts after it was issued; 0: DefaultMaxAge.
	MaxAge time.Duration
	// Guests are the people of other tenants that count, by object ID, and the UPN that each has inside.
	Guests map[string]string
}

// A Principal is who was proved to call.
type Principal struct {
	// TenantID and ObjectID name the principal for good (tid and oid; issuer and subject where it is not Entra).
	TenantID, ObjectID string
	// SID and UPN are a person's names in the directory inside, if the token has them; of a guest, as the configuration maps it.
	SID, UPN string
	// App says that it is an application by itself. ClientID is the application that showed the token.
	App      bool
	ClientID string
	// Groups and Roles are those that the issuer vouches for.
	Groups, Roles []string
	// Issued and Expires are the token's.
	Issued, Expires time.Time
}

// String names the principal in records: person:TENANT/OBJECT or app:TENANT/OBJECT.
func (p *Principal) String() string {
	kind := "person:"
	if p.App {
		kind = "app:"
	}
	return kind + p.TenantID + "/" + p.ObjectID
}

// Is reports whether a term of an allow-list's "who" means the principal. Names of people never mean an application.
func (p *Principal) Is(kind, value string) bool {
	switch kind {
	case policy.Person:
		return !p.App
	case policy.UPN:
		return !p.App && p.UPN != "" && strings.EqualFold(p.UPN, value)
	case policy.Object:
		return !p.App && p.ObjectID == value
	case policy.Group:
		return !p.App && slices.Contains(p.Groups, value)
	case policy.Role:
		return slices.Contains(p.Roles, value)
	case policy.App:
		return p.App && p.ClientID == value
	}
	return false
}

// Name says by which name the directory inside knows a person: the SID, else the UPN. Never by preferred_username or email,
// which people choose themselves. The error is a *Refused.
func (p *Principal) Name() (sid, upn string, err error) {
	switch {
	case p.App:
		return "", "", refuse(NoPerson, "the token is an application's own; this call is run as a person")
	case p.SID != "":
		return p.SID, p.UPN, nil
	case p.UPN != "":
		return "", p.UPN, nil
	}
	return "", "", refuse(NoPerson, "the token does not name the person in the directory inside: in Entra, add the optional claim onprem_sid "+
		"(for accounts that are synchronised) or upn to the access tokens of the API's app registration")
}

// A Kind says what a refusal means.
type Kind int

// The kinds of refusals.
const (
	Missing  Kind = iota // there is no token
	Bad                  // there is one, and it proves nobody
	NoPerson             // it proves somebody, but not a person whom the directory inside knows
)

// Refused is the error of a request that proves nobody. Reason quotes only what the request says of itself.
type Refused struct {
	Kind   Kind
	Reason string
	Cause  error
}

func (e *Refused) Error() string { return e.Reason }
func (e *Refused) Unwrap() error { return e.Cause }

func refuse(k Kind, format string, v ...any) error {
	return &Refused{Kind: k, Reason: fmt.Sprintf(format, v...)}
}

// A Verifier proves callers. Safe for concurrent use. It keeps hashes of tokens that were found good for a minute, in a
// table that is bounded.
type Verifier struct {
	c     Config
	judge *bearer.Judge
}

// New makes a Verifier; it does not touch the network.
func New(c Config) (*Verifier, error) {
	if !c.Rule.Set() || len(c.Rule.Audience) == 0 || c.Keys == nil {
		return nil, errors.New("callers: an issuer, an audience and keys are needed")
	}
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	c.Rule.Guests = true // told apart below, with the map
	return &Verifier{c: c, judge: bearer.NewJudgeOf(c.Rule, c.Keys)}, nil
}

// Prove says who a request's Authorization proves. The error is a *Refused, or an *issuer.Unavailable.
func (v *Verifier) Prove(ctx context.Context, h http.Header) (*Principal, error) {
	raw, err := tokenOf(h)
	if err != nil {
		return nil, err
	}
	who, err := v.judge.Judge(ctx, raw)
	if bad, ok := errors.AsType[*bearer.Refused](err); ok {
		return nil, &Refused{Kind: Bad, Reason: "the agent refuses the token: " + bad.Reason, Cause: bad.Cause}
	} else if err != nil {
		return nil, err
	}
	if err := v.fresh(who, time.Now()); err != nil {
		return nil, err
	}
	return v.principal(who)
}

// tokenOf is the bearer token of a request (RFC 6750 section 2.1).
func tokenOf(h http.Header) (string, error) {
	var lines []string
	for name, vv := range h {
		if strings.EqualFold(name, "Authorization") {
			lines = append(lines, vv...)
		}
	}
	if len(lines) == 0 {
		return "", refuse(Missing, "the request has no bearer token: the connector has to take OAuth 2.0 tokens")
	}
	scheme, raw, ok := strings.Cut(lines[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", refuse(Missing, "the request has no bearer token, but credentials of another kind")
	}
	if len(lines) > 1 {
		return "", refuse(Bad, "the request has Authorization more than once")
	}
	return strings.TrimLeft(raw, " "), nil
}

// fresh bounds for how long a token can be shown again, whatever its own end is.
func (v *Verifier) fresh(who bearer.Caller, now time.Time) error {
	issued, limit := who.Says.Issued, v.c.MaxAge+bearer.DefaultLeeway
	if v.c.Rule.Leeway > 0 {
		limit = v.c.MaxAge + v.c.Rule.Leeway
	}
	switch {
	case issued.IsZero():
		return refuse(Bad, "the agent refuses the token: it does not say when it was issued (iat)")
	case now.Sub(issued) > limit:
		return refuse(Bad, "the agent refuses the token: it was issued at %s, longer ago than the agent's max_token_age of %s",
			issued.UTC().Format(time.RFC3339), v.c.MaxAge)
	}
	return nil
}

func (v *Verifier) principal(who bearer.Caller) (*Principal, error) {
	s := who.Says
	p := &Principal{
		TenantID: s.Tenant, ObjectID: s.Object, SID: s.SID, UPN: s.UPN, App: who.App, ClientID: who.Client,
		Groups: s.Groups, Roles: s.Roles, Issued: s.Issued, Expires: who.Expires,
	}
	if !s.Guest || p.App {
		return p, nil
	}
	upn, known := v.c.Guests[s.Object]
	if !known {
		return nil, refuse(NoPerson, "the token is a guest's, of another tenant: guests count only if the agent's configuration names them (callers.guests)")
	}
	p.SID, p.UPN = "", upn // their own tenant's names mean nobody here, or somebody else
	return p, nil
}
