package connector

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/relay/store"
)

const (
	// keyPrefix and the checksum at the end let scanners find leaked keys without false alarms.
	keyPrefix = "sp_"
	keyBytes  = 32
	sumLength = 6
	keyLength = len(keyPrefix) + keyDigits + sumLength
	keyDigits = 43 // of base 62 for 256 bits
	hintChars = 6
	// maxKeys bounds the keys of one connector.
	maxKeys    = 64
	maxKeyName = 64
	// maxOverlap is how long a replaced key can go on working.
	maxOverlap = 90 * 24 * time.Hour
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// A Key is an API key of a connector, as it is kept: the key itself is shown once and not kept.
type Key struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Hash is the SHA-256 of the key. A slow hash would add nothing: the key has 256 random bits, which cannot be
	// guessed at any speed, and each call would pay for it.
	Hash []byte `json:"hash"`
	// Hint is how the key begins, for people to tell keys apart.
	Hint    string    `json:"hint"`
	Created time.Time `json:"created"`
	// Expires is when the key stops working; zero: never.
	Expires time.Time `json:"expires,omitzero"`
	// From are the networks from which the key works; none: from anywhere.
	From []netip.Prefix `json:"from,omitempty"`
	// Rate and Concurrent bound the key's calls, on each relay node; zero: the connector's bounds alone.
	Rate       Rate `json:"rate,omitzero"`
	Concurrent int  `json:"concurrent,omitempty"`
	// Replaced says that a newer key has this name, and that this one works for the overlap only.
	Replaced bool `json:"replaced,omitempty"`
}

// KeyInfo is what can be told of a key.
type KeyInfo struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Hint     string    `json:"hint"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`
	LastUsed time.Time `json:"lastUsed,omitzero"`

	From       []netip.Prefix `json:"from,omitempty"`
	Rate       Rate           `json:"rate,omitzero"`
	Concurrent int            `json:"concurrent,omitempty"`
	Replaced   bool           `json:"replaced,omitempty"`
}

// KeyLimits narrow a key.
type KeyLimits struct {
	From       []netip.Prefix
	Rate       Rate
	Concurrent int
}

// newKey makes a key: prefix, 256 random bits in base 62, checksum.
func newKey() string {
	var raw [keyBytes]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	digits := encode62(raw[:], keyDigits)
	return keyPrefix + digits + checksum(digits)
}

// encode62 writes a number in base 62 with leading zeros.
func encode62(number []byte, length int) string {
	number = slices.Clone(number)
	out := make([]byte, length)
	for i := length - 1; i >= 0; i-- {
		rest := 0
		for j := range number {
			rest = rest<<8 | int(number[j])
			number[j] = byte(rest / 62)
			rest %= 62
		}
		out[i] = base62[rest]
	}
	return string(out)
}

func checksum(digits string) string {
	sum := crc32.ChecksumIEEE([]byte(keyPrefix + digits))
	return encode62([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, sumLength)
}

// wellFormed reports whether text has the form of a key. It looks at nothing that is kept, so it may take its time as
// it likes.
func wellFormed(text string) bool {
	if len(text) != keyLength || !strings.HasPrefix(text, keyPrefix) {
		return false
	}
	digits := text[len(keyPrefix) : len(text)-sumLength]
	return checksum(digits) == text[len(text)-sumLength:]
}

func newID() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	return hex.EncodeToString(raw[:])
}

// CheckKey reports whether presented is a key of the connector's that has not expired, and its name. All keys are
// compared, each in constant time.
func (p *Published) CheckKey(presented string) (name string, ok bool) {
	k := p.findKey(presented)
	if k == nil {
		return "", false
	}
	p.directory.usage.touch(k.ID, time.Now())
	return k.Name, true
}

func (p *Published) findKey(presented string) *Key {
	if !wellFormed(presented) {
		return nil
	}
	sum := sha256.Sum256([]byte(presented))
	found := -1
	for i := range p.keys {
		if subtle.ConstantTimeCompare(p.keys[i].Hash, sum[:]) == 1 {
			found = i
		}
	}
	if found < 0 || p.keys[found].expired(time.Now()) {
		return nil
	}
	return &p.keys[found]
}

func (k *Key) expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// AddKey makes a key without limits of its own; see AddLimitedKey.
func (d *Directory) AddKey(ctx context.Context, gateway, connector, name string, expires time.Time) (info KeyInfo, secret string, err error) {
	return d.AddLimitedKey(ctx, gateway, connector, name, expires, KeyLimits{})
}

// AddLimitedKey makes a key for the connector's callers and returns it as secret; it cannot be had again. A zero expires
// means that it does not expire.
func (d *Directory) AddLimitedKey(ctx context.Context, gateway, connector, name string, expires time.Time, limits KeyLimits) (info KeyInfo, secret string, err error) {
	if err := checkKeyName("key", name); err != nil {
		return KeyInfo{}, "", err
	}
	if err := limits.check(); err != nil {
		return KeyInfo{}, "", err
	}
	k, secret := makeKey(name, expires)
	k.From, k.Rate, k.Concurrent = limits.From, limits.Rate, limits.Concurrent
	if k.expired(k.Created) {
		return KeyInfo{}, "", &Invalid{Problems: []string{"expires: a key cannot expire before it is made"}}
	}
	err = d.change(ctx, gateway, connector, func(e entry) (entry, error) {
		if !e.Takes(AuthKey) {
			return e, &Invalid{Problems: []string{fmt.Sprintf("connector %s does not take keys (its auth is %s); publish it with --auth key",
				e.path(), strings.Join(e.Auth, ", "))}}
		}
		if slices.ContainsFunc(e.Keys, func(k Key) bool { return k.Name == name }) {
			return e, fmt.Errorf("key %s of connector %s: %w; revoke it first, or take another name", name, e.path(), ErrExists)
		}
		return e.withKey(k)
	})
	if err != nil {
		return KeyInfo{}, "", err
	}
	return d.info(k), secret, nil
}

