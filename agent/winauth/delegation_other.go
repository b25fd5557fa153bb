//go:build !windows

package winauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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

// A Delegation acts for people whose identity has been proved: Kerberos constrained delegation with protocol transition
// (S4U2Self and S4U2Proxy, MS-SFU). Safe for concurrent use; tickets and names are kept per person, and bounded.
type Delegation struct {
	options Options
	config  DelegationConfig
	krb     *kerberos.Client
	realm   string
	dir     names
	people  *keep.Table[named] // by SID, or by user principal name
	groups  *keep.Table[named] // by name
	// unmapped says that the KDC does not map user principal names, so that it is not asked in vain for everybody.
	unmapped atomic.Bool
}

// names are a directory's answers. They are hints: a person's account is held against what the KDC says.
type names interface {
	ByUPN(ctx context.Context, upn string) (directory.Account, error)
	BySID(ctx context.Context, sid string) (directory.Account, error)
	Group(ctx context.Context, name string) (sid string, err error)
}

// named is an answer of the directory.
type named struct {
	account directory.Account
	got     time.Time
}

// NewDelegation makes a Delegation. It reads a keytab, and asks nobody yet.
func NewDelegation(o Options, c DelegationConfig) (*Delegation, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Protocol == NTLM {
		return nil, errors.New("acting for callers is Kerberos alone")
	}
	o.Protocol = Kerberos
	conf, err := loadConf(o)
	if err != nil {
		return nil, err
	}
	cfg := kerberos.Config{Conf: conf, Dial: o.Dial, Clock: o.Clock, Log: o.Log, Delegate: true}
	if err := c.account(conf, &cfg); err != nil {
		return nil, err
	}
	d := &Delegation{options: o, config: c, realm: cfg.Principal.Realm}
	if d.krb, err = kerberos.New(cfg); err != nil {
		return nil, err
	}
	d.dir = directory.New(directory.Config{Client: d.krb, Realm: d.realm, Controllers: conf.Controllers, Dial: o.Dial})
	table := func() *keep.Table[named] {
		return keep.New(keep.Config[named]{
			Max: maxNames, Clock: o.Clock, Hold: holdName, RideOut: directoryGone,
			Life: func(n named) keep.Life { return keep.Life{Stale: n.got.Add(namesAge), Ends: n.got.Add(namesEnd)} },
		})
	}
	d.people, d.groups = table(), table()
	return d, nil
}

