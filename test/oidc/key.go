package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
)

// The algorithms of keys (RFC 7518 section 3.1, RFC 8037).
const (
	RS256 = "RS256"
	PS256 = "PS256"
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

// A Key signs tokens. As JSON it is its public part (RFC 7517).
type Key struct {
	ID, Algorithm string

	private crypto.Signer
}

// NewKey makes one.
func NewKey(tb testing.TB, algorithm, id string) *Key {
	tb.Helper()
	k := &Key{ID: id, Algorithm: algorithm}
	var err error
	switch algorithm {
	case RS256, PS256:
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case ES256:
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("no such algorithm: %s", algorithm)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// MarshalJSON is the public key as a JWK.
func (k *Key) MarshalJSON() ([]byte, error) {
	out := map[string]string{"use": "sig", "kid": k.ID}
	switch public := k.private.Public().(type) {
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			return nil, err
		}
		out["kty"], out["crv"], out["x"], out["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case ed25519.PublicKey:
		out["kty"], out["crv"], out["x"] = "OKP", "Ed25519", b64(public)
	}
	return json.Marshal(out)
}

// PublicPEM is the public key as people pass it on.
func (k *Key) PublicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic(err) // the kinds of NewKey can be written
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Sign makes a token with the usual header.
func (k *Key) Sign(c Claims) string {
	return k.SignHeader(map[string]any{"typ": "JWT", "alg": k.Algorithm, "kid": k.ID}, c)
}

// SignHeader makes a token with this header, signed by the key's own algorithm whatever the header says.
func (k *Key) SignHeader(header map[string]any, c Claims) string {
	return k.SignRaw(encode(header), encode(c))
}

// SignRaw makes a token of these bytes.
func (k *Key) SignRaw(header, payload []byte) string {
	signed := b64(header) + "." + b64(payload)
	sum := sha256.Sum256([]byte(signed))
	var sig []byte
	var err error
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		if k.Algorithm == PS256 {
			sig, err = rsa.SignPSS(rand.Reader, private, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(nil, private, crypto.SHA256, sum[:])
		}
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		r, s, err = ecdsa.Sign(rand.Reader, private, sum[:])
		if err == nil {
			sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	case ed25519.PrivateKey:
		sig = ed25519.Sign(private, []byte(signed))
	}
	if err != nil {
		panic(err) // the kinds of NewKey can sign
	}
	return signed + "." + b64(sig)
}

// Unsigned is a token of the algorithm "none".
func Unsigned(header map[string]any, c Claims) string {
	return b64(encode(header)) + "." + b64(encode(c)) + "."
}

// HMAC is a token signed with a shared secret (HS256).
func HMAC(secret []byte, header map[string]any, c Claims) string {
	signed := b64(encode(header)) + "." + b64(encode(c))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a test's own claims
	}
	return text
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
