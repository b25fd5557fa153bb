package tunnel

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
)

// A Bond is what the two sides of one link have in common after their handshake: the hash of all that was said in it, which
// neither side alone could choose, and the key that tokens are sealed to. A proof that is made later, over the live link,
// is bound to it, and so is worth nothing on another link.
type Bond struct {
	hash []byte
	to   hpke.PublicKey  // the agent's: nil if the relay takes no tokens
	with hpke.PrivateKey // the relay's
}

// The control messages by which an agent proves itself anew, without a new link.
const (
	// ControlKeyReplaced tells an agent that the link's key is no longer its current one; the body is a KeyReplaced.
	ControlKeyReplaced = "key-replaced"
	// ControlProof is an agent's answer to it, or shows a fresh token; Bond.Prove makes the body, Bond.Check reads it.
	ControlProof = "proof"
)

// KeyReplaced is the body of ControlKeyReplaced: the fingerprint of the key that the relay has on record now.
type KeyReplaced struct {
	Key string `json:"key"`
}

// A Proof is the body of ControlProof: a claim as in the handshake, of which only key and token count, and its signature.
type Proof struct {
	Body json.RawMessage `json:"body"`
	Sig  []byte          `json:"sig"`
}

// Proven is what a Proof has proved: that whoever is at the other end of this link holds the key, and showed the token.
type Proven struct {
	Key   ed25519.PublicKey
	Token string
}

const proofLabel = "agent proof"

// Prove makes the body of ControlProof: that the agent at this end of the link holds id.Key, with a token if there is one.
func (b *Bond) Prove(id AgentIdentity) (Proof, error) {
	key, ok := id.Key.Public().(ed25519.PublicKey)
	if !ok {
		return Proof{}, fmt.Errorf("the agent's key is a %T; only Ed25519 keys are supported", id.Key.Public())
	}
	c := Claim{Kind: KindLink, Alg: algEd25519, Key: key}
	if id.Token != "" {
		var err error
		if c.Sealed, err = sealToken(b.to, b.hash, id.Token); err != nil {
			return Proof{}, err
		}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return Proof{}, err
	}
	sig, err := id.Key.Sign(rand.Reader, signed(proofLabel, b.hash, raw), crypto.Hash(0))
	return Proof{raw, sig}, err
}

// Check verifies a proof that came over the link. It says who holds which key; whether that key may do anything is for the
// caller to decide.
func (b *Bond) Check(body []byte) (Proven, error) {
	var p Proof
	var c Claim
	if err := json.Unmarshal(body, &p); err != nil {
		return Proven{}, fmt.Errorf("read a proof: %w", err)
	}
	if err := json.Unmarshal(p.Body, &c); err != nil {
		return Proven{}, fmt.Errorf("read a proof: %w", err)
	}
	if c.Alg != algEd25519 || len(c.Key) != ed25519.PublicKeySize || !ed25519.Verify(c.Key, signed(proofLabel, b.hash, p.Body), p.Sig) {
		return Proven{}, errors.New("a proof is not signed by the key that it names, for this link")
	}
	out := Proven{Key: c.Key}
	if len(c.Sealed) > 0 {
		token, err := openToken(b.with, b.hash, c.Sealed)
		if err != nil {
			return Proven{}, err
		}
		out.Token = token
	}
	return out, nil
}

// Tokens are bearer tokens: who reads one can use it. They are sealed (HPKE, RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305)
// to a key that the relay makes for each handshake and signs in its challenge, so that what opens TLS on the way (an
// inspecting proxy, a balancer) does not get them; and under all that was said before, so that a sealed one cannot be used
// in another handshake.
const tokenLabel = "sallyport.v1 token\x00"

func newSealKey() (hpke.PrivateKey, error) {
	return hpke.DHKEM(ecdh.X25519()).GenerateKey()
}

func sealToken(to hpke.PublicKey, before []byte, token string) ([]byte, error) {
	if to == nil {
		return nil, ErrNoTokens
	}
	sealed, err := hpke.Seal(to, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), append([]byte(tokenLabel), before...), []byte(token))
	if err != nil {
		return nil, fmt.Errorf("seal the token: %w", err)
	}
	return sealed, nil
}

func openToken(with hpke.PrivateKey, before, sealed []byte) (string, error) {
	if with == nil {
		return "", &Refusal{Code: "no-tokens", Permanent: true, Reason: "this relay takes no tokens"}
	}
	token, err := hpke.Open(with, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), append([]byte(tokenLabel), before...), sealed)
	if err != nil {
		return "", &Refusal{Code: "bad-token", Permanent: true, Reason: "the agent's token was not sealed for this link"}
	}
	return string(token), nil
}

// ErrNoTokens is wrapped by Introduce's error when the agent would show a token and the relay takes none.
var ErrNoTokens = errors.New("the relay takes no tokens: it is of an older version, or has no 'entra' in relay.yaml")
