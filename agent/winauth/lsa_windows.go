package winauth

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"sallyport/agent/winauth/directory"
	"sallyport/agent/winauth/keep"
)

const (
	// maxSessions bounds the sessions that Windows keeps for us; sessionAge is when a person is asked for again, sessionEnd how
	// long a session serves while no domain controller answers.
	maxSessions = 1024
	sessionAge  = time.Hour
	sessionEnd  = 10 * time.Hour
	// maxLogons bounds the calls that wait for a domain controller: nobody can call them back.
	maxLogons = 16
)

// lsa acts for people by constrained delegation with protocol transition through Windows (KERB_S4U_LOGON), as the account that
// the process runs as, a gMSA's or the machine's too, of which nobody here has a key.
type lsa struct {
	options Options
	who     string
	logons  chan struct{}         // has one for each call under way
	people  *keep.Table[*visitor] // by SID and user principal name
	groups  *keep.Table[visitor]  // by name, domains too; sid and got alone
	domains []string              // others than the machine's whose people are acted for
}

// visitor is somebody as Windows knows them.
type visitor struct {
	someone
	got time.Time
}

// newLSA asks nobody yet.
func newLSA(o Options, domains []string) (*lsa, error) {
	u, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("find out which account this process runs as: %w", err)
	}
	life := func(got time.Time) keep.Life { return keep.Life{Stale: got.Add(sessionAge), Ends: got.Add(sessionEnd)} }
	return &lsa{
		options: o, who: u.Username, domains: domains, logons: make(chan struct{}, maxLogons),
		people: keep.New(keep.Config[*visitor]{
			Max: maxSessions, Clock: o.Clock, Hold: holdLogon, RideOut: noController,
			Life: func(v *visitor) keep.Life { return life(v.got) },
		}),
		groups: keep.New(keep.Config[visitor]{
			Max: maxNames, Clock: o.Clock, Hold: holdLogon, RideOut: noController,
			Life: func(v visitor) keep.Life { return life(v.got) },
		}),
	}, nil
}

// String implements actor.
func (l *lsa) String() string { return l.who }

// GoString is for %#v.
func (l *lsa) GoString() string { return l.who }

func (l *lsa) way() string { return "Windows, as the account of the service" }

// ready implements actor: which rights the account has on this machine. Those in the domain show only in a person's name.
func (l *lsa) ready(ctx context.Context) error {
	return l.call(ctx, func() error {
		h, err := l.register()
		if err == nil {
			h.close()
		}
		return err
	})
}

// register connects to the local security authority, if the account has the rights that a session needs.
func (l *lsa) register() (*logonHandle, error) {
	if joined() == "" {
		return nil, &Error{
			Kind: NotReady, Err: errors.New("this machine is in no domain"),
			Mend: "join it to the domain, or name an account with a keytab or a secret",
		}
	}
	missing, err := missingRights(tcbRight, impersonateRight)
	if err != nil {
		return nil, err
	}
	if len(missing) == 0 {
		return registerLogon()
	}
	return nil, &Error{
		Kind: NoDelegation, Err: fmt.Errorf("%s lacks the right to act for people on this machine: %s", l.who, strings.Join(missing, ", ")),
		Mend: "give it those rights (secpol.msc, Local Policies, User Rights Assignment: \"Act as part of the operating system\", " +
			"\"Impersonate a client after authentication\") and restart the service, or name an account with a keytab or a secret, " +
			"which needs no right on this machine",
	}
}

