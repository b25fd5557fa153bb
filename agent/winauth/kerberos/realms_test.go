package kerberos

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/adtype"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/test/testdata"
	"github.com/jcmturner/gokrb5/v8/types"
)

// The domain controllers here answer as MS-SFU and MS-KILE have it, where the lab's Samba has one realm and ways of its own.

const (
	corp, emea, apac = "CORP.EXAMPLE", "EMEA.EXAMPLE", "APAC.EXAMPLE"
	delegator        = "svc" // of newClient, in corp
	delegatorsWord   = "password"
	api              = "HTTP/api.corp.example"
)

// forest is some realms that trust each other.
type forest struct {
	t      *testing.T
	realms map[string]*realm
	mu     sync.Mutex // guards asked
	asked  []string   // what each KDC was asked: "CORP.EXAMPLE self", in order
}

// A realm is a KDC. Its accounts' names have nine letters, which is what the PAC that is at hand has room for.
type realm struct {
	f      *forest
	name   string
	people []inhabitant
	toward map[string]string // realm: the one to which this one refers for it; else the realm itself
	upns   map[string]string // suffix of user principal names: the realm to which logons are referred
	old    bool              // knows PA-FOR-USER alone
	only   bool              // takes PA-S4U-X509-USER alone
	echo   bool              // writes names into tickets as they were asked for
	api    string            // SPN: where it is; "" is here
	twist  func(step string, r *messages.TGSRep, part *messages.EncKDCRepPart)
	lies   func(inhabitant) inhabitant // about who a person is
}

type inhabitant struct {
	name, upn string
	rid       uint32
}

func newForest(t *testing.T) *forest {
	f := &forest{t: t, realms: map[string]*realm{}}
	for _, name := range []string{corp, emea, apac} {
		f.realms[name] = &realm{f: f, name: name, toward: map[string]string{}, upns: map[string]string{}}
	}
	f.realms[corp].people = []inhabitant{{"annabrown", "anna@corp.example", 1201}, {"bobgreen1", "bob@corp.example", 1202}}
	f.realms[emea].people = []inhabitant{{"emilwhite", "emil@emea.example", 1301}, {"annabrown", "anna@emea.example", 1302}}
	f.realms[apac].people = []inhabitant{{"amyblack1", "amy@apac.example", 1401}}
	f.realms[corp].upns = map[string]string{"emea.example": emea, "apac.example": emea}
	f.realms[emea].upns = map[string]string{"apac.example": apac}
	f.realms[corp].toward[apac], f.realms[apac].toward[corp] = emea, emea // both trust emea alone
	return f
}

// client is the account that acts, with a fresh memory.
func (f *forest) client(realms ...string) *Client {
	f.t.Helper()
	conf, err := ParseConf([]byte("[libdefaults]\n default_realm = " + corp + "\n dns_lookup_kdc = false\n[realms]\n " +
		corp + " = {\n  kdc = corp\n }\n " + emea + " = {\n  kdc = emea\n }\n " + apac + " = {\n  kdc = apac\n }\n"))
	if err != nil {
		f.t.Fatal(err)
	}
	k := &kdc{reply: func(address string, msg []byte) []byte {
		name, _, _ := net.SplitHostPort(address)
		return f.realms[strings.ToUpper(name)+".EXAMPLE"].answer(msg)
	}}
	f.t.Cleanup(k.ended.Wait)
	c, err := New(Config{
		Conf: conf, Principal: Principal{Name: delegator, Realm: corp}, Dial: k.dial, Delegate: true, Realms: realms,
		Password: func() (string, error) { return delegatorsWord, nil },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *forest) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, what)
}

func (f *forest) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Errorf("the scripted KDC: %v", err)
	}
}

// key is one of AES-256 made from a text.
func key(text string) types.EncryptionKey {
	b := make([]byte, 32)
	copy(b, text)
	return types.EncryptionKey{KeyType: etypeID.AES256_CTS_HMAC_SHA1_96, KeyValue: b}
}

