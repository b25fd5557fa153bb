package ntlm

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// wanted are the flags an initiator asks for. Signing is asked for, though HTTP signs nothing, because the MIC over
// SPNEGO's mechanism list needs the keys.
const wanted = FlagUnicode | FlagTarget | FlagSign | FlagNTLM | FlagAlwaysSign | FlagExtended | FlagTargetInfo |
	FlagVersion | Flag128 | FlagKeyExchange | Flag56

// An Account is who signs on.
type Account struct {
	User   string // "svc", or a UPN with an empty Domain
	Domain string // NetBIOS or DNS name
	Hash   Hash
}

// A Client is one sign-on as initiator. Not safe for concurrent use.
type Client struct {
	account Account
	spn     string
	binding []byte
	clock   func() time.Time

	negotiate []byte
	sign      *signer
	verify    *signer
	random    func([]byte)
}

// NewClient starts a sign-on. spn goes into MsvAvTargetName ("HTTP/erp.corp.example"; "" sends none). binding is the
// unhashed channel binding, nil for none: then MsvAvChannelBindings is left out, which an acceptor that "allows"
// channel bindings takes for an initiator without them, whereas zeros would mean that there is no TLS.
func NewClient(a Account, spn string, binding []byte, clock func() time.Time) *Client {
	if clock == nil {
		clock = time.Now
	}
	return &Client{account: a, spn: spn, binding: binding, clock: clock, random: fillRandom}
}

func fillRandom(b []byte) { _, _ = rand.Read(b) } // never fails: crypto/rand ends the process instead

// String names the account, never a key: fmt would walk into the fields.
func (c *Client) String() string { return "NTLM sign-on of " + c.account.String() }

// GoString is for %#v.
func (c *Client) GoString() string { return c.String() }

// String names the account without the hash.
func (a Account) String() string { return a.Domain + `\` + a.User }

// GoString is for %#v.
func (a Account) GoString() string { return a.String() }

// Negotiate gives the NEGOTIATE message (type 1): 40 bytes, with the version field.
func (c *Client) Negotiate() []byte {
	b := make([]byte, 40)
	copy(b, Signature)
	binary.LittleEndian.PutUint32(b[8:], typeNegotiate)
	binary.LittleEndian.PutUint32(b[12:], uint32(wanted))
	copy(b[32:], version[:])
	c.negotiate = b
	return b
}

// Authenticate answers a CHALLENGE message with the AUTHENTICATE message (type 3).
func (c *Client) Authenticate(challenge []byte) ([]byte, error) {
	if c.negotiate == nil {
		return nil, errors.New("ntlm: challenge before negotiate")
	}
	ch, err := ParseChallenge(challenge)
	if err != nil {
		return nil, err
	}
	if ch.Flags&FlagNTLM == 0 || ch.Flags&FlagExtended == 0 {
		return nil, fmt.Errorf("ntlm: the server offers only NTLMv1, which is refused (flags %08x)", uint32(ch.Flags))
	}
	if len(ch.TargetInfo) == 0 {
		return nil, errors.New("ntlm: the challenge has no target info, so NTLMv2 with integrity is impossible")
	}
	msg := &Authenticate{
		Flags: ch.Flags & wanted, Domain: c.account.Domain, User: c.account.User,
		HasMIC: true,
	}
	exported := c.respond(msg, ch)
	raw := msg.Marshal()
	copy(raw[72:88], sum(exported, c.negotiate, challenge, raw))
	if msg.Flags&FlagSign != 0 {
		c.sign = newSigner(exported, msg.Flags, clientSigning, clientSealing)
		c.verify = newSigner(exported, msg.Flags, serverSigning, serverSealing)
	}
	return raw, nil
}

// respond fills in the responses and gives the exported session key.
func (c *Client) respond(msg *Authenticate, ch *Challenge) []byte {
	var nonce [8]byte
	c.random(nonce[:])
	when, stamped := ch.TargetInfo.timestamp()
	if !stamped {
		when = fileTime(c.clock())
	}
	key := responseKey(c.account.Hash, c.account.User, c.account.Domain)
	response, base := ntResponse(key, ch.Nonce, nonce, when, c.targetInfo(ch.TargetInfo))
	msg.NTResponse = response
	if stamped {
		msg.LMResponse = make([]byte, 24)
	} else {
		msg.LMResponse = lmv2Response(key, ch.Nonce, nonce)
	}
	if msg.Flags&FlagKeyExchange == 0 {
		return base
	}
	exported := make([]byte, 16)
	c.random(exported)
	msg.EncryptedSession = rc4Once(base, exported)
	return exported
}

// targetInfo is the acceptor's list with what the initiator adds under the protection of the proof.
func (c *Client) targetInfo(in Pairs) Pairs {
	out := in.with(AvFlags, binary.LittleEndian.AppendUint32(nil, in.flags()|avFlagMIC))
	if c.binding != nil {
		h := ChannelBinding(c.binding)
		out = out.with(AvChannelBindings, h[:])
	}
	if c.spn != "" {
		out = out.with(AvTargetName, encodeUTF16(c.spn))
	}
	return out
}

// Sign gives a signature of msg in the direction initiator to acceptor: nil if signing was not agreed on.
func (c *Client) Sign(msg []byte) []byte {
	if c.sign == nil {
		return nil
	}
	return c.sign.sign(msg)
}

// Verify checks the acceptor's next signature of msg.
func (c *Client) Verify(msg, signature []byte) bool {
	return c.verify != nil && hmac.Equal(c.verify.sign(msg), signature)
}
