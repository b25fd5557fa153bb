// Package identity is who this agent is: an Ed25519 key that is made on this machine and never leaves it, and the relay
// and gateway that it belongs to. It is one private file, identity.json in the state directory.
//
// It does not talk to the relay: agent/link joins and signs on with it. Another kind of identity (an Entra token) will
// be another type that makes a claim as Identity.Claim does; agent/link asks for no more than that.
//
//	id, err := identity.Load(dir)      // ErrNone: this agent has not joined
//	who, err := id.Claim(ctx)
package identity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sallyport/agent/secret"
	"sallyport/agent/state"
	"sallyport/tunnel"
)

const (
	fileName    = "identity.json"
	fileVersion = 1
	fileLimit   = 64 << 10
)

// ErrNone is wrapped by Load's error when this agent has no identity yet.
var ErrNone = errors.New("this agent has not joined a gateway yet")

// An Identity is an agent's own key and what it is good for.
type Identity struct {
	// Relay is the URL of the relay that the agent joined at: https://relay.example.com.
	Relay string
	// RelayKey is the fingerprint of the relay's signing key, which the relay has to prove on every link.
	RelayKey string
	// Gateway is the gateway that the agent answers for.
	Gateway string
	// Agent is the ID that the relay gave; empty until Joined.
	Agent string
	// Created is when the key was made.
	Created time.Time
	// Joined says that the relay has confirmed the membership.
	Joined bool
	// Pending says that the relay confirmed it on condition: an admin has yet to approve. It is not kept, for the relay may
	// know better by now.
	Pending bool

	key ed25519.PrivateKey
	// next is the key that is to take key's place. The relay may know of it already, or not.
	next ed25519.PrivateKey
	// former are the fingerprints of keys that were replaced, the oldest first.
	former []string
}

// New makes a key. Nothing is on the disk before Save.
func New(relay, relayKey, gateway string) (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the agent's key: %w", err)
	}
	return &Identity{
		Relay: relay, RelayKey: relayKey, Gateway: gateway,
		Created: time.Now().UTC().Truncate(time.Second), key: key,
	}, nil
}

// Fingerprint names the public key, as the relay shows it too.
func (i *Identity) Fingerprint() string {
	return fingerprint(i.key)
}

func fingerprint(key ed25519.PrivateKey) string {
	return tunnel.Fingerprint(key.Public().(ed25519.PublicKey))
}

// Claim is how the agent proves itself on a link. The instance, slot and generation are the link's to fill in.
func (i *Identity) Claim(context.Context) (tunnel.AgentIdentity, error) {
	return tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: i.Gateway, Agent: i.Agent},
		Key:   i.key,
	}, nil
}

// JoinClaim is how the agent becomes a member: it proves its new key and the one-time code, which is never sent.
func (i *Identity) JoinClaim(code string) tunnel.AgentIdentity {
	return tunnel.AgentIdentity{
		Claim:   tunnel.Claim{Kind: tunnel.KindJoin, Gateway: i.Gateway},
		Key:     i.key,
		CodeKey: tunnel.JoinKey(code),
	}
}

// LogValue keeps the key out of logs.
func (i *Identity) LogValue() slog.Value {
	return slog.GroupValue(slog.String("gateway", i.Gateway), slog.String("agent", i.Agent), slog.String("key", i.Fingerprint()))
}

// String keeps the key out of what is printed.
func (i *Identity) String() string {
	return fmt.Sprintf("agent %q of gateway %s, key %s", i.Agent, i.Gateway, i.Fingerprint())
}

// GoString keeps the key out of %#v.
func (i *Identity) GoString() string { return i.String() }

// A file is the form on the disk.
type file struct {
	Version  int       `json:"v"`
	Relay    string    `json:"relay"`
	RelayKey string    `json:"relay_key"`
	Gateway  string    `json:"gateway"`
	Agent    string    `json:"agent,omitempty"`
	Joined   bool      `json:"joined"`
	Created  time.Time `json:"created"`
	Alg      string    `json:"alg"`
	Public   string    `json:"public"` // the fingerprint, which finds a damaged seed
	Seed     []byte    `json:"seed"`   // sealed (agent/secret): readable off Windows, DPAPI on Windows

	// The key that is to take the place of the first, while it is being replaced.
	NextPublic string `json:"next_public,omitempty"`
	NextSeed   []byte `json:"next_seed,omitempty"`

	// The fingerprints of the keys before: they have sealed the audit record.
	Former []string `json:"former,omitempty"`
}

