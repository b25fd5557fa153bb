package kerberos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"sallyport/agent/winauth/ntlm"
	"sallyport/agent/winauth/spnego"
)

// Token identifiers of RFC 4121 section 4.1.
const (
	tokAPReq = 0x0100
	tokAPRep = 0x0200
	tokError = 0x0300
)

// Flags of the authenticator's checksum (RFC 4121 section 4.1.1.1). Never GSS_C_DELEG_FLAG.
const (
	gssMutual    = 0x02
	gssReplay    = 0x04
	gssSequence  = 0x08
	gssSeal      = 0x10
	gssIntegrity = 0x20
)

// A Context is one sign-on to one server.
type Context struct {
	ticket *Ticket
	sent   time.Time
	clock  func() time.Time

	// For messages after the sign-on: the key that both sides have chosen, and whether it is the server's choice.
	key      types.EncryptionKey
	acceptor bool
	sendSeq  uint64
	recvSeq  uint64
}

// String names the service, never a key.
func (t *Ticket) String() string { return "ticket for " + t.spn }

// GoString is for %#v.
func (t *Ticket) GoString() string { return t.String() }

// String names the service, never a key.
func (x *Context) String() string { return "sign-on with a " + x.ticket.String() }

// GoString is for %#v.
func (x *Context) GoString() string { return x.String() }

// Initiate makes the token that begins a sign-on: AP-REQ in its GSS-API frame, with the hash of the channel binding (nil
// for none) and a demand that the server prove itself.
func (c *Client) Initiate(t *Ticket, binding []byte) (*Context, []byte, error) {
	return c.initiate(t, binding, 0)
}

// InitiateSealed is Initiate for a protocol whose messages are encrypted after the sign-on (Context.Seal and Open).
func (c *Client) InitiateSealed(t *Ticket) (*Context, []byte, error) {
	return c.initiate(t, nil, gssSeal)
}

func (c *Client) initiate(t *Ticket, binding []byte, more uint32) (*Context, []byte, error) {
	sum := make([]byte, 24)
	binary.LittleEndian.PutUint32(sum, 16)
	if binding != nil {
		h := ntlm.ChannelBinding(binding) // the same hash, RFC 4121 section 4.1.1.2
		copy(sum[4:], h[:])
	}
	binary.LittleEndian.PutUint32(sum[20:], gssMutual|gssReplay|gssSequence|gssIntegrity|more)
	auth := c.authenticator(t.cred, types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: sum})
	et, err := crypto.GetEtype(t.cred.key.KeyType)
	if err != nil {
		return nil, nil, err
	}
	if auth.SubKey, err = types.GenerateEncryptionKey(et); err != nil {
		return nil, nil, err
	}
	req, err := messages.NewAPReq(t.cred.ticket, t.cred.key, auth)
	if err != nil {
		return nil, nil, fmt.Errorf("write the Kerberos token: %w", err)
	}
	types.SetFlag(&req.APOptions, flags.APOptionMutualRequired)
	raw, err := req.Marshal()
	if err != nil {
		return nil, nil, fmt.Errorf("write the Kerberos token: %w", err)
	}
	token, err := spnego.Frame(spnego.Kerberos, append(binary.BigEndian.AppendUint16(nil, tokAPReq), raw...))
	if err != nil {
		return nil, nil, err
	}
	sent := auth.CTime.Add(time.Duration(auth.Cusec) * time.Microsecond)
	x := &Context{ticket: t, sent: sent, clock: c.clock, key: auth.SubKey, sendSeq: uint64(auth.SeqNumber)}
	return x, token, nil
}

// Verify checks the server's token: AP-REP proves that it knows the service's key. A KRB-ERROR comes back as a *KDCError.
func (x *Context) Verify(token []byte) error {
	mech, inner, err := spnego.Unframe(token)
	if err != nil {
		return err
	}
	if !mech.IsKerberos() || len(inner) < 2 {
		return fmt.Errorf("the server's token is of mechanism %s", mech)
	}
	kind, body := binary.BigEndian.Uint16(inner), inner[2:]
	switch kind {
	case tokError:
		return parseKRBError(body, StepServer, x.ticket.spn, x.clock())
	case tokAPRep:
		return x.verifyReply(body)
	}
	return fmt.Errorf("the server's token is of unknown kind %04x", kind)
}

func (x *Context) verifyReply(body []byte) error {
	var rep messages.APRep
	if err := guard("the server's answer", func() error { return rep.Unmarshal(body) }); err != nil {
		return errors.Join(ErrNotMutual, err)
	}
	var part messages.EncAPRepPart
	if err := open(rep.EncPart, x.ticket.cred.key, keyusage.AP_REP_ENCPART, part.Unmarshal); err != nil {
		return errors.Join(ErrNotMutual, err)
	}
	if got := part.CTime.Add(time.Duration(part.Cusec) * time.Microsecond); !got.Equal(x.sent) {
		return fmt.Errorf("%w: it answers another sign-on", ErrNotMutual)
	}
	x.recvSeq = uint64(uint32(part.SequenceNumber))
	if len(part.Subkey.KeyValue) > 0 {
		x.key, x.acceptor = part.Subkey, true
	}
	return nil
}
