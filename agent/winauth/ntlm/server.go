package ntlm

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// BindingPolicy says what an acceptor does about channel bindings, in IIS's terms of Extended Protection.
type BindingPolicy int

// The policies.
const (
	BindingOff     BindingPolicy = iota // not looked at
	BindingAllow                        // a wrong one is refused, none is let in
	BindingRequire                      // a wrong one and none are refused
)

// Why an acceptor refuses. The initiator learns none of this.
var (
	ErrUnknownUser  = errors.New("ntlm: no such account")
	ErrBadProof     = errors.New("ntlm: the proof does not match the password")
	ErrBadMIC       = errors.New("ntlm: the message integrity code is missing or wrong")
	ErrBadBinding   = errors.New("ntlm: the channel binding is missing or wrong")
	ErrAnonymous    = errors.New("ntlm: anonymous sign-on is refused")
	ErrNotV2        = errors.New("ntlm: the response is not NTLMv2")
	ErrStale        = errors.New("ntlm: the response is too old or from the future")
	ErrBadTarget    = errors.New("ntlm: the response was made for another service")
	ErrForeignReply = errors.New("ntlm: the response does not repeat this server's target info")
)

// A Verifier is the acceptor: it makes challenges and verifies the answers. It is safe for concurrent use.
type Verifier struct {
	// Computer and Domain are the NetBIOS names that challenges carry. Realm is the DNS name of the domain, Host that of
	// the machine; either may be empty.
	Computer, Domain, Realm, Host string
	// Lookup gives the NT hash of an account. domain is as the initiator wrote it: NetBIOS, DNS, or "" with a UPN.
	Lookup func(user, domain string) (Hash, bool)
	// Binding is the policy; the expected value comes with each Challenge.
	Binding BindingPolicy
	// SPN, unless empty, must be what the initiator names as its target, if it names one.
	SPN string
	// NoMIC admits initiators that send no MIC, of which Wine is one. For tests alone: anything could be stripped on the way.
	NoMIC bool
	// Clock is time.Now if nil. MaxAge bounds the age of a response; 0 means 30 minutes, as Windows has it.
	Clock  func() time.Time
	MaxAge time.Duration
}

// A Session is one sign-on as acceptor: it belongs to one connection, and its challenge is good for one answer.
type Session struct {
	v         *Verifier
	negotiate []byte
	challenge []byte
	sent      *Challenge
	binding   []byte
	sign      *signer
	verify    *signer
}

// String shows no key.
func (s *Session) String() string { return "NTLM session" }

// GoString is for %#v.
func (s *Session) GoString() string { return s.String() }

// An Identity is who has proved itself.
type Identity struct {
	User, Domain, Workstation string
	// Bound says that the sign-on was bound to the TLS connection.
	Bound bool
	// TargetName is the SPN that the initiator named.
	TargetName string
}

// Challenge answers a NEGOTIATE message. binding is the unhashed channel binding of this connection, nil without TLS.
func (v *Verifier) Challenge(negotiate, binding []byte) (*Session, []byte, error) {
	asked, err := ParseNegotiate(negotiate)
	if err != nil {
		return nil, nil, err
	}
	if asked&FlagUnicode == 0 {
		return nil, nil, errors.New("ntlm: an initiator without Unicode is refused")
	}
	if asked&FlagExtended == 0 {
		return nil, nil, ErrNotV2
	}
	c := &Challenge{
		Flags:      asked&(wanted&^FlagTargetInfo) | FlagTargetInfo | FlagNTLM | FlagTarget | FlagTargetDomain,
		TargetName: v.Domain,
		TargetInfo: v.targetInfo(),
	}
	fillRandom(c.Nonce[:])
	raw := c.Marshal()
	s := &Session{v: v, sent: c, challenge: raw, binding: binding}
	s.negotiate = append(s.negotiate, negotiate...)
	return s, raw, nil
}

func (v *Verifier) targetInfo() Pairs {
	var p Pairs
	for _, x := range []struct {
		id   AvID
		text string
	}{
		{AvNbDomainName, v.Domain},
		{AvNbComputerName, v.Computer},
		{AvDNSDomainName, v.Realm},
		{AvDNSComputerName, v.Host},
	} {
		if x.text != "" {
			p = append(p, Pair{x.id, encodeUTF16(x.text)})
		}
	}
	return append(p, Pair{AvTimestamp, binary.LittleEndian.AppendUint64(nil, fileTime(v.now()))})
}

func (v *Verifier) now() time.Time {
	if v.Clock == nil {
		return time.Now()
	}
	return v.Clock()
}

