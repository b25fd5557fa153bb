package kerberos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

const (
	// userAge is how old the KDC's word about a person may get: then groups and account are asked for again.
	userAge = time.Hour
	// cnameInAddlTkt is the KDC option of S4U2Proxy (MS-SFU section 2.2.3).
	cnameInAddlTkt = 14
)

// errDelegation is what the errors below are.
var errDelegation = errors.New("delegation")

// delegationError is an error of delegation that no KDC has given.
type delegationError string

func (e delegationError) Error() string        { return string(e) }
func (e delegationError) Is(target error) bool { return target == errDelegation }

// Errors of delegation.
const (
	// ErrNoTransition: the ticket to self is not forwardable.
	ErrNoTransition delegationError = "the ticket in the user's name cannot be passed on"
	// ErrForeignRealm: the service is in another realm, to which constrained delegation does not reach.
	ErrForeignRealm delegationError = "constrained delegation does not leave the realm: the service must be in that of the service account"
	// ErrForeignUser: the user is in a realm that is not the account's own and none of Config.Realms.
	ErrForeignUser delegationError = "the account is in a realm whose people are not acted for"
)

// The exchanges of delegation.
const (
	StepSelf  Step = "ticket in the user's name" // S4U2Self
	StepProxy Step = "delegation"                // S4U2Proxy
)

// A User is a person as the KDC knows them: what a ticket to self says (S4U2Self, MS-SFU).
type User struct {
	// Account is the account's own name and realm, as the KDC writes them.
	Account Principal
	// SID is the account's security identifier; Groups are those of its groups, nested ones included, sorted.
	SID    string
	Groups []string
	// UPN is the account's user principal name, "" if the KDC does not tell.
	UPN string
	// Sensitive says that the account is marked "Account is sensitive and cannot be delegated".
	Sensitive bool

	asked       Principal
	account     string      // the account's name by the ticket's PAC
	cred        *credential // the ticket to self
	forwardable bool
	got         time.Time
}

// String names the account, never a key.
func (u *User) String() string { return u.Account.String() }

// GoString is for %#v.
func (u *User) GoString() string { return u.String() }

// Delegable says whether the KDC lets the account be acted for by this service account.
func (u *User) Delegable() bool { return u.forwardable }

func (p Principal) key() string {
	return strings.ToLower(p.Name+"@"+p.Realm) + fmt.Sprint(p.Enterprise)
}

// User asks the KDC who somebody is, whose identity the caller of this function has proved. What it says is kept for an hour,
// and longer while no KDC answers. The Client needs Config.Delegate. An enterprise name is sought in the realm that it is asked
// of, and from there in those of Config.Realms.
func (c *Client) User(ctx context.Context, name Principal) (*User, error) {
	switch {
	case !c.cfg.Delegate:
		return nil, errors.New("kerberos: the account is not set up here for delegation")
	case !c.actsFor(name.Realm):
		return nil, fmt.Errorf("%s: %w", name, ErrForeignUser)
	}
	return c.users.Get(ctx, name.key(), func(ctx context.Context) (*User, error) {
		return withTGT(ctx, c, func(tgt *credential) (*User, error) {
			u, err := c.identify(ctx, tgt, name)
			if err == nil {
				u.asked = name
			}
			return u, err
		})
	})
}

// actsFor says whether people of a realm may be acted for.
func (c *Client) actsFor(realm string) bool {
	same := func(r string) bool { return strings.EqualFold(r, realm) }
	return same(c.cfg.Principal.Realm) || slices.ContainsFunc(c.cfg.Realms, same)
}

// identify finds a user by the name that people have. KDCs either write the account's own name into the ticket or give the
// enterprise name back; then the ticket tells the account's name, under which it is asked for once more, since that is what
// services are to see.
func (c *Client) identify(ctx context.Context, tgt *credential, name Principal) (*User, error) {
	u, err := c.toSelf(ctx, tgt, name)
	if name.Enterprise && isElsewhere(err) {
		realm, found := c.realmOf(ctx, name)
		if !found || strings.EqualFold(realm, name.Realm) {
			return nil, err
		}
		if !c.actsFor(realm) {
			return nil, fmt.Errorf("%s is in %s: %w", name, clean(realm), ErrForeignUser)
		}
		name.Realm = realm
		u, err = c.toSelf(ctx, tgt, name)
	}
	if err != nil || !name.Enterprise || !sameName(u.cred.cname, name.wire()) {
		return u, err
	}
	if u.account == "" || strings.ContainsAny(u.account, "/@\x00") {
		return nil, fmt.Errorf("the KDC does not say which account %s is", name)
	}
	named, err := c.toSelf(ctx, tgt, Principal{Name: u.account, Realm: name.Realm})
	if err == nil && named.SID != u.SID {
		err = fmt.Errorf("the KDC says that %s is %s, and that this is %s", name, u.SID, named.SID)
	}
	return named, err
}

// Self asks the KDC who the account itself is, as it asks about others: the answer shows whether it may pass such tickets on.
func (c *Client) Self(ctx context.Context) (*User, error) {
	return withTGT(ctx, c, func(tgt *credential) (*User, error) {
		return c.toSelf(ctx, tgt, Principal{Name: strings.Join(tgt.cname.NameString, "/"), Realm: tgt.crealm})
	})
}

