package winauth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"

	"sallyport/agent/winauth/directory"
	"sallyport/agent/winauth/keep"
	"sallyport/agent/winauth/kerberos"
)

const (
	// maxNames bounds what is kept of the directory's answers; namesAge is when they are asked for again, namesEnd how long
	// they serve while the directory is out of reach.
	maxNames = 1024
	namesAge = time.Hour
	namesEnd = 10 * time.Hour
	// How long failures are remembered.
	notFoundHold    = 15 * time.Second
	unreachableHold = 2 * time.Second
)

// transition acts for people by constrained delegation with protocol transition in this package's own Kerberos (S4U2Self and
// S4U2Proxy, MS-SFU), on every system. Tickets and names are kept per person, and bounded.
type transition struct {
	options Options
	krb     *kerberos.Client
	realm   string
	dir     names
	people  *keep.Table[named] // by SID
	groups  *keep.Table[named] // by name
}

// names are a directory's answers. They are hints: a person's account is held against what the KDC says.
type names interface {
	BySID(ctx context.Context, sid string) (directory.Account, error)
	Group(ctx context.Context, name string) (sid string, err error)
}

// named is an answer of the directory.
type named struct {
	account directory.Account
	got     time.Time
}

// newTransition reads a keytab, and asks nobody yet.
func newTransition(o Options, c DelegationConfig) (*transition, error) {
	cfg, err := c.kerberos(o)
	if err != nil {
		return nil, err
	}
	conf := cfg.Conf
	cfg.Delegate = true
	for _, domain := range c.Domains {
		realm := conf.RealmFor(domain)
		if realm == "" || !strings.EqualFold(realm, domain) {
			realm = strings.ToUpper(domain)
		}
		cfg.Realms = append(cfg.Realms, realm)
	}
	t := &transition{options: o, realm: cfg.Principal.Realm}
	if t.krb, err = kerberos.New(cfg); err != nil {
		return nil, err
	}
	t.dir = directory.New(directory.Config{Client: t.krb, Realm: t.realm, Controllers: conf.Controllers, Dial: o.Dial})
	table := func() *keep.Table[named] {
		return keep.New(keep.Config[named]{
			Max: maxNames, Clock: o.Clock, Hold: holdName, RideOut: directoryGone,
			Life: func(n named) keep.Life { return keep.Life{Stale: n.got.Add(namesAge), Ends: n.got.Add(namesEnd)} },
		})
	}
	t.people, t.groups = table(), table()
	return t, nil
}

// kerberos is the client of the account that acts, by its own key.
func (c DelegationConfig) kerberos(o Options) (cfg kerberos.Config, err error) {
	conf, err := loadConf(o)
	if err != nil {
		return cfg, err
	}
	cfg = kerberos.Config{Conf: conf, Dial: o.Dial, Clock: o.Clock, Log: o.Log}
	if c.Service.CCache != "" {
		return cfg, errors.New("acting for callers needs the account's own key: a keytab or a password, no credential cache")
	}
	if c.Account.User == "" {
		cfg.Keytab = c.Service.Keytab
		if cfg.Keytab == "" {
			cfg.Keytab = systemKeytab
		}
		cfg.Principal, err = keytabPrincipal(conf, cfg.Keytab, c.Service.Principal)
		return cfg, err
	}
	n, err := parseName(c.Account.User)
	if err != nil {
		return cfg, err
	}
	cfg.Principal, cfg.Password, cfg.Keytab = principalOf(conf, n), c.Account.Password, c.Account.Keytab
	if cfg.Keytab != "" {
		cfg.Principal, err = keytabPrincipal(conf, cfg.Keytab, n.user+"@"+cfg.Principal.Realm)
	}
	return cfg, err
}

func directoryGone(err error) bool {
	_, ok := errors.AsType[*directory.Unreachable](err)
	return ok
}

func holdName(err error) time.Duration {
	if directoryGone(err) {
		return unreachableHold
	}
	return notFoundHold
}

// String implements actor.
func (t *transition) String() string { return t.krb.String() }

// GoString is for %#v.
func (t *transition) GoString() string { return t.String() }

// way implements actor.
func (t *transition) way() string { return "the agent's own Kerberos" }

// ready implements actor: the account signs on, and its ticket to itself shows the right to act for others.
func (t *transition) ready(ctx context.Context) error {
	u, err := t.krb.Self(ctx)
	if err == nil && !u.Delegable() && !u.Sensitive {
		err = kerberos.ErrNoTransition
	}
	return err
}

