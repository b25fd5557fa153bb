package ntlm

import (
	"crypto/hmac"
	"crypto/md5" // MS-NLMP is built on MD5, MD4 and RC4; what protects the exchange is TLS and the channel binding
	"crypto/rc4"
	"encoding/binary"
	"strings"

	"golang.org/x/crypto/md4" //lint:ignore SA1019 the NT hash is MD4
)

// Hash is the NT hash of a password: MD4 of its UTF-16LE form. It is as good as the password: a secret.
type Hash [16]byte

// String hides the hash.
func (Hash) String() string { return "***" }

// GoString hides the hash.
func (Hash) GoString() string { return "***" }

// HashOf gives the NT hash of a password.
func HashOf(password string) Hash {
	h := md4.New()
	h.Write(encodeUTF16(password))
	return Hash(h.Sum(nil))
}

// responseKey is NTOWFv2 (section 3.3.2).
func responseKey(h Hash, user, domain string) []byte {
	return sum(h[:], encodeUTF16(strings.ToUpper(user)+domain))
}

func sum(key []byte, parts ...[]byte) []byte {
	m := hmac.New(md5.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// ntResponse is NTProofStr and temp (section 3.3.2); base is the SessionBaseKey.
func ntResponse(key []byte, server, client [8]byte, when uint64, info Pairs) (response, base []byte) {
	temp := make([]byte, 28, 256)
	temp[0], temp[1] = 1, 1
	binary.LittleEndian.PutUint64(temp[8:], when)
	copy(temp[16:], client[:])
	temp = append(temp, info.marshal()...)
	temp = append(temp, 0, 0, 0, 0)
	proof := sum(key, server[:], temp)
	return append(proof, temp...), sum(key, proof)
}

// lmv2Response is for acceptors that send no timestamp (section 3.1.5.1.2); the others get 24 zeros.
func lmv2Response(key []byte, server, client [8]byte) []byte {
	return append(sum(key, server[:], client[:]), client[:]...)
}

func rc4Once(key, data []byte) []byte {
	c, err := rc4.NewCipher(key)
	if err != nil {
		return nil // only for keys of 0 or more than 256 bytes: ours have 16
	}
	out := make([]byte, len(data))
	c.XORKeyStream(out, data)
	return out
}

// ChannelBinding is the MD5 of the gss_channel_bindings structure around data ("tls-server-end-point:" and the hash of
// the certificate): RFC 4121 section 4.1.1.2, without addresses. Kerberos and NTLM use the same value.
func ChannelBinding(data []byte) [16]byte {
	b := make([]byte, 20, 20+len(data))
	binary.LittleEndian.PutUint32(b[16:], uint32(len(data)))
	return md5.Sum(append(b, data...))
}

// A signer makes or checks the message signatures of one direction (sections 3.4.4 and 3.4.5).
type signer struct {
	key    []byte
	handle *rc4.Cipher
	seq    uint32
	flags  Flags
}

const (
	clientSigning = "session key to client-to-server signing key magic constant\x00"
	clientSealing = "session key to client-to-server sealing key magic constant\x00"
	serverSigning = "session key to server-to-client signing key magic constant\x00"
	serverSealing = "session key to server-to-client sealing key magic constant\x00"
)

func newSigner(session []byte, flags Flags, signing, sealing string) *signer {
	sealKey := session
	switch {
	case flags&Flag128 != 0:
	case flags&Flag56 != 0:
		sealKey = session[:7]
	default:
		sealKey = session[:5]
	}
	key := md5.Sum(append(append([]byte{}, session...), signing...))
	seal := md5.Sum(append(append([]byte{}, sealKey...), sealing...))
	handle, err := rc4.NewCipher(seal[:])
	if err != nil {
		return nil // not for 16 bytes
	}
	return &signer{key: key[:], handle: handle, flags: flags}
}

// sign gives the next signature. Without extended session security it would be a CRC; that is never negotiated here.
func (s *signer) sign(msg []byte) []byte {
	var seq [4]byte
	binary.LittleEndian.PutUint32(seq[:], s.seq)
	s.seq++
	check := sum(s.key, seq[:], msg)[:8]
	if s.flags&FlagKeyExchange != 0 {
		s.handle.XORKeyStream(check, check)
	}
	out := make([]byte, 0, 16)
	out = append(out, 1, 0, 0, 0)
	out = append(out, check...)
	return append(out, seq[:]...)
}
