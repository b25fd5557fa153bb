package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"sallyport/agent/secret"
	"sallyport/agent/state"
)

// The audit record is sealed by the agent's own key. An agent whose tokens say who it is has no such key, and gets one for
// the record alone.

// recordKeyFile is the key that seals the record of an agent without a key of its own.
const recordKeyFile = "record-key.json"

// maxFormer bounds the former keys that are remembered.
const maxFormer = 256

// Signer seals the audit record with the agent's key.
func (i *Identity) Signer() crypto.Signer { return i.key }

// Signer seals the audit record with the key in use.
func (l *Live) Signer() crypto.Signer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id.Signer()
}

// remember keeps the fingerprint of the present key, which is about to be replaced: seals that it made must stay provable.
func (i *Identity) remember() {
	i.former = append(append([]string(nil), i.former...), i.Fingerprint())
	i.former = i.former[max(0, len(i.former)-maxFormer):]
}

type recordKey struct {
	Version int    `json:"v"`
	Public  string `json:"public"`
	Seed    []byte `json:"seed"`
}

// RecordKey is the key for the record of an agent without a key of its own. The first call makes it.
func RecordKey(dir state.Dir) (crypto.Signer, error) {
	data, err := dir.Read(recordKeyFile, fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return newRecordKey(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the audit record: %w", err)
	}
	var f recordKey
	if err := json.Unmarshal(data, &f); err != nil || f.Version != fileVersion {
		return nil, fmt.Errorf("the key of the audit record, %s, is damaged: restore it from a backup, or move it away to have another made", dir.Path(recordKeyFile))
	}
	seed, err := secret.Unseal(recordKeyFile, f.Seed)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the key of the audit record, %s, cannot be unsealed: restore it from a backup, or move it away to have another made", dir.Path(recordKeyFile))
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func newRecordKey(dir state.Dir) (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the audit record: %w", err)
	}
	sealed, err := secret.Seal(recordKeyFile, key.Seed())
	if err != nil {
		return nil, fmt.Errorf("seal the key of the audit record: %w", err)
	}
	data, err := json.Marshal(recordKey{fileVersion, fingerprint(key), sealed})
	if err != nil {
		return nil, err
	}
	return key, dir.Write(recordKeyFile, data)
}

// RecordKeys are the fingerprints of all keys that may have sealed the record in dir: the present and former ones, those of
// identities that were set aside, and that of the record alone. Nothing is unsealed for it.
func RecordKeys(dir state.Dir) ([]string, error) {
	names, err := dir.Names()
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, name := range names {
		own := strings.HasPrefix(name, "identity.") && strings.HasSuffix(name, ".json")
		if !own && name != recordKeyFile {
			continue
		}
		data, err := dir.Read(name, fileLimit)
		if err != nil {
			return nil, fmt.Errorf("read the keys of the audit record: %w", err)
		}
		var f file
		if err := json.Unmarshal(data, &f); err != nil {
			return nil, fmt.Errorf("read the keys of the audit record: %s is damaged: restore it from a backup, or move it away", dir.Path(name))
		}
		keys = append(keys, f.Public)
		if f.NextPublic != "" {
			keys = append(keys, f.NextPublic)
		}
		keys = append(keys, f.Former...)
	}
	return keys, nil
}

// RelayKey is the fingerprint of the relay's signing key that the identity in dir has pinned; empty if there is none. Nothing
// is unsealed for it.
func RelayKey(dir state.Dir) (string, error) {
	data, err := dir.Read(fileName, fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("read which relay the agent has pinned: %w", err)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return "", fmt.Errorf("read which relay the agent has pinned: %s is damaged: restore it from a backup", dir.Path(fileName))
	}
	return f.RelayKey, nil
}