// account fills in whose credential asks for tickets.
func (c DelegationConfig) account(conf *kerberos.Conf, cfg *kerberos.Config) (err error) {
	if c.Service.CCache != "" {
		return errors.New("acting for callers needs the account's own key: a keytab or a password, no credential cache")
	}
	if c.Account.User == "" {
		cfg.Keytab = c.Service.Keytab
		if cfg.Keytab == "" {
			cfg.Keytab = defaultKeytab
		}
		cfg.Principal, err = keytabPrincipal(conf, cfg.Keytab, c.Service.Principal)
		return err
	}
	n, err := parseName(c.Account.User)
	if err != nil {
		return err
	}
	cfg.Principal, cfg.Password, cfg.Keytab = principalOf(conf, n), c.Account.Password, c.Account.Keytab
	if cfg.Keytab != "" {
		cfg.Principal, err = keytabPrincipal(conf, cfg.Keytab, n.user+"@"+cfg.Principal.Realm)
	}
	return err
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

// String names the account that acts, never a secret.
func (d *Delegation) String() string { return d.krb.String() }

// GoString is for %#v.
func (d *Delegation) GoString() string { return d.String() }

// For gives the credential of a person. The error is a *PersonError where it is the person who is not acted for, and an *Error
// where nobody can be.
func (d *Delegation) For(ctx context.Context, p Person) (Credential, error) {
	u, err := d.user(ctx, p)
	if err != nil {
		return nil, d.explain(err, p)
	}
	if err := d.admits(ctx, p, u); err != nil {
		return nil, d.explain(err, p)
	}
	return &credential{id: u.Account.String(), options: d.options, krb: d.krb, user: u}, nil
}

// user asks the KDC who a person is. The SID counts where there is one: names can be given to somebody else.
func (d *Delegation) user(ctx context.Context, p Person) (*kerberos.User, error) {
	if p.UPN != "" && !d.unmapped.Load() {
		u, err := d.krb.User(ctx, kerberos.Principal{Name: p.UPN, Realm: d.realm, Enterprise: true})
		switch {
		case err == nil && (p.SID == "" || u.SID == p.SID):
			return u, nil
		case errors.Is(err, kerberos.ErrNotCanonical):
			d.unmapped.Store(true)
			d.options.Log.Debug("the KDC does not map user principal names, so the directory is asked", "realm", d.realm)
		case err != nil && p.SID == "", err != nil && !unknownToKDC(err):
			return nil, err
		}
	}
	account, err := d.lookUp(ctx, p)
	if err != nil {
		return nil, err
	}
	u, err := d.krb.User(ctx, kerberos.Principal{Name: account.Name, Realm: d.realm})
	switch {
	case err != nil:
		return nil, err
	case p.SID != "" && u.SID != p.SID, p.SID == "" && !strings.EqualFold(u.UPN, p.UPN):
		// The directory's word is only a hint. The KDC's counts.
		return nil, &PersonError{Person: p, Reason: fmt.Sprintf("the directory says that it is %s, and the KDC that this is %s, %s", account.Name, u.UPN, u.SID)}
	}
	return u, nil
}

func unknownToKDC(err error) bool {
	k, ok := errors.AsType[*kerberos.KDCError](err)
	return ok && k.Step == kerberos.StepSelf && k.Code == errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN
}

func (d *Delegation) lookUp(ctx context.Context, p Person) (directory.Account, error) {
	key, ask := p.SID, d.dir.BySID
	if key == "" {
		key, ask = strings.ToLower(p.UPN), d.dir.ByUPN
	}
	n, err := d.people.Get(ctx, key, func(ctx context.Context) (named, error) {
		a, err := ask(ctx, key)
		return named{a, d.options.Clock()}, err
	})
	return n.account, err
}

// admits says whether the configuration and the domain let a person be acted for.
func (d *Delegation) admits(ctx context.Context, p Person, u *kerberos.User) error {
	upn := p.UPN
	if upn == "" {
		upn = u.UPN
	}
	no := func(format string, v ...any) error { return &PersonError{Person: p, Reason: fmt.Sprintf(format, v...)} }
	if !suffixCounts(upn, d.config.UPNSuffixes) {
		return no("the user principal name %q does not end with one of upn_suffixes", upn)
	}
	if name := protectedOf(u.SID, u.Groups); name != "" {
		return no("the account is, or is a member of, %s, which Windows protects: nobody acts for those from outside", name)
	}
	denied, err := d.in(ctx, u, d.config.DenyGroups)
	if err != nil {
		return err
	}
	if denied != "" {
		return no("the account is a member of %s, one of deny_groups", denied)
	}
	if len(d.config.AllowGroups) > 0 {
		allowed, err := d.in(ctx, u, d.config.AllowGroups)
		if err != nil {
			return err
		}
		if allowed == "" {
			return no("the account is a member of none of allow_groups")
		}
	}
	switch {
	case u.Delegable():
		return nil
	case u.Sensitive:
		return no("the account is marked \"Account is sensitive and cannot be delegated\"")
	}
	return fmt.Errorf("%s: %w", u, kerberos.ErrNoTransition)
}

// in gives the first of some groups that a person is a member of. A name that cannot be resolved is an error: it could be the
// one that decides.
func (d *Delegation) in(ctx context.Context, u *kerberos.User, groups []string) (string, error) {
	for _, name := range groups {
		sid := name
		if !directory.IsSID(name) {
			n, err := d.groups.Get(ctx, strings.ToLower(name), func(ctx context.Context) (named, error) {
				sid, err := d.dir.Group(ctx, name)
				return named{directory.Account{Name: name, SID: sid}, d.options.Clock()}, err
			})
			if _, unknown := errors.AsType[*directory.NotFound](err); unknown {
				return "", &Error{Kind: NotReady, Err: err, Mend: "correct the group's name under callers, or write its SID"}
			}
			if err != nil {
				return "", err
			}
			sid = n.account.SID
		}
		if _, member := slices.BinarySearch(u.Groups, sid); member {
			return name, nil
		}
	}
	return "", nil
}

// explain tells what a person's account is the cause of from what is the agent's or the domain's.
func (d *Delegation) explain(err error, p Person) error {
	if _, ok := errors.AsType[*PersonError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
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
	if errors.Is(err, kerberos.ErrForeignRealm) {
		return &PersonError{Person: p, Reason: "the account is in another domain than " + d.realm, Err: err}
	}
	return explain(err, d.String(), "the ticket in the name of "+p.String())
}