// keyOf is the key with which a ticket of realm r for sname is sealed.
func (r *realm) keyOf(sname types.PrincipalName) types.EncryptionKey {
	if !isTGT(sname) && sname.NameString[0] == delegator && r.name == corp {
		k, _, err := crypto.GetKeyFromPassword(delegatorsWord, types.PrincipalName{NameString: []string{delegator}}, corp, etypeID.AES256_CTS_HMAC_SHA1_96, nil)
		r.f.must(err)
		return k
	}
	return key(r.name + "/" + strings.Join(sname.NameString, "/"))
}

func (r *realm) refuse(code int32, crealm string) []byte {
	e := messages.NewKRBError(krbtgt(r.name), r.name, code, "")
	e.CRealm = crealm
	b, err := e.Marshal()
	r.f.must(err)
	return b
}

func (r *realm) answer(msg []byte) []byte {
	var as messages.ASReq
	if as.Unmarshal(msg) == nil {
		return r.logon(as)
	}
	var tgs messages.TGSReq
	if err := tgs.Unmarshal(msg); err != nil {
		r.f.must(err)
		return nil
	}
	return r.ticket(tgs)
}

// logon knows the delegator, who needs no pre-authentication here, and people, who do.
func (r *realm) logon(req messages.ASReq) []byte {
	name := strings.Join(req.ReqBody.CName.NameString, "/")
	if r.name == corp && name == delegator {
		now := time.Now().UTC()
		sealed, session := r.seal(krbtgt(corp), req.ReqBody.CName, corp, nil, true)
		part := messages.EncKDCRepPart{
			Key: session, Nonce: req.ReqBody.Nonce, Flags: types.NewKrbFlags(), AuthTime: now, EndTime: now.Add(time.Hour), SRealm: corp, SName: krbtgt(corp),
			LastReqs: []messages.LastReq{{LRValue: now}},
		}
		b, err := part.Marshal()
		r.f.must(err)
		own := types.PrincipalName{NameString: []string{delegator}}
		enc, err := crypto.GetEncryptedData(b, r.keyOf(own), keyusage.AS_REP_ENCPART, 1)
		r.f.must(err)
		rep := messages.ASRep{KDCRepFields: messages.KDCRepFields{
			PVNO: 5, MsgType: msgtype.KRB_AS_REP, CRealm: corp, CName: req.ReqBody.CName, Ticket: sealed, EncPart: enc,
		}}
		b, err = rep.Marshal()
		r.f.must(err)
		return b
	}
	r.f.note(r.name + " whose is " + name)
	if _, ok := r.person(name, ""); ok {
		return r.refuse(errorcode.KDC_ERR_PREAUTH_REQUIRED, "")
	}
	_, suffix, _ := strings.Cut(name, "@")
	if next := r.upns[strings.ToLower(suffix)]; next != "" {
		return r.refuse(errorcode.KDC_ERR_WRONG_REALM, next)
	}
	return r.refuse(errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN, "")
}

func (r *realm) person(name, crealm string) (inhabitant, bool) {
	i := slices.IndexFunc(r.people, func(p inhabitant) bool {
		return strings.EqualFold(p.upn, name) || crealm != "" && strings.EqualFold(crealm, r.name) && strings.EqualFold(p.name, name)
	})
	if i < 0 {
		return inhabitant{}, false
	}
	return r.people[i], true
}

