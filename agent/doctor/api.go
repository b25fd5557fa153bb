package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"

	"sallyport/agent"
	"sallyport/agent/upstream"
	"sallyport/agent/winauth"
)

// examineAPIs gives the findings of each API, in the file's order.
func (p *patient) examineAPIs(ctx context.Context) [][]Finding {
	var todo []*agent.API
	for i := range p.config.APIs {
		if a := &p.config.APIs[i]; p.o.API == "" || p.o.API == a.Name {
			todo = append(todo, a)
		}
	}
	out := make([][]Finding, len(todo))
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, a := range todo {
		wg.Go(func() {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
				out[i] = p.examineAPI(ctx, a)
			case <-ctx.Done():
				f := Finding{ID: "api." + a.Name, Tried: "API " + a.Name}
				out[i] = []Finding{f.skip("no time was left; examine it alone with --api " + a.Name)}
			}
		})
	}
	wg.Wait()
	return out
}

func (p *patient) examineAPI(ctx context.Context, a *agent.API) []Finding {
	id, u := "api."+a.Name, a.Address()
	list := []Finding{lookUp(ctx, id+".dns", u.Hostname(), "the host in 'url'", "mend this machine's DNS")}
	if list[0].Status == Fail {
		return append(list, p.missing(a)...)
	}
	list = append(list, p.look(ctx, a)...)
	reached := !slices.ContainsFunc(list, func(f Finding) bool { return f.Status == Fail && !strings.HasSuffix(f.ID, ".auth") })
	secrets := p.missing(a)
	list = append(list, secrets...)
	if a.ActsForCallers() && len(secrets) == 0 {
		f := p.delegation(ctx, a)
		list = append(list, f)
		reached = reached && f.Status != Fail // a second logon with a wrong key would be one towards a lock
	}
	if a.TakesPasswords() {
		list = append(list, p.lockout(ctx, a))
	}
	call := Finding{ID: id + ".call", Tried: "call it as the agent does"}
	switch {
	case a.Check == "":
		list = append(list, call.skip("agent.yaml has no check for this API, such as check: GET /health"))
	case !reached || len(secrets) > 0:
		list = append(list, call.skip("what it needs failed"))
	default:
		list = append(list, p.call(ctx, a))
	}
	return list
}

// missing are the secrets that cannot be read.
func (p *patient) missing(a *agent.API) (list []Finding) {
	for _, name := range a.SecretNames() {
		f := Finding{ID: "api." + a.Name + ".secret", Tried: "the secret " + name}
		if p.deps.Secrets == nil {
			list = append(list, f.is(Fail, "the secret store cannot be read", "run this as the agent's account or as an admin"))
		} else if _, err := p.deps.Secrets.Get(name); err != nil {
			list = append(list, f.is(Fail, err.Error(), "set it: sallyport-agent secret set "+name))
		}
	}
	return list
}

// look connects to an API and asks it without a credential.
func (p *patient) look(ctx context.Context, a *agent.API) []Finding {
	id, u := "api."+a.Name, a.Address()
	connect := Finding{ID: id + ".connect", Tried: "connect to " + u.Host}
	secure := Finding{ID: id + ".tls", Tried: "TLS with " + u.Host}
	asked := Finding{ID: id + ".auth", Tried: "ask it without a credential"}
	method, target := a.CheckTarget()
	if method == "" {
		method = http.MethodHead
	}
	l, err := p.askOpenly(ctx, a, method, target)
	if l == nil {
		return []Finding{connect.is(Fail, err.Error(), "correct the API's settings in agent.yaml, or the files that they name")}
	}
	e, failed := errors.AsType[*upstream.Error](err)
	if failed && e.Kind == upstream.Unreachable {
		return []Finding{connect.is(Fail, err.Error(), "is the port in 'url' right, does the API run, and may this machine reach it?")}
	}
	list := []Finding{connect.ok("connected")}
	if failed && e.Kind == upstream.TLSFailed {
		return append(list, brokenTLS(secure, a, err))
	}
	if l.TLS != nil && len(l.TLS.PeerCertificates) > 0 {
		leaf := l.TLS.PeerCertificates[0]
		list = append(list, judgeEnd(secure, leaf, describe(leaf)))
	}
	asked.Tried = fmt.Sprintf("%s %s without a credential", l.Method, l.Target)
	if err != nil {
		return append(list, asked.is(Fail, err.Error(), "does a web server answer at 'url', and does it speak "+u.Scheme+"?"))
	}
	return append(list, judgeAuth(asked, a, l))
}

