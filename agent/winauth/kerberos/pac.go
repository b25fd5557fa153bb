package kerberos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/iana/adtype"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/pac"
	"github.com/jcmturner/gokrb5/v8/types"
)

const (
	// pacLogon is the buffer KERB_VALIDATION_INFO (MS-PAC section 2.4).
	pacLogon = 1
	// pacUPN is the buffer UPN_DNS_INFO (MS-PAC section 2.10).
	pacUPN = 12
	// maxPACBuffers bounds the buffers of a PAC; there are about a dozen kinds.
	maxPACBuffers = 64
	// maxGroups bounds the groups of one person: Windows itself takes 1,015.
	maxGroups = 4096
	// notDelegated is USER_NOT_DELEGATED among UserAccountControl (MS-SAMR section 2.2.1.12).
	notDelegated = 0x4000
)

// said is what a PAC says of a person.
type said struct {
	sid       string
	account   string // sAMAccountName
	upn       string // "" if the PAC does not tell
	groups    []string
	sensitive bool
}

// openSelf decrypts a ticket to self with the account's own key and reads its PAC (MS-PAC). Only the KDC and the account know
// that key, so what the ticket says is the KDC's word.
func (c *Client) openSelf(cr, tgt *credential) (*said, error) {
	key, err := c.ownKey(cr.ticket.EncPart, tgt)
	if err != nil {
		return nil, err
	}
	var part messages.EncTicketPart
	if err := open(cr.ticket.EncPart, key, keyusage.KDC_REP_TICKET, part.Unmarshal); err != nil {
		return nil, fmt.Errorf("decrypt the ticket with the account's own key: %w", err)
	}
	var out *said
	err = guard("the ticket's PAC", func() (err error) {
		for _, a := range part.AuthorizationData {
			if a.ADType != adtype.ADIfRelevant {
				continue
			}
			var inner types.AuthorizationData
			if _, err := asn1.Unmarshal(a.ADData, &inner); err != nil {
				return err
			}
			for _, b := range inner {
				if b.ADType == adtype.ADWin2KPAC {
					out, err = parsePAC(b.ADData)
					return err
				}
			}
		}
		return errors.New("the ticket has no PAC")
	})
	return out, err
}

// ownKey gives the account's key with which the KDC has encrypted a ticket to the account.
func (c *Client) ownKey(sealed types.EncryptedData, tgt *credential) (types.EncryptionKey, error) {
	m, err := c.load()
	if err != nil {
		return types.EncryptionKey{}, err
	}
	o := offer{etype: sealed.EType}
	if i := slices.IndexFunc(tgt.offers, func(x offer) bool { return x.etype == o.etype }); i >= 0 {
		o = tgt.offers[i]
	} else if i := slices.IndexFunc(tgt.offers, func(x offer) bool { return x.salted }); i >= 0 {
		o.salt, o.salted = tgt.offers[i].salt, true // an account has one salt for all types that have any
	}
	return m.key(c.cfg.Principal, o)
}

// parsePAC reads account and groups out of a PAC.
func parsePAC(b []byte) (*said, error) {
	info, err := pacBuffer(b, pacLogon)
	if err != nil {
		return nil, err
	}
	var k pac.KerbValidationInfo
	if err := guard("the PAC's logon information", func() error { return k.Unmarshal(info) }); err != nil {
		return nil, err
	}
	groups := len(k.GroupIDs) + len(k.ExtraSIDs) + len(k.ResourceGroupIDs)
	if k.UserID == 0 || k.LogonDomainID.SubAuthorityCount == 0 || groups > maxGroups {
		return nil, errors.New("the PAC names no account, or too many groups")
	}
	out := &said{account: k.EffectiveName.Value, sensitive: k.UserAccountControl&notDelegated != 0}
	domain := k.LogonDomainID.String()
	out.sid = fmt.Sprintf("%s-%d", domain, k.UserID)
	for _, g := range k.GroupIDs {
		out.groups = append(out.groups, fmt.Sprintf("%s-%d", domain, g.RelativeID))
	}
	for _, s := range k.ExtraSIDs {
		out.groups = append(out.groups, s.SID.String())
	}
	if resource := k.ResourceGroupDomainSID; resource.SubAuthorityCount > 0 {
		for _, g := range k.ResourceGroupIDs {
			out.groups = append(out.groups, fmt.Sprintf("%s-%d", resource.String(), g.RelativeID))
		}
	}
	if b, err := pacBuffer(b, pacUPN); err == nil {
		out.upn = upnOf(b)
	}
	slices.Sort(out.groups)
	out.groups = slices.Compact(out.groups)
	return out, nil
}

// upnOf reads the user principal name of UPN_DNS_INFO.
func upnOf(b []byte) string {
	if len(b) < 4 {
		return ""
	}
	n, at := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
	if n%2 != 0 || at+n > len(b) {
		return ""
	}
	units := make([]uint16, 0, n/2)
	for b = b[at : at+n]; len(b) > 0; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// pacBuffer finds a buffer of a PACTYPE (MS-PAC section 2.3).
func pacBuffer(b []byte, kind uint32) ([]byte, error) {
	const head, entry = 8, 16
	if len(b) < head {
		return nil, errors.New("the PAC is too short")
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxPACBuffers || len(b) < head+int(n)*entry {
		return nil, errors.New("the PAC's list of buffers is too long")
	}
	for i := range int(n) {
		e := b[head+i*entry:]
		size, at := uint64(binary.LittleEndian.Uint32(e[4:])), binary.LittleEndian.Uint64(e[8:])
		if binary.LittleEndian.Uint32(e) != kind {
			continue
		}
		if at > uint64(len(b)) || size > uint64(len(b))-at {
			return nil, errors.New("a buffer of the PAC lies outside of it")
		}
		return b[at : at+size], nil
	}
	return nil, fmt.Errorf("the PAC has no buffer of type %d", kind)
}
