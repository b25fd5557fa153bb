package kerberos

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"sallyport/agent/winauth/ntlm"
)

// maxIterations bounds the work that a KDC may ask for to turn a password into a key. Active Directory uses 4,096, the
// SHA-2 types 32,768.
const maxIterations = 1 << 20

// maxOffers bounds a KDC's list of encryption types.
const maxOffers = 32

// A Principal is a Kerberos name.
type Principal struct {
	Name  string // "svc", "HTTP/host" or, with Enterprise, a UPN
	Realm string
	// Enterprise says that Name is a UPN, which the KDC maps to the account (RFC 6806 section 5).
	Enterprise bool
}

// String writes the name as people do: an enterprise name has its domain in it.
func (p Principal) String() string {
	if p.Enterprise {
		return p.Name
	}
	return p.Name + "@" + p.Realm
}

func (p Principal) wire() types.PrincipalName {
	if p.Enterprise {
		return types.PrincipalName{NameType: nametype.KRB_NT_ENTERPRISE, NameString: []string{p.Name}}
	}
	return types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: strings.Split(p.Name, "/")}
}

// material is the secret for one logon: a password or a keytab, read afresh each time, so that a changed one counts at
// once. print tells one secret from another without being one.
type material struct {
	password string
	keytab   *keytab.Keytab
	print    [32]byte
	kvno     int // of the keytab's key last used
}

func (c *Client) load() (*material, error) {
	if c.cfg.Password != nil {
		p, err := c.cfg.Password()
		if err != nil {
			return nil, fmt.Errorf("get the password of %s: %w", c.cfg.Principal, err)
		}
		return &material{password: p, print: c.fingerprint([]byte(p))}, nil
	}
	kt, raw, err := loadKeytab(c.cfg.Keytab)
	if err != nil {
		return nil, err
	}
	return &material{keytab: kt, print: c.fingerprint(raw)}, nil
}

func (c *Client) fingerprint(secret []byte) [32]byte {
	return sha256.Sum256(append(append([]byte{}, c.salt[:]...), secret...))
}

func loadKeytab(path string) (*keytab.Keytab, []byte, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the keytab: %w", err)
	}
	kt := keytab.New()
	if err := guard("the keytab", func() error { return kt.Unmarshal(raw) }); err != nil {
		return nil, nil, fmt.Errorf("read the keytab %s: %w", path, err)
	}
	return kt, raw, nil
}

// KeytabPrincipal gives the first principal of a keytab: who it is when nobody says.
func KeytabPrincipal(path string) (Principal, error) {
	kt, _, err := loadKeytab(path)
	if err != nil {
		return Principal{}, err
	}
	if len(kt.Entries) == 0 {
		return Principal{}, fmt.Errorf("the keytab %s is empty", path)
	}
	p := kt.Entries[0].Principal
	return Principal{Name: strings.Join(p.Components, "/"), Realm: p.Realm}, nil
}

// KeytabHas says whether a keytab has any key of a principal.
func KeytabHas(path string, p Principal) (bool, error) {
	kt, _, err := loadKeytab(path)
	if err != nil {
		return false, err
	}
	return len((&material{keytab: kt}).etypes(p, []int32{
		etypeID.AES256_CTS_HMAC_SHA384_192, etypeID.AES128_CTS_HMAC_SHA256_128,
		etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA1_96, etypeID.RC4_HMAC,
	})) > 0, nil
}

// etypes cuts a list down to what the material has keys for.
func (m *material) etypes(p Principal, all []int32) []int32 {
	if m.keytab == nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(e int32) bool {
		_, err := m.keytabKey(p, e)
		return err != nil
	})
}

// keytabKey gives the newest key of an encryption type.
func (m *material) keytabKey(p Principal, etype int32) (types.EncryptionKey, error) {
	var key types.EncryptionKey
	newest := -1
	for _, e := range m.keytab.Entries {
		if e.Key.KeyType == etype && strings.EqualFold(e.Principal.Realm, p.Realm) &&
			strings.EqualFold(strings.Join(e.Principal.Components, "/"), p.Name) && int(e.KVNO) > newest {
			key, newest = e.Key, int(e.KVNO)
		}
	}
	if newest < 0 {
		return key, ErrNoKey
	}
	m.kvno = newest
	return key, nil
}

