// Package signature is how a key of ours stands for a file: agent.yaml (policy_signers) and the checksums of a release
// (update.signers). A signature file has one line for each key: its name (ed25519:...), a blank, and the signature in base64.
//
// What is signed begins with a purpose, so that a signature of one kind of file counts for no other, whatever their texts.
//
//	line := signature.Sign(key, "sallyport release v1\n", data)
//	who := signature.By(data, lines, "sallyport release v1\n", trusted) // "" for nobody
package signature

import (
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"strings"
)

const (
	prefix = "ed25519:"
	// maxLines bounds the signatures of one file that are looked at.
	maxLines = 16
	// MaxFile bounds a signature file, in bytes.
	MaxFile = 64 << 10
)

// Name is a public key as configurations have it.
func Name(key ed25519.PublicKey) string { return prefix + base64.StdEncoding.EncodeToString(key) }

// ParseName reads what Name wrote.
func ParseName(s string) (ed25519.PublicKey, bool) {
	text, ok := strings.CutPrefix(s, prefix)
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	return key, ok && err == nil && len(key) == ed25519.PublicKeySize
}

// Sign gives the line by which a key stands for data.
func Sign(key ed25519.PrivateKey, purpose string, data []byte) string {
	sig := ed25519.Sign(key, append([]byte(purpose), data...))
	return Name(key.Public().(ed25519.PublicKey)) + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
}

// By is the first of the trusted keys whose signature of data is in lines, "" for none.
func By(data, lines []byte, purpose string, trusted []string) string {
	signed := append([]byte(purpose), data...)
	for i, line := range strings.Split(string(lines), "\n") {
		if i >= maxLines {
			break
		}
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, ok := ParseName(name)
		sig, err := base64.StdEncoding.Strict().DecodeString(text)
		if ok && err == nil && slices.Contains(trusted, name) && ed25519.Verify(key, signed, sig) {
			return name
		}
	}
	return ""
}
