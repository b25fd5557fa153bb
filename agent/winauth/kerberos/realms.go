package kerberos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// errReferred: the KDC refers to another realm, where nobody has looked for the user yet.
const errReferred delegationError = "the KDC refers to another realm"

// isElsewhere says that a user whom a realm does not know may be one of another.
func isElsewhere(err error) bool {
	k, ok := errors.AsType[*KDCError](err)
	return ok && (k.Code == errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN || k.Code == errorcode.KDC_ERR_WRONG_REALM) || errors.Is(err, errReferred)
}

// realmOf finds the realm of an enterprise name: KDCs are asked for its TGT, without any proof and so without a failed logon,
// and refer to each other (MS-SFU section 3.1.5.1.1.2, RFC 6806 section 4). Nobody vouches for the answers: the realm has to be
// one of those that are acted for, and its KDCs have to know the user.
func (c *Client) realmOf(ctx context.Context, name Principal) (realm string, found bool) {
	realm = name.Realm
	for range maxReferrals {
		req := messages.ASReq{KDCReqFields: messages.KDCReqFields{
			PVNO: iana.PVNO, MsgType: msgtype.KRB_AS_REQ, ReqBody: c.body(realm, name.wire(), krbtgt(realm), c.conf.etypes()),
		}}
		reply, err := c.askAS(ctx, realm, req)
		if err == nil {
			return realm, len(reply) > 0 // an account that needs no pre-authentication
		}
		k, ok := errors.AsType[*KDCError](err)
		switch {
		case ok && k.Code == errorcode.KDC_ERR_PREAUTH_REQUIRED:
			return realm, true
		case !ok || k.Code != errorcode.KDC_ERR_WRONG_REALM || k.CRealm == "" || k.CRealm == realm:
			c.log.Debug("no realm has this name", "name", name.String(), "realm", realm, "error", err)
			return "", false
		}
		realm = k.CRealm
	}
	return "", false
}

// selfAcross is S4U2Self for a user of another realm: with a TGT for that realm, the KDCs there give one that has the user's
// PAC, and so from realm to realm back to the account's own, which gives the ticket (MS-SFU section 3.1.5.1.1).
func (c *Client) selfAcross(ctx context.Context, tgt *credential, user Principal) (*selfReply, error) {
	home := tgt.ticket.SName.NameString[1]
	hop, err := c.service(ctx, tgt, krbtgt(user.Realm))
	if err != nil {
		return nil, fmt.Errorf("the way to %s: %w", clean(user.Realm), err)
	}
	// Realms other than the account's own know it by its full name alone.
	abroad := types.PrincipalName{NameType: nametype.KRB_NT_ENTERPRISE, NameString: []string{strings.Join(tgt.cname.NameString, "/") + "@" + tgt.crealm}}
	var path []string
	for range maxReferrals {
		realm := hop.ticket.SName.NameString[1]
		if slices.Contains(path, realm) {
			return nil, fmt.Errorf("the way back from %s: the realms refer to each other in a circle (%s)", clean(user.Realm), clean(strings.Join(append(path, realm), ", ")))
		}
		path = append(path, realm)
		self := abroad
		if realm == home {
			self = tgt.cname
		}
		r, err := c.askSelf(ctx, hop, realm, self, user)
		if err != nil {
			return nil, fmt.Errorf("by way of %s: %w", clean(strings.Join(path, ", ")), err)
		}
		if !isTGT(r.cred.ticket.SName) {
			if realm != home {
				return nil, fmt.Errorf("%s gave a ticket to %s, which is none of its accounts", clean(realm), clean(strings.Join(self.NameString, "/")))
			}
			return r, nil
		}
		if len(r.name.NameString) > 0 {
			// From here on it goes by the name in that KDC's spelling.
			user = Principal{Name: strings.Join(r.name.NameString, "/"), Realm: user.Realm, Enterprise: r.name.NameType == nametype.KRB_NT_ENTERPRISE}
		}
		hop = r.cred
	}
	return nil, fmt.Errorf("the way back from %s: the realms refer to each other without end", clean(user.Realm))
}