// asks is what the padata of a request for a ticket to self say.
func (r *realm) asks(req messages.TGSReq, session types.EncryptionKey) (name types.PrincipalName, crealm string, newWay, asked bool) {
	for _, pa := range req.PAData {
		switch {
		case pa.PADataType == patype.PA_FOR_USER && !newWay:
			var u forUser
			_, err := asn1.Unmarshal(pa.PADataValue, &u)
			r.f.must(err)
			want, err := paForUser(Principal{Name: strings.Join(u.UserName.NameString, "/"), Realm: u.UserRealm, Enterprise: u.UserName.NameType == nametype.KRB_NT_ENTERPRISE}, session)
			r.f.must(err)
			if !bytes.Equal(want.PADataValue, pa.PADataValue) {
				r.f.t.Errorf("PA-FOR-USER is not bound to the session's key")
			}
			name, crealm, asked = u.UserName, u.UserRealm, true
		case pa.PADataType == patype.PA_FOR_X509_USER && !r.old:
			var u userPA
			_, err := asn1.Unmarshal(pa.PADataValue, &u)
			r.f.must(err)
			raw, err := asn1.Marshal(u.UserID)
			r.f.must(err)
			et, err := crypto.GetEtype(session.KeyType)
			r.f.must(err)
			if u.UserID.Nonce != req.ReqBody.Nonce || !et.VerifyChecksum(session.KeyValue, raw, u.Cksum.Checksum, usageUserRequest) {
				r.f.t.Errorf("PA-S4U-X509-USER is not bound to the request")
			}
			name, crealm, newWay, asked = u.UserID.CName, u.UserID.CRealm, true, true
		}
	}
	return name, crealm, newWay, asked
}

func (r *realm) ticket(req messages.TGSReq) []byte {
	i := slices.IndexFunc(req.PAData, func(p types.PAData) bool { return p.PADataType == patype.PA_TGS_REQ })
	var ap messages.APReq
	r.f.must(ap.Unmarshal(req.PAData[i].PADataValue))
	issuer := r.f.realms[ap.Ticket.Realm]
	if err := ap.Ticket.Decrypt(issuer.keyOf(ap.Ticket.SName)); err != nil || ap.Ticket.SName.NameString[1] != r.name {
		return r.refuse(errorcode.KRB_AP_ERR_NOT_US, "")
	}
	who := ap.Ticket.DecryptedEncPart
	sname := req.ReqBody.SName
	if name, crealm, newWay, asked := r.asks(req, who.Key); asked {
		r.f.note(r.name + " self")
		if r.only && !newWay {
			return r.refuse(errorcode.KDC_ERR_PADATA_TYPE_NOSUPP, "")
		}
		return r.self(req, who, name, crealm, newWay)
	}
	if types.IsFlagSet(&req.ReqBody.KDCOptions, cnameInAddlTkt) {
		r.f.note(r.name + " proxy")
		evidence := req.ReqBody.AdditionalTickets[0]
		r.f.must(evidence.Decrypt(r.keyOf(types.PrincipalName{NameString: []string{delegator}})))
		if r.api != "" {
			sname = krbtgt(r.api)
		}
		p := evidence.DecryptedEncPart
		return r.reply("proxy", req, who.Key, sname, p.CName, p.CRealm, p.AuthorizationData, nil)
	}
	r.f.note(r.name + " ticket for " + strings.Join(sname.NameString, "/"))
	if isTGT(sname) && r.toward[sname.NameString[1]] != "" {
		sname = krbtgt(r.toward[sname.NameString[1]])
	}
	return r.reply("service", req, who.Key, sname, who.CName, who.CRealm, nil, nil)
}

// self is S4U2Self: of one's own people with their PAC, of others with that in the TGT by which one is asked.
func (r *realm) self(req messages.TGSReq, who messages.EncTicketPart, name types.PrincipalName, crealm string, newWay bool) []byte {
	text := strings.Join(name.NameString, "/")
	pac := who.AuthorizationData
	if p, ok := r.person(text, crealm); ok && len(pac) == 0 {
		if r.lies != nil {
			p = r.lies(p)
		}
		pac = authorization(r.f.t, p)
		if !r.echo {
			name = types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: []string{p.name}}
		}
	} else if len(pac) == 0 {
		return r.refuse(errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN, "")
	}
	var pas types.PADataSequence
	if newWay {
		pas = append(pas, named(r.f.t, name, crealm, req.ReqBody.Nonce, who.Key))
	}
	service := strings.Join(req.ReqBody.SName.NameString, "/")
	if r.name == corp {
		if service != delegator {
			return r.refuse(errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN, "")
		}
		return r.reply("self", req, who.Key, req.ReqBody.SName, name, crealm, pac, pas)
	}
	_, home, ok := strings.Cut(service, "@")
	if !ok || req.ReqBody.SName.NameType != nametype.KRB_NT_ENTERPRISE {
		return r.refuse(errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN, "")
	}
	next := home
	if r.toward[home] != "" {
		next = r.toward[home]
	}
	return r.reply("referral", req, who.Key, krbtgt(next), who.CName, who.CRealm, pac, pas)
}