// key gives the key for what the KDC offers.
func (m *material) key(p Principal, o offer) (types.EncryptionKey, error) {
	if m.keytab != nil {
		return m.keytabKey(p, o.etype)
	}
	if o.etype == etypeID.RC4_HMAC { // the library's is wrong beyond ASCII
		h := ntlm.HashOf(m.password)
		return types.EncryptionKey{KeyType: o.etype, KeyValue: h[:]}, nil
	}
	et, err := crypto.GetEtype(o.etype)
	if err != nil {
		return types.EncryptionKey{}, err
	}
	params := et.GetDefaultStringToKeyParams()
	if len(o.params) > 0 {
		if len(o.params) != 4 || binary.BigEndian.Uint32(o.params) > maxIterations {
			return types.EncryptionKey{}, errors.New("the KDC asks for an absurd amount of work on the password")
		}
		params = fmt.Sprintf("%08x", o.params)
	}
	salt := o.salt
	if !o.salted {
		salt = p.wire().GetSalt(p.Realm)
	}
	k, err := et.StringToKey(m.password, salt, params)
	return types.EncryptionKey{KeyType: o.etype, KeyValue: k}, err
}

// An offer is an entry of ETYPE-INFO2 (RFC 4120 section 5.2.7.5).
type offer struct {
	etype  int32
	salt   string
	salted bool
	params []byte
}

// offers reads ETYPE-INFO2 out of a reply's or an error's PA-DATA.
func offers(pas types.PADataSequence) []offer {
	var out []offer
	for _, pa := range pas {
		if pa.PADataType != patype.PA_ETYPE_INFO2 {
			continue
		}
		var list types.ETypeInfo2
		if guard("ETYPE-INFO2", func() error { return list.Unmarshal(pa.PADataValue) }) != nil {
			continue
		}
		for _, e := range list[:min(len(list), maxOffers)] {
			out = append(out, offer{etype: e.EType, salt: e.Salt, salted: e.Salt != "", params: e.S2KParams})
		}
	}
	return out
}

// hinted reads the offers of a demand for pre-authentication.
func hinted(edata []byte) []offer {
	var pas types.PADataSequence
	if len(edata) == 0 || guard("the KDC's list", func() error { return pas.Unmarshal(edata) }) != nil {
		return nil
	}
	return offers(pas)
}

// credential is a ticket with its session key: a TGT or a service ticket.
type credential struct {
	ticket messages.Ticket
	key    types.EncryptionKey
	cname  types.PrincipalName
	crealm string
	start  time.Time
	end    time.Time
	offers []offer // of a TGT: how the KDC makes keys of the account's password
}

// loadCache reads a credential cache and gives whose it is and its tickets.
func loadCache(path string) (*credentials.CCache, error) {
	raw, err := readFile(strings.TrimPrefix(path, "FILE:"))
	if err != nil {
		return nil, fmt.Errorf("read the credential cache: %w", err)
	}
	cc := new(credentials.CCache)
	if err := guard("the credential cache", func() error { return cc.Unmarshal(raw) }); err != nil {
		return nil, fmt.Errorf("read the credential cache %s: %w", path, err)
	}
	return cc, nil
}

// CachePrincipal gives the owner of a credential cache.
func CachePrincipal(path string) (Principal, error) {
	if kind, _, ok := strings.Cut(path, ":"); ok && kind != "FILE" && len(kind) > 1 && kind == strings.ToUpper(kind) { // C: is a drive
		return Principal{}, fmt.Errorf("credential caches of kind %s cannot be read: use a FILE", kind)
	}
	cc, err := loadCache(path)
	if err != nil {
		return Principal{}, err
	}
	return Principal{
		Name:  strings.Join(cc.GetClientPrincipalName().NameString, "/"),
		Realm: cc.GetClientRealm(),
	}, nil
}

// fromCache gives the ticket for sname out of the credential cache.
func (c *Client) fromCache(sname types.PrincipalName) (*credential, error) {
	cc, err := loadCache(c.cfg.CCache)
	if err != nil {
		return nil, err
	}
	owner := Principal{Name: strings.Join(cc.GetClientPrincipalName().NameString, "/"), Realm: cc.GetClientRealm()}
	if owner != c.cfg.Principal {
		return nil, fmt.Errorf("%w: %s instead of %s", ErrOtherOwner, owner, c.cfg.Principal)
	}
	want := strings.Join(sname.NameString, "/")
	for _, e := range cc.GetEntries() {
		if !strings.EqualFold(strings.Join(e.Server.PrincipalName.NameString, "/"), want) || !c.clock().Before(e.EndTime) {
			continue
		}
		cr := &credential{
			key: e.Key, cname: cc.GetClientPrincipalName(), crealm: cc.GetClientRealm(), start: e.AuthTime, end: e.EndTime,
		}
		if err := guard("a ticket of the credential cache", func() error { return cr.ticket.Unmarshal(e.Ticket) }); err != nil {
			return nil, err
		}
		return cr, nil
	}
	return nil, ErrNoTGT
}
