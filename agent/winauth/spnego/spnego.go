// Package spnego reads and writes the tokens of SPNEGO (RFC 4178) as they stand in HTTP's Negotiate scheme (RFC 4559).
//
// It is a codec, not a negotiation: which mechanism to offer and when a MIC is due is decided in package winauth.
// Lengths are checked as DER demands; what RFC 4178 allows to be absent may be absent.
package spnego

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"math"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Mech is a mechanism's object identifier in dotted form.
type Mech string

// The mechanisms of Windows authentication.
const (
	Kerberos   Mech = "1.2.840.113554.1.2.2"
	MSKerberos Mech = "1.2.840.48018.1.2.2" // the same with a digit lost in Windows 2000; still sent and accepted
	NTLM       Mech = "1.3.6.1.4.1.311.2.2.10"
)

// IsKerberos says whether m is Kerberos under either of its names.
func (m Mech) IsKerberos() bool { return m == Kerberos || m == MSKerberos }

// State is the negState of a NegTokenResp.
type State int

// The states. Absent is this package's word for a token without one, which RFC 4178 allows.
const (
	Accepted   State = 0
	Incomplete State = 1
	Rejected   State = 2
	RequestMIC State = 3
	Absent     State = -1
)

// maxToken bounds a token; Windows limits its own to 64 kB (MaxTokenSize 65535), and HTTP headers are smaller still.
const maxToken = 256 << 10

// maxMechs bounds the list of mechanisms.
const maxMechs = 32

// Init is a NegTokenInit, the initiator's first token.
type Init struct {
	Mechs []Mech
	Token []byte // the optimistic token of Mechs[0]
	MIC   []byte
	// RawMechs is the DER of the list as it was sent, over which the mechListMIC goes. Filled in by ParseInit.
	RawMechs []byte
}

// Resp is a NegTokenResp, every token after the first.
type Resp struct {
	State State
	Mech  Mech // "" if absent
	Token []byte
	MIC   []byte
}

var (
	tagApp0      = cbasn1.Tag(0).Constructed() | 0x40
	errMalformed = errors.New("spnego: the token cannot be read")
	spnegoOID    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}
)

func ctx(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

func (m Mech) oid() (asn1.ObjectIdentifier, error) {
	var out asn1.ObjectIdentifier
	n, digits := int64(0), 0
	for _, c := range string(m) + "." {
		switch {
		case c >= '0' && c <= '9' && digits < 10:
			n, digits = n*10+int64(c-'0'), digits+1
		case c == '.' && digits > 0 && n <= math.MaxInt32: // what encoding/asn1 and cryptobyte read
			out, n, digits = append(out, int(n)), 0, 0
		default:
			return nil, fmt.Errorf("spnego: %q is no object identifier", string(m))
		}
	}
	return out, nil
}

// MechList gives the DER of a list of mechanisms, over which the mechListMIC goes.
func MechList(mechs []Mech) ([]byte, error) {
	var b cryptobyte.Builder
	addMechs(&b, mechs)
	return b.Bytes()
}

func addMechs(b *cryptobyte.Builder, mechs []Mech) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, m := range mechs {
			oid, err := m.oid()
			if err != nil {
				b.SetError(err)
				return
			}
			b.AddASN1ObjectIdentifier(oid)
		}
	})
}

// Marshal writes the token with its GSS-API frame (RFC 2743 section 3.1).
func (t Init) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tagApp0, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(spnegoOID)
		b.AddASN1(ctx(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(ctx(0), func(b *cryptobyte.Builder) { addMechs(b, t.Mechs) })
				addOctets(b, 2, t.Token)
				addOctets(b, 3, t.MIC)
			})
		})
	})
	return b.Bytes()
}

// Marshal writes the token.
func (t Resp) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(ctx(1), func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if t.State != Absent {
				b.AddASN1(ctx(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(t.State)) })
			}
			if t.Mech != "" {
				oid, err := t.Mech.oid()
				if err != nil {
					b.SetError(err)
					return
				}
				b.AddASN1(ctx(1), func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
			}
			addOctets(b, 2, t.Token)
			addOctets(b, 3, t.MIC)
		})
	})
	return b.Bytes()
}

func addOctets(b *cryptobyte.Builder, tag uint8, v []byte) {
	if v != nil {
		b.AddASN1(ctx(tag), func(b *cryptobyte.Builder) { b.AddASN1OctetString(v) })
	}
}

// IsInit says whether b looks like a token with a GSS-API frame, IsResp whether like a NegTokenResp.
func IsInit(b []byte) bool { return len(b) > 0 && b[0] == 0x60 }

// IsResp says whether b looks like a NegTokenResp.
func IsResp(b []byte) bool { return len(b) > 0 && b[0] == 0xa1 }