// askOpenly asks by HEAD, and by GET where that is not known.
func (p *patient) askOpenly(ctx context.Context, a *agent.API, method, target string) (*upstream.Look, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	l, err := agent.Look(ctx, p.config, a, p.deps, method, target)
	unknown := err == nil && (l.Status == http.StatusMethodNotAllowed || l.Status == http.StatusNotImplemented)
	if method == http.MethodHead && unknown {
		return agent.Look(ctx, p.config, a, p.deps, http.MethodGet, target)
	}
	return l, err
}

func brokenTLS(f Finding, a *agent.API, err error) Finding {
	// A pinned key takes the place of authorities and names, so it is what failed.
	if a.TLS.Pin != "" {
		return f.is(Fail, err.Error(), "if the API has a new key, correct tls.pin")
	}
	c := unverified(err)
	if c == nil {
		return f.is(Fail, err.Error(), "does the port speak TLS, and a version that tls.min_version admits?")
	}
	return f.is(Fail, err.Error()+"; "+describe(c), "renew the certificate, name its authority under tls.ca, or the name in it under tls.server_name")
}

// judgeAuth compares what an API asks for with what agent.yaml has.
func judgeAuth(f Finding, a *agent.API, l *upstream.Look) Finding {
	kind := authKind(&a.Auth)
	said := fmt.Sprintf("it answers %d %s", l.Status, http.StatusText(l.Status))
	if l.Status != http.StatusUnauthorized {
		switch {
		case l.Status >= 500:
			return f.is(Warn, said, "the API's own log says more")
		case kind == agent.AuthNone:
			return f.ok("%s, and asks for no sign-on", said)
		}
		return f.ok("%s, and asks for no sign-on here (auth is %s)", said, kind)
	}
	offer := "no scheme by name"
	if len(l.Schemes) > 0 {
		offer = strings.Join(l.Schemes, ", ")
	}
	said += ", and asks for " + offer + "; auth is " + kind
	if fits, do := fit(&a.Auth, l.Schemes); !fits {
		return f.is(Fail, said, do)
	}
	return f.ok("%s", said)
}

func authKind(a *agent.Auth) string {
	switch {
	case a.Windows != nil:
		return "windows"
	case a.Basic != nil:
		return "basic"
	case a.Bearer != nil:
		return "bearer"
	case a.Header != nil:
		return "header"
	}
	return a.Word
}

// fit says whether a way to sign on can satisfy an API that asks for schemes, and what to write if not.
func fit(a *agent.Auth, schemes []string) (bool, string) {
	asks := func(names ...string) bool {
		return slices.ContainsFunc(schemes, func(s string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(s, n) })
		})
	}
	windows := asks("Negotiate", "NTLM")
	instead := mendAuth(windows, asks("Basic"), asks("Bearer"))
	switch {
	case a.Windows != nil && a.Windows.Protocol == "kerberos":
		return asks("Negotiate"), "let the API offer Negotiate, or write another protocol than kerberos under auth.windows"
	case a.Windows != nil && a.Windows.Protocol == "ntlm":
		return windows, instead
	case a.Windows != nil:
		return windows, instead
	case a.Basic != nil:
		return asks("Basic"), instead
	case a.Bearer != nil:
		return asks("Bearer") || len(schemes) == 0, instead
	case a.Header != nil: // many APIs ask for nothing by name, or for a scheme of their own
		return !windows || len(schemes) > 2, instead
	case a.Word == agent.AuthPassthrough:
		return !windows || asks("Basic", "Bearer"), instead
	}
	return false, instead
}

func mendAuth(windows, basic, bearer bool) string {
	switch {
	case windows:
		return "write auth: {windows: {as: service}}, or as: account; if only other paths are open, name one as check"
	case bearer:
		return "write auth: {bearer: {secret: NAME}}, or passthrough if callers bring the token"
	case basic:
		return "write auth: {basic: {user: NAME, secret: NAME}}"
	}
	return "write under auth what the API wants: header for a key, or what its manual says"
}