func makeKey(name string, expires time.Time) (Key, string) {
	secret := newKey()
	sum := sha256.Sum256([]byte(secret))
	return Key{ID: newID(), Name: name, Hash: sum[:], Hint: secret[:hintChars], Created: time.Now().UTC(), Expires: expires.UTC()}, secret
}

func (l KeyLimits) check() error {
	bad := &Invalid{}
	checkNetworks(l.From, "key", bad)
	if l.Concurrent < 0 {
		bad.add("concurrent: %d is negative; leave it out for no bound", l.Concurrent)
	}
	if len(bad.Problems) > 0 {
		return bad
	}
	return nil
}

// withKey is the entry with one more key. Replaced keys whose overlap has ended make room.
func (e entry) withKey(k Key) (entry, error) {
	keys := slices.DeleteFunc(slices.Clone(e.Keys), func(old Key) bool { return old.Replaced && old.expired(k.Created) })
	if len(keys) >= maxKeys {
		return e, &Invalid{Problems: []string{fmt.Sprintf("connector %s has %d keys already; revoke some first", e.path(), maxKeys)}}
	}
	e.Keys = append(keys, k)
	return e, nil
}

// RotateKey makes a new key in the place of the one of this name or ID, with its limits and, counted from now, its
// lifetime. The old one works for overlap longer, unless it ends before.
func (d *Directory) RotateKey(ctx context.Context, gateway, connector, key string, overlap time.Duration) (info KeyInfo, secret string, err error) {
	if overlap < 0 || overlap > maxOverlap {
		return KeyInfo{}, "", &Invalid{Problems: []string{fmt.Sprintf("overlap: %s is out of bounds (0 to %s)", overlap, maxOverlap)}}
	}
	fresh, secret := makeKey("", time.Time{})
	err = d.change(ctx, gateway, connector, func(e entry) (entry, error) {
		i := slices.IndexFunc(e.Keys, func(k Key) bool { return !k.Replaced && (k.Name == key || k.ID == key) })
		if i < 0 {
			return e, unknownKey(e, key)
		}
		e.Keys = slices.Clone(e.Keys)
		old := &e.Keys[i]
		fresh.Name, fresh.From, fresh.Rate, fresh.Concurrent = old.Name, old.From, old.Rate, old.Concurrent
		if !old.Expires.IsZero() {
			fresh.Expires = fresh.Created.Add(old.Expires.Sub(old.Created))
		}
		old.Replaced = true
		if end := fresh.Created.Add(overlap); old.Expires.IsZero() || end.Before(old.Expires) {
			old.Expires = end
		}
		return e.withKey(fresh)
	})
	if err != nil {
		return KeyInfo{}, "", err
	}
	return d.info(fresh), secret, nil
}

func unknownKey(e entry, key string) error {
	return fmt.Errorf("%w %.80q of connector %s; 'sallyport-relay key list %s' shows its keys", ErrUnknownKey, key, e.path(), e.path())
}

// checkKeyName keeps names fit for logs and tables.
func checkKeyName(what, name string) error {
	bad := name == "" || len(name) > maxKeyName || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.@", r)
	})
	if bad {
		return &Invalid{Problems: []string{fmt.Sprintf(
			"name: %.80q cannot be a %s's name: use 1 to %d letters, digits and - _ . @", name, what, maxKeyName)}}
	}
	return nil
}

// ListKeys returns the keys of a connector, by name.
func (d *Directory) ListKeys(gateway, connector string) ([]KeyInfo, error) {
	e, ok := d.entries.Get(gateway + "/" + connector)
	if !ok {
		return nil, unknownConnector(gateway, connector)
	}
	out := make([]KeyInfo, 0, len(e.Keys))
	for _, k := range e.Keys {
		out = append(out, d.info(k))
	}
	slices.SortFunc(out, func(a, b KeyInfo) int { return cmp.Or(strings.Compare(a.Name, b.Name), a.Created.Compare(b.Created)) })
	return out, nil
}

// RevokeKey takes away the key of this ID, or all of this name: a rotated key and the one it replaces have the same. It
// stops working when the call returns.
func (d *Directory) RevokeKey(ctx context.Context, gateway, connector, key string) error {
	var ids []string
	err := d.change(ctx, gateway, connector, func(e entry) (entry, error) {
		ids = ids[:0]
		e.Keys = slices.DeleteFunc(slices.Clone(e.Keys), func(k Key) bool {
			gone := k.Name == key || k.ID == key
			if gone {
				ids = append(ids, k.ID)
			}
			return gone
		})
		if len(ids) == 0 {
			return e, unknownKey(e, key)
		}
		return e, nil
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		d.usage.forget(id)
	}
	return nil
}

func (d *Directory) info(k Key) KeyInfo {
	return KeyInfo{
		ID: k.ID, Name: k.Name, Hint: k.Hint, Created: k.Created, Expires: k.Expires, LastUsed: d.usage.last(k.ID),
		From: k.From, Rate: k.Rate, Concurrent: k.Concurrent, Replaced: k.Replaced,
	}
}

// change replaces a connector's record.
func (d *Directory) change(ctx context.Context, gateway, name string, fn func(entry) (entry, error)) error {
	e, ok := d.entries.Get(gateway + "/" + name)
	if !ok {
		return unknownConnector(gateway, name)
	}
	err := d.entries.Update(ctx, e.path(), fn)
	if errors.Is(err, store.ErrNotFound) {
		return unknownConnector(gateway, name)
	}
	return err
}