// named is the PA-S4U-X509-USER of an answer.
func named(t *testing.T, name types.PrincipalName, crealm string, nonce int, session types.EncryptionKey) types.PAData {
	t.Helper()
	pa := userPA{UserID: userID{Nonce: nonce, CName: name, CRealm: crealm, Options: asn1.BitString{Bytes: []byte{0x20, 0, 0, 0}, BitLength: 32}}}
	raw, err := asn1.Marshal(pa.UserID)
	if err != nil {
		t.Error(err)
	}
	et, err := crypto.GetEtype(session.KeyType)
	if err != nil {
		t.Error(err)
	}
	sum, err := et.GetChecksumHash(session.KeyValue, raw, usageUserReply)
	if err != nil {
		t.Error(err)
	}
	pa.Cksum = types.Checksum{CksumType: et.GetHashID(), Checksum: sum}
	b, err := asn1.Marshal(pa)
	if err != nil {
		t.Error(err)
	}
	return types.PAData{PADataType: patype.PA_FOR_X509_USER, PADataValue: b}
}

func (r *realm) seal(sname, cname types.PrincipalName, crealm string, pac types.AuthorizationData, forwardable bool) (messages.Ticket, types.EncryptionKey) {
	et, err := crypto.GetEtype(etypeID.AES256_CTS_HMAC_SHA1_96)
	r.f.must(err)
	session, err := types.GenerateEncryptionKey(et)
	r.f.must(err)
	now := time.Now().UTC()
	part := messages.EncTicketPart{
		Flags: types.NewKrbFlags(), Key: session, CRealm: crealm, CName: cname, AuthTime: now, EndTime: now.Add(time.Hour), AuthorizationData: pac,
	}
	if forwardable {
		types.SetFlag(&part.Flags, flags.Forwardable)
	}
	b, err := asn1.Marshal(part)
	r.f.must(err)
	enc, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(b, asnAppTag.EncTicketPart), r.keyOf(sname), keyusage.KDC_REP_TICKET, 1)
	r.f.must(err)
	return messages.Ticket{TktVNO: 5, Realm: r.name, SName: sname, EncPart: enc}, session
}

func (r *realm) reply(step string, req messages.TGSReq, session types.EncryptionKey, sname, cname types.PrincipalName, crealm string,
	pac types.AuthorizationData, pas types.PADataSequence,
) []byte {
	sealed, fresh := r.seal(sname, cname, crealm, pac, true)
	now := time.Now().UTC()
	part := messages.EncKDCRepPart{
		Key: fresh, Nonce: req.ReqBody.Nonce, Flags: types.NewKrbFlags(), AuthTime: now, EndTime: now.Add(time.Hour), SRealm: r.name, SName: sname,
		LastReqs: []messages.LastReq{{LRValue: now}},
	}
	types.SetFlag(&part.Flags, flags.Forwardable)
	rep := messages.TGSRep{KDCRepFields: messages.KDCRepFields{
		PVNO: 5, MsgType: msgtype.KRB_TGS_REP, CRealm: crealm, CName: cname, Ticket: sealed, PAData: pas,
	}}
	if r.twist != nil {
		r.twist(step, &rep, &part)
	}
	b, err := part.Marshal()
	r.f.must(err)
	rep.EncPart, err = crypto.GetEncryptedData(b, session, keyusage.TGS_REP_ENCPART_SESSION_KEY, 0)
	r.f.must(err)
	b, err = rep.Marshal()
	r.f.must(err)
	return b
}

