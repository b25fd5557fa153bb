// Package ntlm is NTLMv2 as MS-NLMP has it: the three messages, the initiator that answers a challenge, and an acceptor
// that makes challenges and truly verifies the answers.
//
// It never speaks LM or NTLMv1, and no OEM code pages: a side that cannot do NTLMv2 in Unicode is refused. It opens no
// connection; HTTP and SPNEGO framing belong to the packages winauth, spnego and gate.
//
// Initiator: NewClient, then Negotiate and Authenticate. Acceptor: a Verifier, then Challenge and Session.Verify.
package ntlm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// Flags are the NEGOTIATE flags of MS-NLMP section 2.2.2.5.
type Flags uint32

// The flags that this package reads or writes.
const (
	FlagUnicode      Flags = 0x00000001
	FlagTarget       Flags = 0x00000004 // the acceptor shall name itself
	FlagSign         Flags = 0x00000010
	FlagSeal         Flags = 0x00000020
	FlagNTLM         Flags = 0x00000200
	FlagAnonymous    Flags = 0x00000800
	FlagAlwaysSign   Flags = 0x00008000
	FlagTargetDomain Flags = 0x00010000
	FlagTargetServer Flags = 0x00020000
	FlagExtended     Flags = 0x00080000 // extended session security
	FlagTargetInfo   Flags = 0x00800000
	FlagVersion      Flags = 0x02000000
	Flag128          Flags = 0x20000000
	FlagKeyExchange  Flags = 0x40000000
	Flag56           Flags = 0x80000000
)

// Signature starts each NTLM message; it tells a raw NTLM token from a SPNEGO one.
const Signature = "NTLMSSP\x00"

const (
	typeNegotiate    = 1
	typeChallenge    = 2
	typeAuthenticate = 3
)

// maxMessage bounds a message: an AUTHENTICATE message with a large target info is about 1 kB.
const maxMessage = 64 << 10

// version is the VERSION structure (section 2.2.2.10): Windows 10, NTLM revision 15. It is informative, but gss-ntlmssp
// refuses a NEGOTIATE message without it.
var version = [8]byte{10, 0, 0x61, 0x4a, 0, 0, 0, 15}

var errShort = errors.New("ntlm: message is cut off")

// Challenge is the acceptor's CHALLENGE message (type 2).
type Challenge struct {
	Flags      Flags
	TargetName string
	Nonce      [8]byte
	TargetInfo Pairs
}

// Authenticate is the initiator's AUTHENTICATE message (type 3).
type Authenticate struct {
	Flags            Flags
	LMResponse       []byte
	NTResponse       []byte
	Domain           string
	User             string
	Workstation      string
	EncryptedSession []byte
	MIC              [16]byte
	HasMIC           bool // the MIC field is there; whether it counts is said by MsvAvFlags in the response
}

func header(b []byte, want uint32) error {
	if len(b) > maxMessage {
		return fmt.Errorf("ntlm: message of %d bytes is too long", len(b))
	}
	if len(b) < 12 {
		return errShort
	}
	if string(b[:8]) != Signature {
		return errors.New("ntlm: no NTLMSSP signature")
	}
	if got := binary.LittleEndian.Uint32(b[8:]); got != want {
		return fmt.Errorf("ntlm: message type %d where %d was due", got, want)
	}
	return nil
}

// field reads the (length, room, offset) triple at b[at:] and gives what it points to.
func field(b []byte, at int) ([]byte, error) {
	if len(b) < at+8 {
		return nil, errShort
	}
	n := int(binary.LittleEndian.Uint16(b[at:]))
	off := uint64(binary.LittleEndian.Uint32(b[at+4:]))
	if n == 0 {
		return nil, nil
	}
	if off+uint64(n) > uint64(len(b)) {
		return nil, errShort
	}
	return b[off : off+uint64(n)], nil
}

// ParseNegotiate reads a NEGOTIATE message (type 1) and gives its flags. Domain and workstation are hints in an OEM
// code page and are passed over.
func ParseNegotiate(b []byte) (Flags, error) {
	if err := header(b, typeNegotiate); err != nil {
		return 0, err
	}
	if len(b) < 16 {
		return 0, errShort
	}
	return Flags(binary.LittleEndian.Uint32(b[12:])), nil
}