// call does what can only be waited for. It ends with ctx; what it has called for goes on until Windows gives up.
func (l *lsa) call(ctx context.Context, f func() error) error {
	select {
	case l.logons <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-l.logons }()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// find implements actor. The SID counts where there is one: names can be given to somebody else.
func (l *lsa) find(ctx context.Context, p Person) (*someone, error) {
	v, err := l.people.Get(ctx, strings.ToUpper(p.SID)+"\x00"+strings.ToLower(p.UPN), func(ctx context.Context) (*visitor, error) {
		found := make(chan *visitor, 1)
		err := l.call(ctx, func() error {
			v, err := l.logon(p)
			found <- v
			return err
		})
		if err != nil {
			return nil, err
		}
		return <-found, nil
	})
	if err != nil {
		return nil, err
	}
	if err := l.admitsDomain(ctx, p, v.sid); err != nil {
		return nil, err
	}
	return &v.someone, nil
}

// admitsDomain refuses people of domains that are not named, which the machine's domain may well trust.
func (l *lsa) admitsDomain(ctx context.Context, p Person, sid string) error {
	of := sid[:max(0, strings.LastIndexByte(sid, '-'))]
	for _, domain := range append([]string{joined()}, l.domains...) {
		known, err := l.lookUpName(ctx, domain, windows.SidTypeDomain)
		if err != nil {
			return &Error{Kind: NotReady, Err: fmt.Errorf("find the domain %s: %w", domain, err), Mend: "correct 'domains' under callers"}
		}
		if known == of {
			return nil
		}
	}
	return &PersonError{Person: p, Reason: "the account is neither of this machine's domain nor of one of the domains under callers"}
}

// logon makes a person's session.
func (l *lsa) logon(p Person) (*visitor, error) {
	h, err := l.register()
	if err != nil {
		return nil, err
	}
	defer h.close()
	var s *session
	if p.UPN != "" {
		if s, err = h.s4u(p.UPN, ""); err != nil && (p.SID == "" || !noSuchAccount(err)) {
			return nil, err
		}
	}
	if p.SID != "" && (s == nil || s.sid != p.SID) {
		account, domain, err := lookUpSID(p.SID)
		if err != nil {
			return nil, &PersonError{Person: p, Reason: "the domain has no such account", Err: err}
		}
		if s, err = h.s4u(account, domain); err != nil {
			return nil, err
		}
		if s.sid != p.SID {
			return nil, &PersonError{Person: p, Reason: fmt.Sprintf("Windows says that it is %s, and the domain that this is %s", s.name.identity(), s.sid)}
		}
	}
	v := &visitor{someone: someone{upn: p.UPN, sid: s.sid, groups: s.groups}, got: l.options.Clock()}
	if v.upn == "" {
		v.upn = s.upn()
	}
	v.credential, err = ready(&sspiCredential{id: s.name.identity(), options: l.options, person: s})
	return v, err
}

// group implements actor.
func (l *lsa) group(ctx context.Context, name string) (string, error) {
	return l.lookUpName(ctx, name, windows.SidTypeGroup, windows.SidTypeWellKnownGroup, windows.SidTypeAlias)
}

// lookUpName gives the SID of a name, which has to be of one of some kinds.
func (l *lsa) lookUpName(ctx context.Context, name string, kinds ...uint32) (string, error) {
	v, err := l.groups.Get(ctx, strings.ToLower(name), func(ctx context.Context) (visitor, error) {
		found := make(chan string, 1)
		err := l.call(ctx, func() error {
			sid, _, kind, err := windows.LookupSID("", name)
			switch {
			case err != nil:
				return err
			case !slices.Contains(kinds, kind):
				return errNoGroup{&directory.NotFound{What: name, Reason: "it is something else"}}
			}
			found <- sid.String()
			return nil
		})
		if errors.Is(err, windows.ERROR_NONE_MAPPED) {
			err = errNoGroup{fmt.Errorf("the domain has nothing by the name %s: %w", name, err)}
		}
		if err != nil {
			return visitor{}, err
		}
		return visitor{someone: someone{sid: <-found}, got: l.options.Clock()}, nil
	})
	return v.sid, err
}

func lookUpSID(text string) (account, domain string, err error) {
	sid, err := windows.StringToSid(text)
	if err != nil {
		return "", "", err
	}
	account, domain, kind, err := sid.LookupAccount("")
	if err == nil && kind != windows.SidTypeUser {
		err = errors.New("it is no user's")
	}
	return account, domain, err
}

func noSuchAccount(err error) bool {
	s, ok := errors.AsType[*logonError](err)
	return ok && (s.status == windows.STATUS_NO_SUCH_USER || s.status == windows.STATUS_LOGON_FAILURE)
}

// noController says that an error tells of the domain controllers and not of what they were asked.
func noController(err error) bool {
	s, ok := errors.AsType[*logonError](err)
	switch {
	case ok:
		return s.status == windows.STATUS_NO_LOGON_SERVERS || s.status == windows.STATUS_DOMAIN_CONTROLLER_NOT_FOUND
	}
	_, person := errors.AsType[*PersonError](err)
	_, other := errors.AsType[*Error](err)
	_, group := errors.AsType[errNoGroup](err)
	return !person && !other && !group
}

func holdLogon(err error) time.Duration {
	if noController(err) {
		return unreachableHold
	}
	return notFoundHold
}

// explain implements actor.
func (l *lsa) explain(err error, p Person) error {
	s, ok := errors.AsType[*logonError](err)
	if !ok {
		return &Error{Kind: NotReady, Err: err}
	}
	switch s.status {
	case windows.STATUS_NO_SUCH_USER, windows.STATUS_LOGON_FAILURE, windows.STATUS_INVALID_ACCOUNT_NAME:
		return &PersonError{Person: p, Reason: "the domain has no such account", Err: err}
	case windows.STATUS_ACCOUNT_RESTRICTION:
		return &PersonError{Person: p, Reason: "a restriction of the account or a policy of the domain forbids it", Err: err}
	case windows.STATUS_ACCESS_DENIED, windows.STATUS_PRIVILEGE_NOT_HELD:
		return &Error{
			Kind: NoDelegation, Err: err, Mend: "put " + l.who + " in the domain's group Windows Authorization Access Group, and see that it has " +
				"the right \"Act as part of the operating system\"",
		}
	case windows.STATUS_NO_LOGON_SERVERS, windows.STATUS_DOMAIN_CONTROLLER_NOT_FOUND, windows.STATUS_NO_SUCH_DOMAIN:
		return &Error{Kind: KDCUnreachable, Err: err, Mend: "check DNS and the way to the domain controllers: nltest /dsgetdc:DOMAIN"}
	case windows.STATUS_TIME_DIFFERENCE_AT_DC:
		return &Error{Kind: ClockSkew, Err: err, Mend: "synchronise the clock: w32tm /resync"}
	case windows.STATUS_NO_TRUST_LSA_SECRET, windows.STATUS_NO_TRUST_SAM_ACCOUNT:
		return &Error{Kind: NotReady, Err: err, Mend: "renew the machine's trust with the domain: Test-ComputerSecureChannel -Repair"}
	}
	if reason := blockedBy(uint32(s.status), "the account"); reason != "" {
		return &PersonError{Person: p, Reason: reason, Err: err}
	}
	return &Error{Kind: NotReady, Err: err}
}