// Frame puts the GSS-API frame of a mechanism around its inner token.
func Frame(m Mech, inner []byte) ([]byte, error) {
	oid, err := m.oid()
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(tagApp0, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddBytes(inner)
	})
	return b.Bytes()
}

// Unframe takes the GSS-API frame off a token.
func Unframe(b []byte) (Mech, []byte, error) {
	s := cryptobyte.String(b)
	var body cryptobyte.String
	var oid asn1.ObjectIdentifier
	if len(b) > maxToken || !s.ReadASN1(&body, tagApp0) || !s.Empty() || !body.ReadASN1ObjectIdentifier(&oid) {
		return "", nil, errMalformed
	}
	return Mech(oid.String()), body, nil
}

// ParseInit reads an initiator's first token.
func ParseInit(b []byte) (Init, error) {
	mech, inner, err := Unframe(b)
	if err != nil {
		return Init{}, err
	}
	if string(mech) != spnegoOID.String() {
		return Init{}, fmt.Errorf("spnego: the frame names mechanism %s", mech)
	}
	s := cryptobyte.String(inner)
	var choice, seq, field, list cryptobyte.String
	if !s.ReadASN1(&choice, ctx(0)) || !s.Empty() || !choice.ReadASN1(&seq, cbasn1.SEQUENCE) || !choice.Empty() ||
		!seq.ReadASN1(&field, ctx(0)) {
		return Init{}, errMalformed
	}
	t := Init{RawMechs: append([]byte{}, field...)}
	if !field.ReadASN1(&list, cbasn1.SEQUENCE) || !field.Empty() {
		return Init{}, errMalformed
	}
	for !list.Empty() {
		var oid asn1.ObjectIdentifier
		if len(t.Mechs) == maxMechs || !list.ReadASN1ObjectIdentifier(&oid) {
			return Init{}, errMalformed
		}
		t.Mechs = append(t.Mechs, Mech(oid.String()))
	}
	if !skipOptional(&seq, 1) || !readOctets(&seq, 2, &t.Token) {
		return Init{}, errMalformed
	}
	// NegTokenInit2 of MS-SPNG has negHints at 3 and the MIC at 4: hints have no meaning in HTTP.
	if seq.PeekASN1Tag(ctx(3)) {
		probe := seq
		if !readOctets(&probe, 3, &t.MIC) {
			t.MIC = nil
			if !skipOptional(&seq, 3) {
				return Init{}, errMalformed
			}
		} else {
			seq = probe
		}
	}
	if !readOctets(&seq, 4, &t.MIC) || !seq.Empty() || len(t.Mechs) == 0 {
		return Init{}, errMalformed
	}
	return t, nil
}

// ParseResp reads any later token.
func ParseResp(b []byte) (Resp, error) {
	s := cryptobyte.String(b)
	var choice, seq cryptobyte.String
	if len(b) > maxToken || !s.ReadASN1(&choice, ctx(1)) || !s.Empty() ||
		!choice.ReadASN1(&seq, cbasn1.SEQUENCE) || !choice.Empty() {
		return Resp{}, errMalformed
	}
	t := Resp{State: Absent}
	var field cryptobyte.String
	var has bool
	if !seq.ReadOptionalASN1(&field, &has, ctx(0)) {
		return Resp{}, errMalformed
	}
	if has {
		var state int
		if !field.ReadASN1Enum(&state) || !field.Empty() || state < 0 || state > int(RequestMIC) {
			return Resp{}, errMalformed
		}
		t.State = State(state)
	}
	if !seq.ReadOptionalASN1(&field, &has, ctx(1)) {
		return Resp{}, errMalformed
	}
	if has {
		var oid asn1.ObjectIdentifier
		if !field.ReadASN1ObjectIdentifier(&oid) || !field.Empty() {
			return Resp{}, errMalformed
		}
		t.Mech = Mech(oid.String())
	}
	if !readOctets(&seq, 2, &t.Token) || !readOctets(&seq, 3, &t.MIC) || !seq.Empty() {
		return Resp{}, errMalformed
	}
	return t, nil
}

func skipOptional(s *cryptobyte.String, tag uint8) bool {
	var field cryptobyte.String
	var has bool
	return s.ReadOptionalASN1(&field, &has, ctx(tag))
}

func readOctets(s *cryptobyte.String, tag uint8, to *[]byte) bool {
	var field, v cryptobyte.String
	var has bool
	if !s.ReadOptionalASN1(&field, &has, ctx(tag)) {
		return false
	}
	if !has {
		return true
	}
	if !field.ReadASN1(&v, cbasn1.OCTET_STRING) || !field.Empty() {
		return false
	}
	*to = append([]byte{}, v...)
	return true
}