// find implements actor.
func (t *transition) find(ctx context.Context, p Person) (*someone, error) {
	u, err := t.user(ctx, p)
	if err != nil {
		return nil, err
	}
	s := &someone{upn: u.UPN, sid: u.SID, groups: u.Groups}
	switch {
	case u.Delegable():
		s.credential = &credential{id: u.Account.String(), options: t.options, krb: t.krb, user: u}
	case u.Sensitive:
		s.refused = &PersonError{Person: p, Reason: "the account is marked \"Account is sensitive and cannot be delegated\""}
	default:
		s.refused = fmt.Errorf("%s: %w", u, kerberos.ErrNoTransition)
	}
	return s, nil
}

// group implements actor.
func (t *transition) group(ctx context.Context, name string) (string, error) {
	n, err := t.groups.Get(ctx, strings.ToLower(name), func(ctx context.Context) (named, error) {
		sid, err := t.dir.Group(ctx, name)
		return named{directory.Account{Name: name, SID: sid}, t.options.Clock()}, err
	})
	if _, unknown := errors.AsType[*directory.NotFound](err); unknown {
		err = errNoGroup{err}
	}
	return n.account.SID, err
}

// user asks the KDC who a person is. The SID counts where there is one: names can be given to somebody else.
func (t *transition) user(ctx context.Context, p Person) (*kerberos.User, error) {
	if p.UPN != "" {
		u, err := t.krb.User(ctx, kerberos.Principal{Name: p.UPN, Realm: t.realm, Enterprise: true})
		switch {
		case p.SID == "" && err == nil && !strings.EqualFold(u.UPN, p.UPN):
			// KDCs take an account's own name with the domain for a user principal name, whatever its real one is.
			return nil, &PersonError{Person: p, Reason: fmt.Sprintf("the domain takes that for %s, whose user principal name is %q", u, u.UPN)}
		case err == nil && (p.SID == "" || u.SID == p.SID):
			return u, nil
		case err != nil && p.SID == "", err != nil && !unknownToKDC(err) && !errors.Is(err, kerberos.ErrForeignUser):
			return nil, err
		}
	}
	account, err := t.lookUp(ctx, p.SID)
	if err != nil {
		return nil, err
	}
	u, err := t.krb.User(ctx, kerberos.Principal{Name: account.Name, Realm: t.realm})
	if err == nil && u.SID != p.SID {
		// The directory's word is only a hint. The KDC's counts.
		return nil, &PersonError{Person: p, Reason: fmt.Sprintf("the directory says that it is %s, and the KDC that this is %s, %s", account.Name, u.UPN, u.SID)}
	}
	return u, err
}

func unknownToKDC(err error) bool {
	k, ok := errors.AsType[*kerberos.KDCError](err)
	return ok && k.Step == kerberos.StepSelf && k.Code == errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN
}

// lookUp asks the directory whose a SID is.
func (t *transition) lookUp(ctx context.Context, sid string) (directory.Account, error) {
	n, err := t.people.Get(ctx, sid, func(ctx context.Context) (named, error) {
		a, err := t.dir.BySID(ctx, sid)
		return named{a, t.options.Clock()}, err
	})
	return n.account, err
}

// explain implements actor.
func (t *transition) explain(err error, p Person) error {
	if _, ok := errors.AsType[*directory.NotFound](err); ok {
		return &PersonError{Person: p, Reason: "the directory does not name one enabled account", Err: err}
	}
	if directoryGone(err) {
		return &Error{Kind: KDCUnreachable, Err: err, Mend: "see that port 389/TCP of the domain controllers is open from this machine"}
	}
	if k, ok := errors.AsType[*kerberos.KDCError](err); ok && k.Step == kerberos.StepSelf {
		switch k.Code {
		case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
			return &PersonError{Person: p, Reason: "the domain has no such account", Err: err}
		case errorcode.KDC_ERR_CLIENT_REVOKED, errorcode.KDC_ERR_NAME_EXP, errorcode.KDC_ERR_KEY_EXPIRED, errorcode.KDC_ERR_CLIENT_NOTYET,
			errorcode.KDC_ERR_POLICY:
			return &PersonError{Person: p, Reason: blocked(k, "the account"), Err: err}
		}
	}
	if errors.Is(err, kerberos.ErrForeignUser) {
		return &PersonError{Person: p, Reason: "the account is neither of " + t.realm + " nor of one of the domains under callers", Err: err}
	}
	return explain(err, t.String(), "the ticket in the name of "+p.String())
}
