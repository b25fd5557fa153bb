package operation

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// The two kinds of records, as tokens begin and names have them.
const (
	kindDeferred = "d" // a call that was answered 202
	kindRepeat   = "r" // a call whose repeats are to be known
)

// tokenDigits is the length of 256 bits in base64.
const tokenDigits = 43

// NewToken makes the token of a call that is to be deferred: 256 random bits. Who has it, and a credential of the
// connector's, has the answer; the relay keeps no copy of it beyond the call's own time.
func (l *Ledger) NewToken() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	return kindDeferred + base64.RawURLEncoding.EncodeToString(raw[:])
}

// RepeatToken is the token of a call that can come again: the same for the same parts, and nobody can work it out without
// the relay's secret.
func (l *Ledger) RepeatToken(parts ...string) string {
	return kindRepeat + base64.RawURLEncoding.EncodeToString(l.mac("repeat", parts...))
}

// mac is an HMAC over parts, none of which can be taken for a piece of another.
func (l *Ledger) mac(purpose string, parts ...string) []byte {
	h := hmac.New(sha256.New, l.c.Secret)
	for _, p := range append([]string{purpose}, parts...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// nameOf is a record's name in the store; it tells neither the token nor what was called. Not ok: no token of ours.
func nameOf(connector, token string) (name string, ok bool) {
	if len(token) != 1+tokenDigits || (token[:1] != kindDeferred && token[:1] != kindRepeat) {
		return "", false
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(token[1:]); err != nil {
		return "", false
	}
	sum := sha256.Sum256([]byte("sallyport operation name " + token))
	return connector + "." + token[:1] + "." + hex.EncodeToString(sum[:16]), true
}

// splitName undoes as much of nameOf as the store tells.
func splitName(name string) (connector, kind string, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 3 || (parts[1] != kindDeferred && parts[1] != kindRepeat) {
		return "", "", false
	}
	return parts[0], parts[1], true
}

// Hook makes a token that stands for a request target of a connector: base64url of the MAC and the target. Nothing is
// stored for it. CheckHook gives the target back, for the same connector alone.
func (l *Ledger) Hook(connector, target string) string { return l.sign("hook", connector, target) }

// CheckHook reports whether the token was made by Hook for this connector, and for what.
func (l *Ledger) CheckHook(connector, token string) (target string, ok bool) {
	return l.signed("hook", connector, token)
}

// Share makes a token of the same form for what a link to a connector's definition gives out, and until when.
func (l *Ledger) Share(connector, terms string) string { return l.sign("share", connector, terms) }

// CheckShare reports whether the token was made by Share for this connector, and on which terms.
func (l *Ledger) CheckShare(connector, token string) (terms string, ok bool) {
	return l.signed("share", connector, token)
}

func (l *Ledger) sign(purpose, connector, text string) string {
	return base64.RawURLEncoding.EncodeToString(append(l.mac(purpose, connector, text), text...))
}

func (l *Ledger) signed(purpose, connector, token string) (text string, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < sha256.Size {
		return "", false
	}
	sum, text := raw[:sha256.Size], string(raw[sha256.Size:])
	return text, hmac.Equal(sum, l.mac(purpose, connector, text))
}
