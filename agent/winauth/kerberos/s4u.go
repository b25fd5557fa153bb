package kerberos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/crypto/rfc4757"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

const (
	// cnameInAddlTkt is the KDC option of S4U2Proxy (MS-SFU section 2.2.3).
	cnameInAddlTkt = 14
	// hmacMD5 and usageForUser are the checksum of PA-FOR-USER, whatever the type of the key (MS-SFU section 2.2.1).
	hmacMD5      = -138
	usageForUser = 17
)

// Errors of delegation. Each names its mend.
var (
	// ErrNoTransition: the ticket to self is not forwardable.
	ErrNoTransition = errors.New("the ticket in the user's name cannot be passed on: either the service account lacks " +
		"\"Trust this user for delegation to specified services only\" with \"Use any authentication protocol\", " +
		"or the user is marked \"Account is sensitive and cannot be delegated\" or is in Protected Users")
	// ErrNotCanonical: the KDC gave the enterprise name back instead of the account's.
	ErrNotCanonical = errors.New("the KDC does not map a UPN to its account: name the account itself")
	// ErrForeignRealm: the way leads to another realm.
	ErrForeignRealm = errors.New("delegation across realms is not supported: the user and the service must be in the " +
		"realm of the service account")
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

// TicketFor gives a ticket for a service in the name of a user whose identity the caller of this function has proved:
// S4U2Self, then S4U2Proxy (MS-SFU). The Client needs Config.Delegate. Nothing is cached.
func (c *Client) TicketFor(ctx context.Context, user Principal, spn string) (*Ticket, error) {
	if !c.cfg.Delegate {
		return nil, errors.New("kerberos: the account is not set up here for delegation")
	}
	if !strings.EqualFold(user.Realm, c.cfg.Principal.Realm) {
		return nil, fmt.Errorf("%s: %w", user, ErrForeignRealm)
	}
	for again := false; ; again = true {
		tgt, err := c.logon(ctx)
		if err != nil {
			return nil, err
		}
		cr, err := c.delegate(ctx, tgt, user, spn)
		if err == nil {
			return &Ticket{cred: cr, spn: spn, got: c.clock()}, nil
		}
		if again || !staleTGT(err) {
			return nil, err
		}
		c.dropTGT(tgt)
	}
}

func (c *Client) delegate(ctx context.Context, tgt *credential, user Principal, spn string) (*credential, error) {
	if !isTGT(tgt.ticket.SName) {
		return nil, ErrNoTGT
	}
	self, err := c.toSelf(ctx, tgt, user)
	if err != nil {
		return nil, err
	}
	sname := types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: strings.Split(spn, "/")}
	body := c.body(c.cfg.Principal.Realm, types.PrincipalName{}, sname, c.conf.etypes())
	types.SetFlag(&body.KDCOptions, cnameInAddlTkt)
	body.AdditionalTickets = []messages.Ticket{self.ticket}
	cr, _, err := c.exchangeFor(ctx, tgt, body, nil, StepProxy, spn)
	if err != nil {
		if k, ok := errors.AsType[*KDCError](err); ok && k.Code == errorcode.KDC_ERR_BADOPTION {
			return nil, fmt.Errorf("%s may not act for users towards %s: add it to the account's "+
				"msDS-AllowedToDelegateTo: %w", c.cfg.Principal, spn, err)
		}
		return nil, err
	}
	if isTGT(cr.ticket.SName) && !isTGT(sname) {
		return nil, fmt.Errorf("%s: %w", spn, ErrForeignRealm)
	}
	// The ticket must be the user's: anything else, the service account's own above all, would be a mix-up of identities.
	if !sameName(cr.cname, self.cname) || !strings.EqualFold(cr.crealm, self.crealm) {
		return nil, fmt.Errorf("the KDC gave a ticket in the name of %s", clean(cr.cname.PrincipalNameString()))
	}
	return cr, nil
}

// toSelf is S4U2Self: a ticket in the user's name for the service account itself.
func (c *Client) toSelf(ctx context.Context, tgt *credential, user Principal) (*credential, error) {
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
	case !forwardable:
		return nil, fmt.Errorf("%s: %w", user, ErrNoTransition)
	}
	return cr, nil
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
