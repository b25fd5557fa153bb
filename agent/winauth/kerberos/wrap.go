package kerberos

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/crypto/etype"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
)

// Wrap tokens (RFC 4121 section 4.2.6.2).
const (
	wrapHead = 16

	fromAcceptor   = 0x01
	sealed         = 0x02
	acceptorSubkey = 0x04
)

// Seal encrypts a message to the server.
func (x *Context) Seal(msg []byte) ([]byte, error) { return x.wrap(msg, sealed) }

// Sign gives a message to the server that is signed and readable.
func (x *Context) Sign(msg []byte) ([]byte, error) { return x.wrap(msg, 0) }

func (x *Context) wrap(msg []byte, flags byte) ([]byte, error) {
	et, err := x.wrapType()
	if err != nil {
		return nil, err
	}
	if x.acceptor {
		flags |= acceptorSubkey
	}
	head := make([]byte, wrapHead)
	copy(head, []byte{0x05, 0x04, flags, 0xff})
	binary.BigEndian.PutUint64(head[8:], x.sendSeq)
	x.sendSeq++
	body := append(bytes.Clone(msg), head...)
	if flags&sealed != 0 {
		_, body, err = et.EncryptMessage(x.key.KeyValue, body, keyusage.GSSAPI_INITIATOR_SEAL)
		return append(head, body...), err
	}
	sum, err := et.GetChecksumHash(x.key.KeyValue, body, keyusage.GSSAPI_INITIATOR_SEAL)
	binary.BigEndian.PutUint16(head[4:], uint16(len(sum)))
	return append(append(head, msg...), sum...), err
}

// Open verifies a message of the server's, and decrypts it if it is encrypted. secret says that it was.
func (x *Context) Open(token []byte) (msg []byte, secret bool, err error) {
	et, err := x.wrapType()
	if err != nil {
		return nil, false, err
	}
	if len(token) < wrapHead || token[0] != 0x05 || token[1] != 0x04 || token[2]&fromAcceptor == 0 || token[3] != 0xff {
		return nil, false, errors.New("the server's message is no wrap token")
	}
	if seq := binary.BigEndian.Uint64(token[8:]); seq != x.recvSeq {
		return nil, false, errors.New("the server's message is out of its order")
	}
	x.recvSeq++
	head, body := bytes.Clone(token[:wrapHead]), token[wrapHead:]
	extra, turned := int(binary.BigEndian.Uint16(head[4:])), int(binary.BigEndian.Uint16(head[6:]))
	if turned > len(body) {
		if len(body) == 0 {
			return nil, false, errors.New("the server's message is empty")
		}
		turned %= len(body)
	}
	body = append(bytes.Clone(body[turned:]), body[:turned]...)
	clear(head[6:8])
	err = guard("the server's message", func() error {
		msg, secret, err = x.unwrap(et, head, body, extra)
		return err
	})
	return msg, secret, err
}

func (x *Context) unwrap(et etype.EType, head, body []byte, extra int) (msg []byte, secret bool, err error) {
	if head[2]&sealed != 0 {
		plain, err := et.DecryptMessage(x.key.KeyValue, body, keyusage.GSSAPI_ACCEPTOR_SEAL)
		if err != nil {
			return nil, false, fmt.Errorf("decrypt the server's message: %w", err)
		}
		end := len(plain) - wrapHead
		if end < extra || !bytes.Equal(plain[end:], head) {
			return nil, false, errors.New("the server's message contradicts itself")
		}
		return plain[:end-extra], true, nil
	}
	end := len(body) - extra
	if end < 0 {
		return nil, false, errors.New("the server's message is too short")
	}
	clear(head[4:6])
	if !et.VerifyChecksum(x.key.KeyValue, append(bytes.Clone(body[:end]), head...), body[end:], keyusage.GSSAPI_ACCEPTOR_SEAL) {
		return nil, false, errors.New("the signature of the server's message is wrong")
	}
	return body[:end], false, nil
}

// wrapType is the cipher of the session. RC4 has tokens of another form (RFC 4757), which are not read here.
func (x *Context) wrapType() (etype.EType, error) {
	if x.key.KeyType == etypeID.RC4_HMAC {
		return nil, errors.New("the domain controller chose RC4, which is not used for messages: let its account have AES")
	}
	return crypto.GetEtype(x.key.KeyType)
}
