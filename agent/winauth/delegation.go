package winauth

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sallyport/agent/winauth/directory"
)

// A Person is who was proved to call, by the names that the directory inside knows: a SID, a user principal name, or both.
type Person struct{ SID, UPN string }

func (p Person) String() string {
	if p.UPN != "" {
		return p.UPN
	}
	return p.SID
}

// DelegationConfig says which account acts for people, and for whom.
type DelegationConfig struct {
	// Account is the account that acts, with a password or a keytab. With an empty User it is Service's. On Windows, with both
	// empty, it is the account that the process runs as.
	Account Account
	Service ServiceSource
	// AllowGroups, if there are any, are those of which a person must be in one; DenyGroups those of which in none: SIDs, or
	// names ("CORP\\Orders") that the directory is asked for.
	AllowGroups, DenyGroups []string
	// Domains are others than the account's own whose people are acted for, trusted by it ("emea.corp.example").
	Domains []string
	// UPNSuffixes, if there are any, are the ends of user principal names that count ("corp.example").
	UPNSuffixes []string
}

// A PersonError says that a person is not acted for, and why, in words for the admin. It is never shown to callers.
type PersonError struct {
	Person Person
	Reason string
	Err    error // may be nil
}

func (e *PersonError) Error() string {
	s := fmt.Sprintf("%s is not acted for: %s", e.Person, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *PersonError) Unwrap() error { return e.Err }

// A Delegation acts for people whose identity has been proved, by constrained delegation with protocol transition (MS-SFU).
// Safe for concurrent use.
type Delegation struct {
	config DelegationConfig
	acts   actor
}

// An actor says who a person is, and signs on in their name: this package's own Kerberos, or Windows.
type actor interface {
	// String names the account that acts, never a secret; way is what it acts by.
	String() string
	way() string
	// ready finds out whether the account can act for anybody.
	ready(ctx context.Context) error
	find(ctx context.Context, p Person) (*someone, error)
	// group gives a group's SID. The error is an errNoGroup if there is none.
	group(ctx context.Context, name string) (sid string, err error)
	// explain tells what a person's account is the cause of (a *PersonError) from what is the agent's or the domain's (an *Error).
	explain(err error, p Person) error
}

// someone is a person as the domain knows them.
type someone struct {
	upn, sid string
	groups   []string // SIDs, nested groups included, sorted
	// credential signs on in their name; refused is why the domain does not allow it.
	credential Credential
	refused    error
}

// errNoGroup is a group that the domain does not have.
type errNoGroup struct{ error }

func (e errNoGroup) Unwrap() error { return e.error }

// NewDelegation makes a Delegation. It reads a keytab, and asks nobody yet.
func NewDelegation(o Options, c DelegationConfig) (*Delegation, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Protocol == NTLM {
		return nil, errors.New("acting for callers is Kerberos alone")
	}
	o.Protocol = Kerberos
	acts, err := newActor(o, c)
	if err != nil {
		return nil, err
	}
	return &Delegation{config: c, acts: acts}, nil
}

// String names the account that acts, never a secret.
func (d *Delegation) String() string { return d.acts.String() }

// GoString is for %#v.
func (d *Delegation) GoString() string { return d.String() }

// Way says in a few words by what the account acts ("the agent's own Kerberos").
func (d *Delegation) Way() string { return d.acts.way() }

// Ready finds out, without any person, whether the account can act for somebody at all. The error is an *Error.
func (d *Delegation) Ready(ctx context.Context) error {
	err := d.acts.ready(ctx)
	if err == nil {
		return nil
	}
	return d.explain(err, Person{UPN: "somebody"})
}

// For gives the credential of a person. The error is a *PersonError where it is the person who is not acted for, and an *Error
// where nobody can be.
func (d *Delegation) For(ctx context.Context, p Person) (Credential, error) {
	s, err := d.acts.find(ctx, p)
	if err == nil {
		err = d.admits(ctx, p, s)
	}
	if err != nil {
		return nil, d.explain(err, p)
	}
	return s.credential, nil
}

func (d *Delegation) explain(err error, p Person) error {
	if _, ok := errors.AsType[*PersonError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return d.acts.explain(err, p)
}

// admits says whether the configuration and the domain let a person be acted for.
func (d *Delegation) admits(ctx context.Context, p Person, s *someone) error {
	upn := p.UPN
	if upn == "" {
		upn = s.upn
	}
	no := func(format string, v ...any) error { return &PersonError{Person: p, Reason: fmt.Sprintf(format, v...)} }
	if !suffixCounts(upn, d.config.UPNSuffixes) {
		return no("the user principal name %q does not end with one of upn_suffixes", upn)
	}
	if name := protectedOf(s.sid, s.groups); name != "" {
		return no("the account is, or is a member of, %s, which Windows protects: nobody acts for those from outside", name)
	}
	denied, err := d.in(ctx, s, d.config.DenyGroups)
	if err != nil {
		return err
	}
	if denied != "" {
		return no("the account is a member of %s, one of deny_groups", denied)
	}
	if len(d.config.AllowGroups) > 0 {
		allowed, err := d.in(ctx, s, d.config.AllowGroups)
		if err != nil {
			return err
		}
		if allowed == "" {
			return no("the account is a member of none of allow_groups")
		}
	}
	return s.refused
}

// in gives the first of some groups that a person is a member of. A name that cannot be resolved is an error: it could be the
// one that decides.
func (d *Delegation) in(ctx context.Context, s *someone, groups []string) (string, error) {
	for _, name := range groups {
		sid := name
		if !directory.IsSID(name) {
			var err error
			sid, err = d.acts.group(ctx, name)
			if _, unknown := errors.AsType[errNoGroup](err); unknown {
				return "", &Error{Kind: NotReady, Err: err, Mend: "correct the group's name under callers, or write its SID"}
			}
			if err != nil {
				return "", err
			}
		}
		if _, member := slices.BinarySearch(s.groups, sid); member {
			return name, nil
		}
	}
	return "", nil
}