// authorization is a person's PAC, made of one that a domain controller of Windows has given for somebody else.
func authorization(t *testing.T, p inhabitant) types.AuthorizationData {
	t.Helper()
	info, err := hex.DecodeString(testdata.MarshaledPAC_Kerb_Validation_Info)
	if err != nil {
		t.Fatal(err)
	}
	const userID, were = 120, "testuser1" // MS-PAC section 2.5, behind the headers of NDR
	if binary.LittleEndian.Uint32(info[userID:]) != 1105 || len(p.name) != len(were) {
		t.Fatalf("the PAC at hand has changed, or %s has not %d letters", p.name, len(were))
	}
	binary.LittleEndian.PutUint32(info[userID:], p.rid)
	info = bytes.ReplaceAll(info, wide(were), wide(p.name))
	upn := wide(p.upn)
	dns := append(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, uint16(len(upn))), 4), upn...)
	pac := binary.LittleEndian.AppendUint64(nil, 2) // two buffers, version 0
	at := 8 + 2*16
	pac = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(pac, pacLogon), uint32(len(info)))
	pac = binary.LittleEndian.AppendUint64(pac, uint64(at))
	pac = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(pac, pacUPN), uint32(len(dns)))
	pac = binary.LittleEndian.AppendUint64(pac, uint64(at+len(info)))
	pac = append(append(pac, info...), dns...)
	inner, err := asn1.Marshal(types.AuthorizationData{{ADType: adtype.ADWin2KPAC, ADData: pac}})
	if err != nil {
		t.Fatal(err)
	}
	return types.AuthorizationData{{ADType: adtype.ADIfRelevant, ADData: inner}}
}

func wide(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func upn(s string) Principal { return Principal{Name: s, Realm: corp, Enterprise: true} }

// TestNamesThatKDCsWrite: however a KDC writes names, the account's own is what the ticket for the service has.
func TestNamesThatKDCsWrite(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*realm){
		"its own, and says so":          func(*realm) {},
		"as asked for":                  func(r *realm) { r.echo = true },
		"its own, by PA-FOR-USER":       func(r *realm) { r.old = true },
		"as asked for, by PA-FOR-USER":  func(r *realm) { r.old, r.echo = true, true },
		"its own, PA-FOR-USER given up": func(r *realm) { r.only = true },
		"as asked for, the same":        func(r *realm) { r.only, r.echo = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForest(t)
			set(f.realms[corp])
			c := f.client()
			u, err := c.User(t.Context(), upn("Anna@corp.example"))
			if err != nil {
				t.Fatal(err)
			}
			if u.Account.String() != "annabrown@"+corp || u.UPN != "anna@corp.example" || !strings.HasSuffix(u.SID, "-1201") || !u.Delegable() {
				t.Errorf("%s, %s, %s", u, u.UPN, u.SID)
			}
			ticket, err := c.TicketFor(t.Context(), u, api)
			if err != nil || ticket.cred.cname.PrincipalNameString() != "annabrown" {
				t.Errorf("%v, %v", ticket, err)
			}
			if _, err := c.User(t.Context(), upn("nobody@corp.example")); !isElsewhere(err) {
				t.Errorf("nobody: %v", err)
			}
		})
	}
}