// TicketFor gives a ticket for a service in the name of a user (S4U2Proxy, MS-SFU), a kept one or the KDC's.
func (c *Client) TicketFor(ctx context.Context, u *User, spn string) (*Ticket, error) {
	if !u.forwardable {
		return nil, fmt.Errorf("%s: %w", u, ErrNoTransition)
	}
	key := strings.ToLower(u.Account.String() + "\x00" + spn)
	return c.delegated.Get(ctx, key, func(ctx context.Context) (*Ticket, error) {
		cr, err := withTGT(ctx, c, func(tgt *credential) (*credential, error) { return c.proxy(ctx, tgt, u, spn) })
		if staleTGT(err) { // the ticket to self is what the KDC no longer takes
			c.users.Drop(u.asked.key(), func(kept *User) bool { return kept == u })
		}
		if err != nil {
			return nil, err
		}
		return &Ticket{cred: cr, spn: spn, key: key, got: c.clock()}, nil
	})
}

// proxy is S4U2Proxy: the ticket to self becomes one for the service.
func (c *Client) proxy(ctx context.Context, tgt *credential, u *User, spn string) (*credential, error) {
	sname := types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: strings.Split(spn, "/")}
	body := c.body(c.cfg.Principal.Realm, types.PrincipalName{}, sname, c.conf.etypes())
	types.SetFlag(&body.KDCOptions, cnameInAddlTkt)
	body.AdditionalTickets = []messages.Ticket{u.cred.ticket}
	cr, _, err := c.exchangeFor(ctx, tgt, body, nil, StepProxy, spn)
	switch {
	case err != nil:
		return nil, err
	case isTGT(cr.ticket.SName) && !isTGT(sname):
		return nil, fmt.Errorf("%s: %w", spn, ErrForeignRealm)
	// The ticket must be the user's: anything else, the service account's own above all, would be a mix-up of identities.
	case !sameName(cr.cname, u.cred.cname) || !strings.EqualFold(cr.crealm, u.cred.crealm):
		return nil, fmt.Errorf("the KDC gave a ticket in the name of %s", clean(cr.cname.PrincipalNameString()))
	}
	return cr, nil
}

// toSelf is S4U2Self: a ticket in the user's name for the service account itself, which can open it.
func (c *Client) toSelf(ctx context.Context, tgt *credential, user Principal) (*User, error) {
	if !isTGT(tgt.ticket.SName) {
		return nil, ErrNoTGT
	}
	var r *selfReply
	var err error
	if home := tgt.ticket.SName.NameString[1]; strings.EqualFold(user.Realm, home) {
		r, err = c.askSelf(ctx, tgt, home, tgt.cname, user)
	} else {
		r, err = c.selfAcross(ctx, tgt, user)
	}
	if err != nil {
		return nil, err
	}
	cr := r.cred
	switch {
	case isTGT(cr.ticket.SName) || !strings.EqualFold(cr.crealm, user.Realm):
		return nil, fmt.Errorf("%s: %w", user, errReferred)
	case !user.Enterprise && !sameName(cr.cname, user.wire()):
		return nil, fmt.Errorf("the KDC gave a ticket in the name of %s instead of %s",
			clean(cr.cname.PrincipalNameString()), user)
	}
	says, err := c.openSelf(cr, tgt)
	if err != nil {
		return nil, fmt.Errorf("read what the KDC says of %s: %w", user, err)
	}
	return &User{
		Account: Principal{Name: strings.Join(cr.cname.NameString, "/"), Realm: cr.crealm},
		SID:     says.sid, UPN: says.upn, Groups: says.groups, Sensitive: says.sensitive,
		asked: user, account: says.account, cred: cr, forwardable: r.forwardable, got: c.clock(),
	}, nil
}

// selfReply is the answer to a request for a ticket to self: the ticket, or a TGT for a realm nearer to the service's.
type selfReply struct {
	cred        *credential
	forwardable bool
	// name is the user's in the KDC's own spelling; empty if the KDC does not tell.
	name types.PrincipalName
}

// askSelf asks one KDC for a ticket to self, naming the user in both ways: KDCs before the newer one, as Samba's, go by
// PA-FOR-USER, and Windows means to give that up (CVE-2026-20849).
func (c *Client) askSelf(ctx context.Context, tgt *credential, realm string, self types.PrincipalName, user Principal) (*selfReply, error) {
	body := c.body(realm, types.PrincipalName{}, self, c.conf.etypes())
	old, err := paForUser(user, tgt.key)
	if err != nil {
		return nil, fmt.Errorf("write the request in the user's name: %w", err)
	}
	pas := types.PADataSequence{old}
	if newer(tgt.key) {
		pa, err := paUser(user, tgt.key, body.Nonce)
		if err != nil {
			return nil, fmt.Errorf("write the request in the user's name: %w", err)
		}
		pas = append(pas, pa)
	}
	cr, rep, err := c.exchangeFor(ctx, tgt, body, pas, StepSelf, user.String())
	if err != nil {
		return nil, err
	}
	r := &selfReply{cred: cr, forwardable: types.IsFlagSet(&rep.part.Flags, flags.Forwardable)}
	if name, ok, err := answeredUser(rep.pas, tgt.key, body.Nonce); err != nil {
		return nil, err
	} else if ok {
		r.name = name
	}
	return r, nil
}

// exchangeFor is a TGS exchange whose answer is in another's name.
func (c *Client) exchangeFor(ctx context.Context, tgt *credential, body messages.KDCReqBody, pas types.PADataSequence, step Step,
	name string,
) (*credential, *answer, error) {
	req, err := c.tgsRequest(tgt, body)
	if err != nil {
		return nil, nil, err
	}
	req.PAData = append(req.PAData, pas...)
	b, err := req.Marshal()
	if err != nil {
		return nil, nil, fmt.Errorf("write the request for a service ticket: %w", err)
	}
	reply, err := c.ask(ctx, body.Realm, b)
	if err != nil {
		return nil, nil, err
	}
	if isKRBError(reply) {
		return nil, nil, parseKRBError(reply, step, name, c.clock())
	}
	return c.readTGS(reply, body, tgt)
}
