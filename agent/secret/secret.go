// Package secret is the agent's secrets at rest: passwords and keys that agent.yaml names and does not hold.
//
// On Windows each is sealed with DPAPI for this machine; elsewhere each is a file with mode 0600, or a credential that
// systemd hands to the service ($CREDENTIALS_DIRECTORY). The type Secret keeps a value out of logs and messages. The
// package protects against other accounts of the machine, not against its administrators.
//
//	store, err := secret.Open(dir, os.Getenv("CREDENTIALS_DIRECTORY"))
//	password, err := store.Get("erp-password")
//	use(password.Reveal())
package secret

import (
	"fmt"
	"log/slog"
)

// masked is what a secret looks like wherever it is printed.
const masked = "***"

// A Secret is a value that prints, logs and marshals as ***. Reveal gives the value.
//
// It holds a pointer so that fmt, which does not call methods on unexported fields, prints an address for a Secret that
// sits in another struct.
type Secret struct {
	value *string
}

// New makes a Secret.
func New(value string) Secret { return Secret{value: &value} }

// Reveal gives the value: the one place to look for when reviewing where secrets go.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty says that there is no value.
func (s Secret) Empty() bool { return s.Reveal() == "" }

// String is the mask.
func (s Secret) String() string { return masked }

// GoString is the mask, for %#v.
func (s Secret) GoString() string { return masked }

// Format writes the mask for every verb: %x and %q would not go through String in nested values.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(masked)) }

// LogValue is the mask, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText is the mask, for JSON, YAML and XML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }
