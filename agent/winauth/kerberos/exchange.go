package kerberos

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// maxReferrals bounds the way from realm to realm: a forest's longest path is a handful.
const maxReferrals = 6

func krbtgt(realm string) types.PrincipalName {
	return types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", realm}}
}

func (c *Client) body(realm string, cname, sname types.PrincipalName, etypes []int32) messages.KDCReqBody {
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails
	b := messages.KDCReqBody{
		KDCOptions: types.NewKrbFlags(),
		CName:      cname,
		Realm:      realm,
		SName:      sname,
		Till:       c.clock().UTC().Add(c.conf.parsed.LibDefaults.TicketLifetime),
		Nonce:      int(binary.BigEndian.Uint32(nonce[:]) & 0x7fffffff), // Active Directory takes it for signed
		EType:      etypes,
	}
	// Canonicalize lets the KDC map a UPN to its account and refer to other realms. Never proxiable; forwardable only where
	// the KDC demands it of one who asks in a user's name. No TGT is ever forwarded.
	types.SetFlag(&b.KDCOptions, flags.Canonicalize)
	if c.cfg.Delegate {
		types.SetFlag(&b.KDCOptions, flags.Forwardable)
	}
	return b
}

// proveAccount is the AS exchange, through the realms to which the KDC refers.
func (c *Client) proveAccount(ctx context.Context, m *material) (*credential, error) {
	realm := c.cfg.Principal.Realm
	for range maxReferrals {
		tgt, err := c.authenticate(ctx, realm, m)
		k, ok := errors.AsType[*KDCError](err)
		if !ok || k.Code != errorcode.KDC_ERR_WRONG_REALM || k.CRealm == "" || k.CRealm == realm {
			return tgt, err
		}
		realm = k.CRealm
	}
	return nil, fmt.Errorf("logon of %s: the realms refer to each other without end", c.cfg.Principal)
}

func (c *Client) authenticate(ctx context.Context, realm string, m *material) (*credential, error) {
	p := c.cfg.Principal
	etypes := m.etypes(p, c.conf.etypes())
	if len(etypes) == 0 {
		return nil, fmt.Errorf("%w: %s in %s", ErrNoKey, p, c.cfg.Keytab)
	}
	req := messages.ASReq{KDCReqFields: messages.KDCReqFields{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_AS_REQ,
		ReqBody: c.body(realm, p.wire(), krbtgt(realm), etypes),
	}}
	reply, err := c.askAS(ctx, realm, req)
	k, ok := errors.AsType[*KDCError](err)
	var hints []byte
	if ok && k.Code == errorcode.KDC_ERR_PREAUTH_REQUIRED {
		hints = k.edata
		if req.PAData, err = c.preauth(k, m, etypes); err != nil {
			return nil, err
		}
		reply, err = c.askAS(ctx, realm, req)
	}
	if k, ok := errors.AsType[*KDCError](err); ok {
		k.KVNO = m.kvno
	}
	if err != nil {
		return nil, err
	}
	tgt, err := c.openAS(reply, req.ReqBody, m)
	if err == nil {
		tgt.offers = append(tgt.offers, hinted(hints)...)
	}
	return tgt, err
}

func (c *Client) askAS(ctx context.Context, realm string, req messages.ASReq) ([]byte, error) {
	b, err := req.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write the logon request: %w", err)
	}
	reply, err := c.ask(ctx, realm, b)
	if err == nil && isKRBError(reply) {
		err = parseKRBError(reply, StepLogon, c.cfg.Principal.Name, c.clock())
	}
	return reply, err
}

// preauth answers the KDC's demand for PA-ENC-TIMESTAMP (RFC 4120 section 5.2.7.2).
func (c *Client) preauth(k *KDCError, m *material, etypes []int32) (types.PADataSequence, error) {
	var pas types.PADataSequence
	if err := guard("the KDC's list of pre-authentications", func() error { return pas.Unmarshal(k.edata) }); err != nil {
		return nil, err
	}
	for _, o := range offers(pas) {
		if !slices.Contains(etypes, o.etype) {
			continue
		}
		key, err := m.key(c.cfg.Principal, o)
		if err != nil {
			return nil, err
		}
		now := c.stamp()
		plain, err := asn1.Marshal(types.PAEncTSEnc{PATimestamp: now, PAUSec: now.Nanosecond() / 1000})
		if err != nil {
			return nil, err
		}
		sealed, err := crypto.GetEncryptedData(plain, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, m.kvno)
		if err != nil {
			return nil, err
		}
		b, err := sealed.Marshal()
		if err != nil {
			return nil, err
		}
		return types.PADataSequence{{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: b}}, nil
	}
	return nil, &KDCError{
		Step: StepLogon, Code: errorcode.KDC_ERR_ETYPE_NOSUPP, Realm: k.Realm, Name: k.Name,
		Text: "the KDC offers no encryption type that is allowed here",
	}
}

// openAS decrypts and checks an AS-REP (RFC 4120 section 3.1.5).
func (c *Client) openAS(reply []byte, asked messages.KDCReqBody, m *material) (*credential, error) {
	var rep messages.ASRep
	if err := guard("the KDC's answer", func() error { return rep.Unmarshal(reply) }); err != nil {
		return nil, err
	}
	o, all := offer{etype: rep.EncPart.EType}, offers(rep.PAData)
	for _, x := range all {
		if x.etype == o.etype {
			o = x
		}
	}
	if !slices.Contains(asked.EType, o.etype) {
		return nil, fmt.Errorf("the KDC answered with encryption type %d, which was not asked for", o.etype)
	}
	key, err := m.key(c.cfg.Principal, o)
	if err != nil {
		return nil, err
	}
	var part messages.EncKDCRepPart
	err = open(rep.EncPart, key, keyusage.AS_REP_ENCPART, part.Unmarshal)
	if err != nil { // only the KDC of an account without pre-authentication gets here with a wrong secret
		return nil, &KDCError{
			Step: StepLogon, Code: errorcode.KDC_ERR_PREAUTH_FAILED, Realm: asked.Realm, Name: c.cfg.Principal.Name,
			Text: "the KDC's answer cannot be decrypted", KVNO: m.kvno,
		}
	}
	if err := c.checkPart(part, asked); err != nil {
		return nil, err
	}
	if !sameName(part.SName, asked.SName) && !isTGT(part.SName) {
		return nil, fmt.Errorf("the KDC's answer is for %s", clean(part.SName.PrincipalNameString()))
	}
	return &credential{
		ticket: rep.Ticket, key: part.Key, cname: rep.CName, crealm: rep.CRealm, start: part.AuthTime, end: part.EndTime,
		offers: all,
	}, nil
}

// open decrypts and reads. The library's ciphers index into what is too short.
func open(d types.EncryptedData, key types.EncryptionKey, usage uint32, read func([]byte) error) error {
	if d.EType != key.KeyType {
		return fmt.Errorf("encryption type %d instead of %d", d.EType, key.KeyType)
	}
	return guard("the encrypted part", func() error {
		plain, err := crypto.DecryptEncPart(d, key, usage)
		if err != nil {
			return err
		}
		return read(plain)
	})
}

func (c *Client) checkPart(part messages.EncKDCRepPart, asked messages.KDCReqBody) error {
	if part.Nonce != asked.Nonce {
		return errors.New("the KDC's answer belongs to another question (nonce)")
	}
	if !c.clock().Before(part.EndTime) {
		return fmt.Errorf("the KDC's ticket has ended already, at %s by its clock", part.EndTime.Format(time.RFC3339))
	}
	return nil
}

func isTGT(n types.PrincipalName) bool { return len(n.NameString) == 2 && n.NameString[0] == "krbtgt" }

func sameName(a, b types.PrincipalName) bool {
	return strings.EqualFold(strings.Join(a.NameString, "/"), strings.Join(b.NameString, "/"))
}

// service is the TGS exchange, along the KDCs' referrals to the service's realm (RFC 6806 section 8).
func (c *Client) service(ctx context.Context, tgt *credential, sname types.PrincipalName) (*credential, error) {
	if !isTGT(tgt.ticket.SName) {
		return nil, ErrNoTGT // a damaged credential cache
	}
	realm := tgt.ticket.SName.NameString[1]
	for range maxReferrals {
		cr, err := c.askTGS(ctx, realm, tgt, sname)
		if err != nil {
			return nil, err
		}
		if !isTGT(cr.ticket.SName) || sameName(cr.ticket.SName, sname) {
			return cr, nil
		}
		tgt, realm = cr, cr.ticket.SName.NameString[1]
	}
	return nil, fmt.Errorf("ticket for %s: the realms refer to each other without end", sname.PrincipalNameString())
}

func (c *Client) askTGS(ctx context.Context, realm string, tgt *credential, sname types.PrincipalName) (*credential, error) {
	req, err := c.tgsRequest(tgt, c.body(realm, types.PrincipalName{}, sname, c.conf.etypes()))
	if err != nil {
		return nil, err
	}
	b, err := req.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write the request for a service ticket: %w", err)
	}
	reply, err := c.ask(ctx, realm, b)
	if err != nil {
		return nil, err
	}
	if isKRBError(reply) {
		return nil, parseKRBError(reply, StepService, strings.Join(sname.NameString, "/"), c.clock())
	}
	return c.openTGS(reply, req.ReqBody, tgt)
}

func (c *Client) tgsRequest(tgt *credential, body messages.KDCReqBody) (messages.TGSReq, error) {
	req := messages.TGSReq{KDCReqFields: messages.KDCReqFields{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_TGS_REQ, ReqBody: body,
	}}
	pa, err := c.tgsAuthenticator(tgt, &req.ReqBody)
	if err != nil {
		return req, fmt.Errorf("write the request for a service ticket: %w", err)
	}
	req.PAData = types.PADataSequence{{PADataType: patype.PA_TGS_REQ, PADataValue: pa}}
	return req, nil
}

// tgsAuthenticator is the PA-TGS-REQ: the TGT and an authenticator over the body (RFC 4120 section 5.2.7.1).
func (c *Client) tgsAuthenticator(tgt *credential, body *messages.KDCReqBody) ([]byte, error) {
	raw, err := body.Marshal()
	if err != nil {
		return nil, err
	}
	et, err := crypto.GetEtype(tgt.key.KeyType)
	if err != nil {
		return nil, err
	}
	check, err := et.GetChecksumHash(tgt.key.KeyValue, raw, keyusage.TGS_REQ_PA_TGS_REQ_AP_REQ_AUTHENTICATOR_CHKSUM)
	if err != nil {
		return nil, err
	}
	auth := c.authenticator(tgt, types.Checksum{CksumType: et.GetHashID(), Checksum: check})
	ap, err := messages.NewAPReq(tgt.ticket, tgt.key, auth)
	if err != nil {
		return nil, err
	}
	return ap.Marshal()
}

func (c *Client) authenticator(cr *credential, sum types.Checksum) types.Authenticator {
	now := c.stamp()
	var seq [4]byte
	_, _ = rand.Read(seq[:]) // never fails
	return types.Authenticator{
		AVNO: iana.PVNO, CRealm: cr.crealm, CName: cr.cname, Cksum: sum,
		CTime: now.Truncate(time.Second), Cusec: now.Nanosecond() / 1000,
		// Below 2^30: some implementations read it as signed and 30 bits (RFC 4121 leaves the first number free).
		SeqNumber: int64(binary.BigEndian.Uint32(seq[:]) & 0x3fffffff),
	}
}

// openTGS opens an answer that must be in the name of the TGT's owner.
func (c *Client) openTGS(reply []byte, asked messages.KDCReqBody, tgt *credential) (*credential, error) {
	cr, _, err := c.readTGS(reply, asked, tgt)
	if err == nil && (!sameName(cr.cname, tgt.cname) || cr.crealm != tgt.crealm) {
		return nil, errors.New("the KDC's answer contradicts itself")
	}
	return cr, err
}

// answer is what a TGS-REP says beside the ticket.
type answer struct {
	part messages.EncKDCRepPart
	pas  types.PADataSequence // not encrypted
}

// readTGS decrypts and checks a TGS-REP, but not in whose name it is.
func (c *Client) readTGS(reply []byte, asked messages.KDCReqBody, tgt *credential) (*credential, *answer, error) {
	var rep messages.TGSRep
	if err := guard("the KDC's answer", func() error { return rep.Unmarshal(reply) }); err != nil {
		return nil, nil, err
	}
	var part messages.EncKDCRepPart
	if err := open(rep.EncPart, tgt.key, keyusage.TGS_REP_ENCPART_SESSION_KEY, part.Unmarshal); err != nil {
		return nil, nil, fmt.Errorf("the KDC's answer cannot be decrypted: %w", err)
	}
	if err := c.checkPart(part, asked); err != nil {
		return nil, nil, err
	}
	if !sameName(part.SName, asked.SName) && !isTGT(part.SName) {
		return nil, nil, fmt.Errorf("the KDC gave a ticket for %s", clean(part.SName.PrincipalNameString()))
	}
	if !sameName(part.SName, rep.Ticket.SName) {
		return nil, nil, errors.New("the KDC's answer contradicts itself")
	}
	return &credential{
		ticket: rep.Ticket, key: part.Key, cname: rep.CName, crealm: rep.CRealm, start: part.AuthTime, end: part.EndTime,
	}, &answer{part: part, pas: rep.PAData}, nil
}