// TestPeopleOfOtherRealms: they are found by the KDCs' referrals, and their ticket comes back from realm to realm.
func TestPeopleOfOtherRealms(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*forest){
		"names of their own": func(*forest) {},
		"names as asked for": func(f *forest) {
			for _, r := range f.realms {
				r.echo = true
			}
		},
		"PA-FOR-USER alone": func(f *forest) {
			for _, r := range f.realms {
				r.old = true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForest(t)
			set(f)
			c := f.client(emea, apac)
			for who, want := range map[string]string{"emil@emea.example": "emilwhite@EMEA.EXAMPLE", "amy@apac.example": "amyblack1@APAC.EXAMPLE", "anna@emea.example": "annabrown@EMEA.EXAMPLE"} {
				u, err := c.User(t.Context(), upn(who))
				if err != nil {
					t.Errorf("%s: %v", who, err)
					continue
				}
				if u.Account.String() != want || u.UPN != who {
					t.Errorf("%s: %s, %s", who, u, u.UPN)
				}
				ticket, err := c.TicketFor(t.Context(), u, api)
				if err != nil || ticket.cred.cname.PrincipalNameString()+"@"+ticket.cred.crealm != want {
					t.Errorf("%s: %v, %v", who, ticket, err)
				}
			}
			before := len(f.asked)
			if _, err := c.User(t.Context(), upn("amy@apac.example")); err != nil || len(f.asked) != before {
				t.Errorf("asked again: %v, %v", f.asked[before:], err)
			}
		})
	}
	f := newForest(t)
	if _, err := f.client(emea, apac).User(t.Context(), upn("amy@apac.example")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		corp + " self", corp + " whose is amy@apac.example", emea + " whose is amy@apac.example", apac + " whose is amy@apac.example",
		corp + " ticket for krbtgt/" + apac, emea + " ticket for krbtgt/" + apac, apac + " self", emea + " self", corp + " self",
	}
	if !slices.Equal(f.asked, want) {
		t.Errorf("the way was %q, want %q", f.asked, want)
	}
}

// TestRealmsThatAreNotMeant: nobody of a realm that is not named is acted for, whoever refers there.
func TestRealmsThatAreNotMeant(t *testing.T) {
	t.Parallel()
	f := newForest(t)
	c := f.client(emea)
	if _, err := c.User(t.Context(), upn("amy@apac.example")); !errors.Is(err, ErrForeignUser) || !strings.Contains(err.Error(), apac) {
		t.Errorf("amy: %v", err)
	}
	if _, err := f.client().User(t.Context(), upn("emil@emea.example")); !errors.Is(err, ErrForeignUser) {
		t.Errorf("emil: %v", err)
	}
	if _, err := c.User(t.Context(), Principal{Name: "amyblack1", Realm: apac}); !errors.Is(err, ErrForeignUser) {
		t.Errorf("amyblack1: %v", err)
	}
	if slices.ContainsFunc(f.asked, func(s string) bool { return strings.HasPrefix(s, apac+" self") }) {
		t.Errorf("apac was asked for a ticket: %q", f.asked)
	}
}