// call makes the call that 'check' names.
func (p *patient) call(ctx context.Context, a *agent.API) Finding {
	f := Finding{ID: "api." + a.Name + ".call", Tried: a.Check + " as the agent does (auth " + authKind(&a.Auth) + ")"}
	ctx, cancel := bounded(ctx)
	defer cancel()
	t, err := agent.TryCheck(ctx, p.config, a, p.deps, p.o.Caller)
	as := ""
	if t.Identity != "" {
		as = " as " + t.Identity
	}
	if t.Protocol != "" {
		as += " by " + t.Protocol
	}
	switch {
	case errors.Is(err, agent.ErrCallersLogon):
		return f.skip(err.Error() + mendCaller(a))
	case err != nil && ctx.Err() != nil:
		return f.is(Fail, "no answer in time"+as, "the API's own log says more")
	case err != nil:
		return f.is(Fail, err.Error()+tried(t), mendCall(err))
	}
	said := fmt.Sprintf("%d %s%s", t.Status, http.StatusText(t.Status), as)
	return judgeCall(f, t.Status, said)
}

// delegation finds out whether the account that acts for callers can act for anybody, before there is any.
func (p *patient) delegation(ctx context.Context, a *agent.API) Finding {
	f := Finding{ID: "api." + a.Name + ".delegation", Tried: "whether callers can be acted for"}
	tried := p.domain.delegation(ctx, p, a)
	if tried.way != "" {
		f.Tried = tried.account + " acts for callers, by " + tried.way
	}
	if e, ok := errors.AsType[*winauth.Error](tried.err); ok {
		return f.is(Fail, string(e.Kind)+": "+e.Err.Error(), cmp.Or(e.Mend, "correct auth.windows"))
	}
	if tried.err != nil {
		return f.is(Fail, tried.err.Error(), "correct auth.windows, and kerberos at the top of agent.yaml")
	}
	return f.ok("it signs on, and may act for callers; towards which services, a call with --caller shows")
}

// lockout holds what the agent lets through of guessed passwords against when the domain locks accounts.
func (p *patient) lockout(ctx context.Context, a *agent.API) Finding {
	f := Finding{ID: "api." + a.Name + ".lockout", Tried: "whether guessing callers' passwords can lock accounts"}
	const byHand = "compare with 'net accounts /domain': an account is to be locked by more than 3 wrong passwords in 30 minutes for each agent"
	risk, err := p.domain.lockout(ctx, p)
	if errors.Is(err, agent.ErrNobodyToAsk) {
		return f.skip(err.Error() + "; " + byHand)
	}
	if err != nil {
		return f.is(Warn, "the domain could not be asked: "+err.Error(), byHand)
	}
	f.Tried += " (the domain was asked as " + risk.Who + ")"
	if risk.Threshold == 0 {
		return f.ok("the domain locks no accounts")
	}
	said := fmt.Sprintf("the domain locks an account after %d wrong passwords within %s; each agent lets %d through", risk.Threshold, risk.Window, risk.Reach)
	if risk.Threshold <= risk.Reach {
		return f.is(Warn, said, "let the domain's threshold be higher than what all agents of the gateway let through together, or demand a key of callers (key+windows)")
	}
	return f.ok("%s; so up to %d agents of one gateway lock nobody", said, (risk.Threshold-1)/risk.Reach)
}

// mendCaller says how an API is tried that is called in callers' names.
func mendCaller(a *agent.API) string {
	if a.ActsForCallers() {
		return ": name one with --caller anna@corp.example"
	}
	return ""
}

func tried(t upstream.Trial) string {
	if t.Protocol == "" {
		return ""
	}
	return " (tried by " + t.Protocol + ")"
}

func judgeCall(f Finding, status int, said string) Finding {
	switch {
	case status == http.StatusUnauthorized:
		return f.is(Fail, said, "correct 'auth': the API does not take who calls")
	case status == http.StatusForbidden:
		return f.is(Fail, said, "give the account the right to this path in the API, or check another path")
	case status >= 500:
		return f.is(Fail, said, "the API's own log says more")
	case status >= 400:
		return f.is(Warn, said, "name a path under check that answers 2xx")
	}
	return f.ok("%s", said)
}

func mendCall(err error) string {
	if e, ok := errors.AsType[*winauth.Error](err); ok && e.Mend != "" {
		return e.Mend
	}
	if _, ok := errors.AsType[*winauth.PersonError](err); ok {
		return "mend the account in Active Directory, or the groups and suffixes under callers; or name another person with --caller"
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Kind == upstream.AuthFailed {
		return "correct 'auth', or set the secret anew; repeating this with a wrong password can lock the account"
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "put the file there, or name another in auth.windows (keytab, ccache); without one: as: account, with account and secret"
	case errors.Is(err, fs.ErrPermission):
		return "let the account that the agent runs as read the file, and no other: chgrp, and chmod 0640"
	}
	return "the API's own log says more"
}
