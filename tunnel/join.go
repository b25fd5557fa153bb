package tunnel

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// A JoinString is what an admin copies from the relay to the agent, as one line: where the relay is, which signing key
// it must prove, which gateway to join, and a one-time code. The code is a secret until it is used.
type JoinString struct {
	Relay    string `json:"relay"`     // https://relay.example.com
	RelayKey string `json:"relay_key"` // Fingerprint of the relay's signing key
	Gateway  string `json:"gateway"`
	Code     string `json:"code"`
}

const (
	joinPrefix  = "spjoin1."
	joinSumSize = 4
	codeSize    = 16 // bytes: not to be guessed, so the public key derived from it may be stored
)

// codeAlphabet is Crockford's base 32: no I, L, O, U.
const codeAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// Encode gives the one line that ParseJoinString reads. It holds the code: show it once, never log it.
func (j JoinString) Encode() string {
	raw, _ := json.Marshal(j) // four strings: cannot fail
	sum := sha256.Sum256(raw)
	return joinPrefix + base64.RawURLEncoding.EncodeToString(append(raw, sum[:joinSumSize]...))
}

// String hides the code, so that a join string that is printed by mistake gives nothing away.
func (j JoinString) String() string {
	return fmt.Sprintf("join string for gateway %s at %s (code ***)", j.Gateway, j.Relay)
}

// GoString hides the code from %#v as well.
func (j JoinString) GoString() string { return j.String() }

// ParseJoinString reads a line made by Encode. White space inside, which mail programs and terminals add, is ignored.
// The error never quotes the input.
func ParseJoinString(line string) (JoinString, error) {
	line = strings.Join(strings.Fields(strings.TrimPrefix(line, "\ufeff")), "")
	if strings.HasPrefix(line, "\xff\xfe") || strings.HasPrefix(line, "\xfe\xff") || strings.IndexByte(line, 0) >= 0 {
		return JoinString{}, errors.New("the join string is in UTF-16, as PowerShell's '>' writes it: save it as UTF-8 or plain text")
	}
	rest, ok := strings.CutPrefix(line, joinPrefix)
	if !ok {
		return JoinString{}, fmt.Errorf("not a join string: it begins with %q; copy the whole line that 'sallyport-relay gateway add' printed", joinPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(raw) <= joinSumSize || len(raw) > handshakeLimit {
		return JoinString{}, errors.New("the join string is damaged: copy the whole line again")
	}
	body, sum := raw[:len(raw)-joinSumSize], sha256.Sum256(raw[:len(raw)-joinSumSize])
	if string(sum[:joinSumSize]) != string(raw[len(body):]) {
		return JoinString{}, errors.New("the join string is cut short or changed: copy the whole line again")
	}
	var j JoinString
	if err := json.Unmarshal(body, &j); err != nil {
		return JoinString{}, errors.New("the join string was made by another version: make one with this relay's version")
	}
	u, err := url.Parse(j.Relay)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || j.RelayKey == "" || j.Gateway == "" || j.Code == "" {
		return JoinString{}, errors.New("the join string lacks a part: make a new one with 'sallyport-relay gateway join'")
	}
	return j, nil
}

// NewCode makes a one-time code of 128 random bits.
func NewCode() string {
	b := make([]byte, codeSize)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base32.NewEncoding(codeAlphabet).WithPadding(base32.NoPadding).EncodeToString(b)
}

// JoinKey derives the key that proves a one-time code. The relay keeps only its public half, and the code itself is
// never sent, so neither a stolen store nor a proxy that inspects TLS can join in its place.
func JoinKey(code string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("sallyport.v1 join code\x00" + strings.ToUpper(code)))
	return ed25519.NewKeyFromSeed(seed[:])
}
