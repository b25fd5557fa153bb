package audit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport/internal/jsonline"
	"sallyport/tunnel"
)

// FORMAT, version 2. A record is one line of JSON:
//
//	{"v":2,"n":17,"time":"...","event":"call",...,"h":"HASH"}
//
// n counts the records of this agent from 1, over all its files. h is always the last member: SHA-256 over the h of the
// record before (32 bytes; zeros before the first) and the line's own bytes before `,"h":`, in base64url without padding.
//
// begin is the first record of a file and of a process that goes on with one. last and head repeat the n and h of the
// record before it. In the very first record there is no last, and head is SHA-256 of the last line of version 1 without its
// line feed, if there is one.
//
// seal has before its h a member "sig": the Ed25519 signature, by the key in "public" (whose fingerprint is "key"), of the
// words "sallyport audit seal", a line feed, the h of the record before, and the line's own bytes before `,"sig":`. The last
// seal's line is in audit.head too.
//
// repair says that a last line without a line feed was cut, which is what a crash in the middle of a write leaves. broken
// says why a process found, when it began, that the end was not as it was written; last and head are then the n and h of
// the seal in audit.head.
//
// checkpoint stands, sealed, in a later file before retention deletes a file: it repeats the file's name and the n and h of
// its last record, with which the first record that is left goes on.
const sealWords = "sallyport audit seal\n"

const (
	hashMark, sigMark = `,"h":"`, `,"sig":"`
	hashText, sigText = 43, 86 // the lengths in base64url
)

// A link is a record's place in the chain: its number and its hash. The zero link is before the first record.
type link struct {
	n uint64
	h [sha256.Size]byte
}

func (l link) head() string { return encode(l.h[:]) }

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// hash is the h of a line whose bytes before the h are body.
func (l link) hash(body []byte) (h [sha256.Size]byte) {
	d := sha256.New()
	d.Write(l.h[:])
	d.Write(body)
	d.Sum(h[:0])
	return h
}

// append appends e as the record after l.
func (l link) append(b []byte, e Event) ([]byte, link) {
	start := len(b)
	return l.close(appendLine(b, l.n+1, e), start)
}

func (l link) close(b []byte, start int) ([]byte, link) {
	next := link{n: l.n + 1, h: l.hash(b[start:])}
	b = append(b, hashMark...)
	b = base64.RawURLEncoding.AppendEncode(b, next.h[:])
	return append(b, '"', '}', '\n'), next
}

// appendSeal appends a seal as the record after l.
func (l link) appendSeal(b []byte, key crypto.Signer, now time.Time) ([]byte, link, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return b, l, errors.New("the key that is to seal the audit record is not Ed25519")
	}
	start := len(b)
	b = appendLine(b, l.n+1, Event{Time: now, Kind: Seal, Key: tunnel.Fingerprint(public), Public: encode(public)})
	sig, err := key.Sign(rand.Reader, l.sealed(b[start:]), crypto.Hash(0))
	if err != nil {
		return b[:start], l, fmt.Errorf("seal the audit record: %w", err)
	}
	b = jsonline.AppendText(b, "sig", encode(sig))
	b, next := l.close(b, start)
	return b, next, nil
}

// sealed is what a seal signs.
func (l link) sealed(body []byte) []byte {
	return bytes.Join([][]byte{[]byte(sealWords), l.h[:], body}, nil)
}

// A record is a line that was read.
type record struct {
	Version int    `json:"v"`
	N       uint64 `json:"n"`
	Event

	body []byte // before the h
	h    [sha256.Size]byte
}

// parse reads a line without its line feed. Version 1 has neither body nor h.
func parse(line []byte) (r record, err error) {
	if err := json.Unmarshal(line, &r); err != nil {
		return r, errors.New("it is not a record")
	}
	switch r.Version {
	case 1:
		return r, nil
	case formatVersion:
	default:
		return r, fmt.Errorf("it is of format %d, which this version does not know", r.Version)
	}
	var text []byte
	var ok bool
	if text, ok = bytes.CutSuffix(line, []byte(`"}`)); !ok {
		return r, errors.New("it does not end in its hash")
	}
	if r.body, ok = cutMember(text, hashMark, hashText, r.h[:]); !ok {
		return r, errors.New("it does not end in its hash")
	}
	// What is hashed has to be what is read: encoding/json lets a later member win, and takes names in any case.
	if want := fmt.Appendf(nil, `{"v":%d,"n":%d,"time":"`, formatVersion, r.N); !bytes.HasPrefix(r.body, want) {
		return r, errors.New("it does not begin with its number")
	}
	return r, nil
}

// cutMember splits the member off at the end of b whose value, without the last quote, has so many letters, into value.
func cutMember(b []byte, mark string, letters int, value []byte) (rest []byte, ok bool) {
	at := len(b) - letters - len(mark)
	if at < 0 || string(b[at:at+len(mark)]) != mark {
		return b, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(value, b[at+len(mark):])
	return b[:at], err == nil && n == len(value)
}

// signer gives the fingerprint of the key that signed the seal r after prev.
func (r *record) signer(prev link) (string, error) {
	var sig [ed25519.SignatureSize]byte
	body, ok := bytes.CutSuffix(r.body, []byte(`"`))
	if ok {
		body, ok = cutMember(body, sigMark, sigText, sig[:])
	}
	public, err := base64.RawURLEncoding.DecodeString(r.Public)
	if !ok || err != nil || len(public) != ed25519.PublicKeySize {
		return "", errors.New("the seal has no signature")
	}
	if !ed25519.Verify(public, prev.sealed(body), sig[:]) {
		return "", errors.New("the seal's signature does not fit what it seals")
	}
	return tunnel.Fingerprint(public), nil
}