// Save writes the identity as a whole: after a crash there is the old file or the new one.
func (i *Identity) Save(dir state.Dir) error {
	sealed, err := secret.Seal(fileName, i.key.Seed())
	if err != nil {
		return fmt.Errorf("seal the agent's key: %w", err)
	}
	f := file{
		Version: fileVersion, Relay: i.Relay, RelayKey: i.RelayKey, Gateway: i.Gateway, Agent: i.Agent,
		Joined: i.Joined, Created: i.Created, Alg: "ed25519", Public: i.Fingerprint(), Seed: sealed,
		Former: i.former,
	}
	if i.next != nil {
		if f.NextSeed, err = secret.Seal(fileName, i.next.Seed()); err != nil {
			return fmt.Errorf("seal the agent's next key: %w", err)
		}
		f.NextPublic = fingerprint(i.next)
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return dir.Write(fileName, append(data, '\n'))
}

// Load reads the identity. A file that others can read, or that is damaged, is an error that says how to mend it.
func Load(dir state.Dir) (*Identity, error) {
	data, err := dir.Read(fileName, fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s; run 'sallyport-agent join'", ErrNone, dir.Path(fileName))
	}
	if err != nil {
		return nil, fmt.Errorf("read the agent's identity: %w", err)
	}
	id, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("the agent's identity %s is damaged: %w; restore it from a backup, or move it away and join again",
			dir.Path(fileName), err)
	}
	return id, nil
}

// parse reads the file's content. Its errors never quote the content.
func parse(data []byte) (*Identity, error) {
	var f file
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&f); err != nil {
		return nil, errors.New("it is not whole JSON of the expected form")
	}
	if dec.More() {
		return nil, errors.New("something follows its end")
	}
	if f.Version != fileVersion || f.Alg != "ed25519" {
		return nil, fmt.Errorf("it was written by another version (format %d, key %.20q)", f.Version, f.Alg)
	}
	if f.Relay == "" || f.RelayKey == "" || f.Gateway == "" || f.Joined && f.Agent == "" {
		return nil, errors.New("it lacks the relay, the relay's key, the gateway or the agent's ID")
	}
	id := &Identity{
		Relay: f.Relay, RelayKey: f.RelayKey, Gateway: f.Gateway, Agent: f.Agent, Created: f.Created, Joined: f.Joined,
		former: f.Former,
	}
	var err error
	if id.key, err = unsealKey(f.Seed, f.Public); err != nil {
		return nil, err
	}
	if len(f.NextSeed) > 0 {
		if id.next, err = unsealKey(f.NextSeed, f.NextPublic); err != nil {
			return nil, fmt.Errorf("its next key: %w", err)
		}
	}
	return id, nil
}

func unsealKey(sealed []byte, public string) (ed25519.PrivateKey, error) {
	seed, err := secret.Unseal(fileName, sealed)
	if err != nil {
		return nil, fmt.Errorf("unseal the key: %w", err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("its key has %d bytes instead of %d", len(seed), ed25519.SeedSize)
	}
	key := ed25519.NewKeyFromSeed(seed)
	if fingerprint(key) != public {
		return nil, errors.New("its key does not match its fingerprint")
	}
	return key, nil
}

// PutBack undoes SetAside, which gave path: in place of a key that nobody has admitted.
func PutBack(dir state.Dir, path string) error {
	name := filepath.Base(path)
	data, err := dir.Read(name, fileLimit)
	if err == nil {
		err = dir.Write(fileName, data)
	}
	if err == nil {
		err = dir.Remove(name)
	}
	if err != nil {
		return fmt.Errorf("put the old identity back, which is in %s: %w", path, err)
	}
	return nil
}

// SetAside renames the identity, so that another can take its place and nothing is lost. It gives the new name.
func SetAside(dir state.Dir, now time.Time) (string, error) {
	data, err := dir.Read(fileName, fileLimit)
	if err != nil {
		return "", fmt.Errorf("set the old identity aside: %w", err)
	}
	name := "identity." + now.UTC().Format("20060102T150405Z") + ".json"
	for n := 2; ; n++ { // never over one that was set aside in the same second
		if _, err := os.Lstat(dir.Path(name)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("identity.%s-%d.json", now.UTC().Format("20060102T150405Z"), n)
	}
	if err := dir.Write(name, data); err != nil {
		return "", fmt.Errorf("set the old identity aside: %w", err)
	}
	return dir.Path(name), dir.Remove(fileName)
}
