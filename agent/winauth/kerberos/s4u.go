package kerberos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/crypto/rfc4757"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

const (
	// userAge is how old the KDC's word about a person may get: then groups and account are asked for again.
	userAge = time.Hour
	// cnameInAddlTkt is the KDC option of S4U2Proxy (MS-SFU section 2.2.3).
	cnameInAddlTkt = 14
	// hmacMD5 and usageForUser are the checksum of PA-FOR-USER, whatever the type of the key (MS-SFU section 2.2.1).
	hmacMD5      = -138
	usageForUser = 17
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
	// ErrNotCanonical: the KDC gave the enterprise name back instead of the account's.
	ErrNotCanonical delegationError = "the KDC does not map a UPN to its account"
	// ErrForeignRealm: the way leads to another realm.
	ErrForeignRealm delegationError = "delegation across realms is not supported: the user and the service must be in the " +
		"realm of the service account"
)

// The exchanges of delegation.
const (
	StepSelf  Step = "ticket in the user's name" // S4U2Self
	StepProxy Step = "delegation"                // S4U2Proxy
)

// forUser is PA-FOR-USER-ENC (MS-SFU section 2.2.1).
type forUser struct {
	UserName    types.PrincipalName `asn1:"explicit,tag:0"`
	UserRealm   string              `asn1:"generalstring,explicit,tag:1"`
	Cksum       types.Checksum      `asn1:"explicit,tag:2"`
	AuthPackage string              `asn1:"generalstring,explicit,tag:3"`
}

// paForUser binds the user's name to the session key of the TGT.
func paForUser(user Principal, key types.EncryptionKey) (types.PAData, error) {
	const pkg = "Kerberos"
	name := user.wire()
	data := binary.LittleEndian.AppendUint32(nil, uint32(name.NameType))
	data = append(data, strings.Join(name.NameString, "")+user.Realm+pkg...)
	sum, err := rfc4757.Checksum(key.KeyValue, usageForUser, data)
	if err != nil {
		return types.PAData{}, err
	}
	b, err := asn1.Marshal(forUser{
		UserName: name, UserRealm: user.Realm, AuthPackage: pkg,
		Cksum: types.Checksum{CksumType: hmacMD5, Checksum: sum},
	})
	return types.PAData{PADataType: patype.PA_FOR_USER, PADataValue: b}, err
}

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
// and longer while no KDC answers. The Client needs Config.Delegate.
func (c *Client) User(ctx context.Context, name Principal) (*User, error) {
	switch {
	case !c.cfg.Delegate:
		return nil, errors.New("kerberos: the account is not set up here for delegation")
	case !strings.EqualFold(name.Realm, c.cfg.Principal.Realm):
		return nil, fmt.Errorf("%s: %w", name, ErrForeignRealm)
	}
	return c.users.Get(ctx, name.key(), func(ctx context.Context) (*User, error) {
		return withTGT(ctx, c, func(tgt *credential) (*User, error) { return c.toSelf(ctx, tgt, name) })
	})
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
	pa, err := paForUser(user, tgt.key)
	if err != nil {
		return nil, fmt.Errorf("write the request in the user's name: %w", err)
	}
	body := c.body(c.cfg.Principal.Realm, types.PrincipalName{}, tgt.cname, c.conf.etypes())
	cr, forwardable, err := c.exchangeFor(ctx, tgt, body, &pa, StepSelf, user.String())
	if err != nil {
		return nil, err
	}
	switch {
	case isTGT(cr.ticket.SName) || !strings.EqualFold(cr.crealm, user.Realm):
		return nil, fmt.Errorf("%s: %w", user, ErrForeignRealm)
	case user.Enterprise && sameName(cr.cname, user.wire()):
		return nil, fmt.Errorf("%s: %w", user, ErrNotCanonical)
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
		asked: user, cred: cr, forwardable: forwardable, got: c.clock(),
	}, nil
}

// exchangeFor is a TGS exchange whose answer is in another's name. It says whether the ticket is forwardable.
func (c *Client) exchangeFor(ctx context.Context, tgt *credential, body messages.KDCReqBody, pa *types.PAData, step Step,
	name string,
) (*credential, bool, error) {
	req, err := c.tgsRequest(tgt, body)
	if err != nil {
		return nil, false, err
	}
	if pa != nil {
		req.PAData = append(req.PAData, *pa)
	}
	b, err := req.Marshal()
	if err != nil {
		return nil, false, fmt.Errorf("write the request for a service ticket: %w", err)
	}
	reply, err := c.ask(ctx, body.Realm, b)
	if err != nil {
		return nil, false, err
	}
	if isKRBError(reply) {
		return nil, false, parseKRBError(reply, step, name, c.clock())
	}
	cr, part, err := c.readTGS(reply, body, tgt)
	if err != nil {
		return nil, false, err
	}
	return cr, types.IsFlagSet(&part.Flags, flags.Forwardable), nil
}