// Verify checks an AUTHENTICATE message: the NTLMv2 proof, the MIC, the age, the channel binding. A Session verifies
// once; a second call is refused, so that a challenge cannot be guessed at.
func (s *Session) Verify(raw []byte) (Identity, error) {
	if s.sent == nil {
		return Identity{}, errors.New("ntlm: this challenge was used already")
	}
	sent := s.sent
	s.sent = nil
	a, err := ParseAuthenticate(raw)
	if err != nil {
		return Identity{}, err
	}
	if a.User == "" || a.Flags&FlagAnonymous != 0 {
		return Identity{}, ErrAnonymous
	}
	if len(a.NTResponse) <= 24 { // 24 bytes are NTLMv1 or NTLM2 session
		return Identity{}, ErrNotV2
	}
	base, info, err := s.prove(a, sent)
	if err != nil {
		return Identity{}, err
	}
	if err := s.integrity(a, sent, base, info, raw); err != nil {
		return Identity{}, err
	}
	id := Identity{User: a.User, Domain: a.Domain, Workstation: a.Workstation, TargetName: info.Text(AvTargetName)}
	if s.v.SPN != "" && id.TargetName != "" && !strings.EqualFold(s.v.SPN, id.TargetName) {
		return Identity{}, ErrBadTarget
	}
	id.Bound, err = s.checkBinding(info)
	return id, err
}

// prove verifies the NTProofStr and gives the session base key and the list under the proof.
func (s *Session) prove(a *Authenticate, sent *Challenge) ([]byte, Pairs, error) {
	proof, temp := a.NTResponse[:16], a.NTResponse[16:]
	if len(temp) < 28 || temp[0] != 1 || temp[1] != 1 {
		return nil, nil, ErrNotV2
	}
	hash, known := s.v.Lookup(a.User, a.Domain)
	key := responseKey(hash, a.User, a.Domain) // also for the unknown, so that both take the same time
	ok := hmac.Equal(sum(key, sent.Nonce[:], temp), proof)
	switch {
	case !known:
		return nil, nil, ErrUnknownUser
	case !ok:
		return nil, nil, ErrBadProof
	}
	info, err := parsePairs(temp[28:])
	if err != nil {
		return nil, nil, err
	}
	return sum(key, proof), info, s.fresh(binary.LittleEndian.Uint64(temp[8:]))
}

func (s *Session) fresh(when uint64) error {
	limit := s.v.MaxAge
	if limit == 0 {
		limit = 30 * time.Minute
	}
	t, ok := unixTime(when)
	if !ok || s.v.now().Sub(t).Abs() > limit {
		return ErrStale
	}
	return nil
}

// integrity demands the MIC. Each challenge here has a timestamp, and every NTLMv2 initiator since Windows 7 answers
// that with a MIC; without one, flags and target info could be stripped on the way (CVE-2019-1040).
func (s *Session) integrity(a *Authenticate, sent *Challenge, base []byte, info Pairs, raw []byte) error {
	if !a.HasMIC || info.flags()&avFlagMIC == 0 {
		if s.v.NoMIC {
			return nil
		}
		return ErrBadMIC
	}
	exported := base
	if a.Flags&FlagKeyExchange != 0 {
		if len(a.EncryptedSession) != 16 {
			return fmt.Errorf("ntlm: session key of %d bytes", len(a.EncryptedSession))
		}
		exported = rc4Once(base, a.EncryptedSession)
	}
	blank := append([]byte{}, raw...)
	clear(blank[72:88])
	if !hmac.Equal(sum(exported, s.negotiate, s.challenge, blank), a.MIC[:]) {
		return ErrBadMIC
	}
	for _, want := range sent.TargetInfo { // the initiator must have seen this challenge's names and time
		if got, ok := info.Get(want.ID); want.ID != AvFlags && (!ok || !hmac.Equal(got, want.Value)) {
			return ErrForeignReply
		}
	}
	if a.Flags&FlagSign != 0 {
		s.verify = newSigner(exported, a.Flags, clientSigning, clientSealing)
		s.sign = newSigner(exported, a.Flags, serverSigning, serverSealing)
	}
	return nil
}

func (s *Session) checkBinding(info Pairs) (bool, error) {
	got, there := info.Get(AvChannelBindings)
	there = there && !hmac.Equal(got, make([]byte, 16))
	if s.v.Binding == BindingOff {
		return false, nil
	}
	if !there {
		if s.v.Binding == BindingRequire {
			return false, ErrBadBinding
		}
		return false, nil
	}
	want := ChannelBinding(s.binding)
	if s.binding == nil || !hmac.Equal(got, want[:]) {
		return false, ErrBadBinding
	}
	return true, nil
}

// CheckSignature checks the initiator's next signature of msg, after Verify.
func (s *Session) CheckSignature(msg, signature []byte) bool {
	return s.verify != nil && hmac.Equal(s.verify.sign(msg), signature)
}

// Sign gives the acceptor's next signature of msg, nil if signing was not agreed on.
func (s *Session) Sign(msg []byte) []byte {
	if s.sign == nil {
		return nil
	}
	return s.sign.sign(msg)
}