// ParseChallenge reads a CHALLENGE message (type 2).
func ParseChallenge(b []byte) (*Challenge, error) {
	if err := header(b, typeChallenge); err != nil {
		return nil, err
	}
	if len(b) < 48 {
		return nil, errShort // without target info there is no NTLMv2
	}
	c := &Challenge{Flags: Flags(binary.LittleEndian.Uint32(b[20:]))}
	if c.Flags&FlagUnicode == 0 {
		return nil, errors.New("ntlm: the server speaks OEM code pages only, which is refused")
	}
	copy(c.Nonce[:], b[24:32])
	name, err := field(b, 12)
	if err != nil {
		return nil, err
	}
	if c.TargetName, err = decodeUTF16(name); err != nil {
		return nil, err
	}
	info, err := field(b, 40)
	if err != nil {
		return nil, err
	}
	if c.TargetInfo, err = parsePairs(info); err != nil {
		return nil, err
	}
	return c, nil
}

// Marshal writes the CHALLENGE message.
func (c *Challenge) Marshal() []byte {
	const fixed = 56
	name, info := encodeUTF16(c.TargetName), c.TargetInfo.marshal()
	b := make([]byte, fixed, fixed+len(name)+len(info))
	copy(b, Signature)
	binary.LittleEndian.PutUint32(b[8:], typeChallenge)
	binary.LittleEndian.PutUint32(b[20:], uint32(c.Flags))
	copy(b[24:], c.Nonce[:])
	copy(b[48:], version[:])
	b = appendField(b, 12, name)
	return appendField(b, 40, info)
}

// ParseAuthenticate reads an AUTHENTICATE message (type 3).
func ParseAuthenticate(b []byte) (*Authenticate, error) {
	if err := header(b, typeAuthenticate); err != nil {
		return nil, err
	}
	if len(b) < 64 {
		return nil, errShort
	}
	a := &Authenticate{Flags: Flags(binary.LittleEndian.Uint32(b[60:]))}
	if a.Flags&FlagUnicode == 0 {
		return nil, errors.New("ntlm: names in an OEM code page are refused")
	}
	raw, lowest := [6][]byte{}, len(b)
	for i := range raw {
		var err error
		if raw[i], err = field(b, 12+8*i); err != nil {
			return nil, err
		}
		if len(raw[i]) > 0 {
			lowest = min(lowest, int(binary.LittleEndian.Uint32(b[12+8*i+4:])))
		}
	}
	a.LMResponse, a.NTResponse, a.EncryptedSession = raw[0], raw[1], raw[5]
	for i, to := range []*string{&a.Domain, &a.User, &a.Workstation} {
		var err error
		if *to, err = decodeUTF16(raw[2+i]); err != nil {
			return nil, err
		}
	}
	// Old initiators have neither version nor MIC: then the payload begins before offset 88.
	if len(b) >= 88 && lowest >= 88 {
		a.HasMIC = true
		copy(a.MIC[:], b[72:88])
	}
	return a, nil
}

// Marshal writes the AUTHENTICATE message, with room for the MIC.
func (a *Authenticate) Marshal() []byte {
	const fixed = 88
	b := make([]byte, fixed, fixed+512)
	copy(b, Signature)
	binary.LittleEndian.PutUint32(b[8:], typeAuthenticate)
	binary.LittleEndian.PutUint32(b[60:], uint32(a.Flags))
	copy(b[64:], version[:])
	copy(b[72:], a.MIC[:])
	b = appendField(b, 28, encodeUTF16(a.Domain))
	b = appendField(b, 36, encodeUTF16(a.User))
	b = appendField(b, 44, encodeUTF16(a.Workstation))
	b = appendField(b, 12, a.LMResponse)
	b = appendField(b, 20, a.NTResponse)
	return appendField(b, 52, a.EncryptedSession)
}

// appendField puts v at the end of b and its (length, room, offset) triple at b[at:].
func appendField(b []byte, at int, v []byte) []byte {
	binary.LittleEndian.PutUint16(b[at:], uint16(len(v)))
	binary.LittleEndian.PutUint16(b[at+2:], uint16(len(v)))
	binary.LittleEndian.PutUint32(b[at+4:], uint32(len(b)))
	return append(b, v...)
}

func encodeUTF16(s string) []byte {
	u := utf16.Encode([]rune(s))
	b := make([]byte, 2*len(u))
	for i, c := range u {
		binary.LittleEndian.PutUint16(b[2*i:], c)
	}
	return b
}

func decodeUTF16(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", errors.New("ntlm: UTF-16 text of odd length")
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u)), nil
}