// TestKDCsThatMislead: an answer for another question, another person or without end is refused.
func TestKDCsThatMislead(t *testing.T) {
	t.Parallel()
	bob := types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: []string{"bobgreen1"}}
	for name, c := range map[string]struct {
		set  func(*forest)
		who  Principal
		says string
	}{
		"another account's name": {func(f *forest) {
			f.realms[corp].twist = func(step string, r *messages.TGSRep, _ *messages.EncKDCRepPart) {
				if step == "self" {
					r.CName = bob
				}
			}
		}, Principal{Name: "annabrown", Realm: corp}, "in the name of bobgreen1"},
		"another nonce": {func(f *forest) {
			f.realms[corp].twist = func(_ string, _ *messages.TGSRep, p *messages.EncKDCRepPart) { p.Nonce++ }
		}, upn("anna@corp.example"), "another question"},
		"PA-S4U-X509-USER that nobody vouches for": {func(f *forest) {
			f.realms[corp].twist = func(_ string, r *messages.TGSRep, _ *messages.EncKDCRepPart) {
				if len(r.PAData) > 0 {
					r.PAData[0].PADataValue = bytes.ReplaceAll(r.PAData[0].PADataValue, []byte("annabrown"), []byte("bobgreen1"))
				}
			}
		}, upn("anna@corp.example"), "names the user wrongly"},
		"one SID for the name and another for the account": {func(f *forest) {
			n := uint32(0)
			f.realms[corp].echo = true
			f.realms[corp].lies = func(p inhabitant) inhabitant { n++; p.rid += n; return p }
		}, upn("anna@corp.example"), "and that this is"},
		"no account's name": {func(f *forest) {
			f.realms[corp].echo = true
			f.realms[corp].lies = func(p inhabitant) inhabitant { p.name = "a@b/c=123"; return p }
		}, upn("anna@corp.example"), "does not say which account"},
		"a circle back":  {func(f *forest) { f.realms[emea].toward[corp], f.realms[apac].toward[corp] = apac, emea }, upn("emil@emea.example"), "in a circle"},
		"a circle there": {func(f *forest) { f.realms[corp].toward[apac], f.realms[emea].toward[apac] = emea, corp }, upn("amy@apac.example"), "without end"},
		"a circle of names": {func(f *forest) {
			f.realms[emea].upns["apac.example"] = corp
		}, upn("amy@apac.example"), "UNKNOWN"},
		"a realm that nobody can reach": {func(f *forest) {
			f.realms[corp].toward[emea] = "NOWHERE.EXAMPLE"
		}, upn("emil@emea.example"), "NOWHERE.EXAMPLE"},
		"a ticket from abroad": {func(f *forest) {
			f.realms[emea].twist = func(step string, r *messages.TGSRep, p *messages.EncKDCRepPart) {
				if step == "referral" {
					abroad := types.PrincipalName{NameType: nametype.KRB_NT_ENTERPRISE, NameString: []string{delegator + "@" + corp}}
					r.Ticket.SName, p.SName = abroad, abroad
				}
			}
		}, upn("emil@emea.example"), "none of its accounts"},
		"another realm's person": {func(f *forest) {
			f.realms[corp].twist = func(step string, r *messages.TGSRep, _ *messages.EncKDCRepPart) {
				if step == "self" {
					r.CRealm = apac
				}
			}
		}, upn("emil@emea.example"), "refers to another realm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForest(t)
			c.set(f)
			u, err := f.client(emea, apac).User(t.Context(), c.who)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v; want %q", u, err, c.says)
			}
			if len(f.asked) > 4*maxReferrals {
				t.Errorf("%d questions: %q", len(f.asked), f.asked)
			}
		})
	}
}

// TestTicketsThatLeadAway: constrained delegation ends at the realm's border, and never in another's name.
func TestTicketsThatLeadAway(t *testing.T) {
	t.Parallel()
	f := newForest(t)
	c := f.client()
	u, err := c.User(t.Context(), upn("anna@corp.example"))
	if err != nil {
		t.Fatal(err)
	}
	f.realms[corp].api = emea
	if _, err := c.TicketFor(t.Context(), u, "HTTP/api.emea.example"); !errors.Is(err, ErrForeignRealm) {
		t.Errorf("a service of another realm: %v", err)
	}
	f.realms[corp].api = ""
	f.realms[corp].twist = func(step string, r *messages.TGSRep, _ *messages.EncKDCRepPart) {
		if step == "proxy" {
			r.CName = types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: []string{delegator}}
		}
	}
	if _, err := c.TicketFor(t.Context(), u, api); err == nil || !strings.Contains(err.Error(), "in the name of "+delegator) {
		t.Errorf("the account's own name: %v", err)
	}
}

// TestReferralsEndWithTheirContext: a realm that does not answer holds nobody up.
func TestReferralsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	f := newForest(t)
	c := f.client(emea)
	through := c.dial
	c.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "emea") {
			<-ctx.Done()
			return nil, fmt.Errorf("dial: %w", ctx.Err())
		}
		return through(ctx, network, address)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if u, err := c.User(ctx, upn("emil@emea.example")); err == nil {
		t.Errorf("%v was found", u)
	}
}
