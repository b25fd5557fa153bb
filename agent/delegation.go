package agent

import (
	"context"
	"errors"
	"net/http"

	"sallyport/agent/caller"
	"sallyport/agent/upstream"
	"sallyport/agent/winauth"
)

// The values of Windows.As by which the caller is whom the API sees: the person whom a token proves, or whose password is sent.
const (
	asCaller   = "caller"
	asPassword = "caller-password"
)

// ActsForCallers says that the API is called in the name of the person whom the caller's token proves, and of nobody else.
func (a *API) ActsForCallers() bool { return a.Auth.Windows != nil && a.Auth.Windows.As == asCaller }

// TakesPasswords says that the API is called with the user name and password that each caller sends.
func (a *API) TakesPasswords() bool {
	return a.Auth.Windows != nil && a.Auth.Windows.As == asPassword
}

// people signs on in the names of those whose tokens have been proved (as: caller). Nobody else is signed on: a request without
// a proved person is refused, never run as the account that acts.
type people struct {
	acts interface {
		For(ctx context.Context, p winauth.Person) (winauth.Credential, error)
	}
}

func (a *Agent) delegation(c *Config, w *Windows) (*winauth.Delegation, error) {
	o := winauth.Options{
		Protocol: winauth.Protocol(w.Protocol), ChannelBinding: winauth.ChannelBinding(w.ChannelBinding), Mutual: w.Mutual,
		Krb5Config: a.deps.path(c.Kerberos.Config), Log: a.deps.Log,
	}
	d, err := a.acting(w)
	if err != nil {
		return nil, err
	}
	return winauth.NewDelegation(o, d)
}

// acting is the account that acts for callers, and for whom.
func (a *Agent) acting(w *Windows) (winauth.DelegationConfig, error) {
	d := winauth.DelegationConfig{
		AllowGroups: w.Callers.AllowGroups, DenyGroups: w.Callers.DenyGroups, UPNSuffixes: w.Callers.UPNSuffixes, Domains: w.Callers.Domains,
	}
	if w.Account == "" {
		d.Service = winauth.ServiceSource{Keytab: a.deps.path(w.Keytab), Principal: w.Principal}
	} else {
		d.Account = winauth.Account{User: w.Account, Keytab: a.deps.path(w.Keytab)}
	}
	var err error
	if w.Secret != "" {
		d.Account.Password, err = a.secret(w.Secret)
	}
	return d, err
}

// TryDelegation finds out, without any caller, whether the account that acts for an API's callers (as: caller) can act for
// somebody. It says who that is, and by what it acts: the agent's own Kerberos, or Windows.
func TryDelegation(ctx context.Context, c *Config, from *API, d Deps) (account, way string, err error) {
	a := &Agent{config: *c, deps: d, log: d.logger()}
	acts, err := a.delegation(c, from.Auth.Windows)
	if err != nil {
		return "", "", err
	}
	return acts.String(), acts.Way(), acts.Ready(ctx)
}

// signOn is upstream.Auth.Windows.
func (p *people) signOn(r *http.Request) (upstream.SignOn, error) {
	who, proved := r.Context().Value(personKey{}).(winauth.Person)
	if !proved {
		return upstream.SignOn{}, &upstream.Error{Kind: upstream.NoIdentity, NotRun: true, Here: true, Err: errNobody}
	}
	cred, err := p.acts.For(r.Context(), who)
	return upstream.SignOn{Credential: cred, Mode: asCaller, Named: true}, notActedFor(r.Context(), err)
}

var errNobody = errors.New("nobody is proved to call")

// notActedFor is what has kept the agent from acting for a person, as the caller gets it.
func notActedFor(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	kind := upstream.AuthFailed
	if _, person := errors.AsType[*winauth.PersonError](err); person {
		kind = upstream.PersonRefused
	} else if ctx.Err() != nil {
		kind = upstream.CallerGone
	}
	return &upstream.Error{Kind: kind, NotRun: true, Here: true, Err: err}
}

// personKey is where a request's context has its person.
type personKey struct{}

// withPerson puts the person that was proved to call into a context. The error is a *caller.Refused.
func withPerson(ctx context.Context, p *caller.Principal) (context.Context, error) {
	sid, upn, err := p.Name()
	if err != nil {
		return nil, err
	}
	return context.WithValue(ctx, personKey{}, winauth.Person{SID: sid, UPN: upn}), nil
}
