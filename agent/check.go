package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/agent/state"
	"sallyport/agent/upstream"
	"sallyport/agent/winauth"
	"sallyport/agent/winauth/lockout"
)

// ErrCallersLogon says that an API cannot be tried without a caller: it is called by callers' own passwords, or in their names.
var ErrCallersLogon = errors.New("the API is called as its callers, and no caller is here")

// CheckTarget is what 'check' names: a method and a path below the API's url; "" for both without one.
func (a *API) CheckTarget() (method, target string) {
	method, target, _ = strings.Cut(a.Check, " ")
	return method, strings.TrimSpace(target)
}

func (v validator) check(path string, a *API) {
	if a.Check == "" {
		return
	}
	method, target := a.CheckTarget()
	switch {
	case method != "GET" && method != "HEAD" || !strings.HasPrefix(target, "/"):
		v.Errorf(path, "check: %q is no request that changes nothing (write GET or HEAD and a path below url: GET /health)", a.Check)
	case a.policy != nil && !a.policy.Decide(method, target).Allowed:
		v.Errorf(path, "check: no rule under allow admits %s %s (add one: the check calls nothing that callers could not)", method, target)
	}
}

// Look asks an API once without a credential, to see what it asks for. Its TLS settings are used, its 'auth' is not.
func Look(ctx context.Context, c *Config, from *API, d Deps, method, target string) (*upstream.Look, error) {
	open := *from
	open.Auth = Auth{Word: AuthNone}
	t, err := transportOf(c, &open, d)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return t.Look(ctx, method, target)
}

// TryCheck makes the call that 'check' of an API names, with the API's own credential, and records nothing. An API that is called
// in its callers' names (as: caller) is called in the name of person: a user principal name or a SID.
func TryCheck(ctx context.Context, c *Config, from *API, d Deps, person string) (upstream.Trial, error) {
	who := winauth.Person{SID: person}
	if strings.Contains(person, "@") {
		who = winauth.Person{UPN: person}
	}
	switch {
	case from.TakesPasswords(), from.ActsForCallers() && person == "":
		return upstream.Trial{}, ErrCallersLogon
	case from.ActsForCallers():
		ctx = context.WithValue(ctx, personKey{}, who)
	}
	t, err := transportOf(c, from, d)
	if err != nil {
		return upstream.Trial{}, err
	}
	defer t.Close()
	method, target := from.CheckTarget()
	return t.Try(ctx, method, target)
}

// A LockoutRisk is what guessing through the agent can do to accounts of the domain, whose callers' passwords it tries (as:
// caller-password).
type LockoutRisk struct {
	// Who asked the domain. Threshold wrong passwords within Window lock an account; 0: none do.
	Who       string
	Threshold int
	Window    time.Duration
	// Reach is how many wrong passwords of one account each agent lets through within Window.
	Reach int
}

// ErrNobodyToAsk says that no account is here as whom the domain could be asked.
var ErrNobodyToAsk = errors.New("no API has a keytab as whom the domain could be asked when it locks accounts")

// TryLockout asks the domain when it locks accounts, as the account of the first API with a keytab.
func TryLockout(ctx context.Context, c *Config, d Deps) (LockoutRisk, error) {
	a := &Agent{config: *c, deps: d, log: d.logger()}
	for i := range c.APIs {
		w := c.APIs[i].Auth.Windows
		if w == nil || w.Keytab == "" {
			continue
		}
		who, err := a.acting(w)
		if err != nil {
			return LockoutRisk{}, err
		}
		p, name, err := winauth.LockoutPolicy(ctx, winauth.Options{Krb5Config: d.path(c.Kerberos.Config), Log: d.Log}, who)
		spans := (p.Window + lockout.Window - 1) / lockout.Window
		return LockoutRisk{Who: name, Threshold: p.Threshold, Window: p.Window, Reach: lockout.MostFailures * max(1, int(spans))}, err
	}
	return LockoutRisk{}, ErrNobodyToAsk
}

func transportOf(c *Config, from *API, d Deps) (*upstream.Transport, error) {
	a := &Agent{config: *c, deps: d, log: d.logger(), guard: lockout.New()}
	one, err := a.buildAPI(c, from, nil)
	if err != nil {
		return nil, err
	}
	return one.transport, nil
}

// SecretNames are the secrets that an API's settings name.
func (a *API) SecretNames() (names []string) {
	if w := a.Auth.Windows; w != nil {
		names = append(names, w.Secret)
	}
	if b := a.Auth.Basic; b != nil {
		names = append(names, b.Secret)
	}
	if b := a.Auth.Bearer; b != nil {
		names = append(names, b.Secret)
	}
	if h := a.Auth.Header; h != nil {
		names = append(names, h.Secret)
	}
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}

// CheckSigned says whether the signature lets an agent with this state directory load the configuration, as ReadSigned
// would, and pins nothing.
func CheckSigned(path string, c *Config, dir state.Dir) error {
	signers, err := Signers(dir)
	if err != nil {
		return err
	}
	if len(signers) == 0 {
		signers = c.PolicySigners
	}
	if len(signers) == 0 {
		return nil
	}
	data, err := readFile(path)
	if err != nil {
		return fmt.Errorf("check the signature: %w", err)
	}
	return checkSigned(path, data, signers)
}
