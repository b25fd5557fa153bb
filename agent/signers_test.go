package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/agent/state"
)

func newSigner(t *testing.T) (ed25519.PrivateKey, string) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, SignerName(public)
}

// TestSignedPolicy: who can edit agent.yaml and its signature file, and has no key, changes nothing.
func TestSignedPolicy(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir, err := state.Open(filepath.Join(home, "state"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "agent.yaml")
	key, name := newSigner(t)
	other, otherName := newSigner(t)
	load := func(step, text string, by ed25519.PrivateKey, ok bool) {
		t.Helper()
		sig := ""
		if by != nil {
			sig = SignConfig(by, []byte(text))
		}
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(file+SignatureSuffix, []byte(sig), 0o600)); err != nil {
			t.Fatal(err)
		}
		c, err := ReadSigned(file, dir)
		if (err == nil) != ok || !ok && (c != nil || !errors.Is(err, ErrUnsigned)) {
			t.Errorf("%s: %v", step, err)
		}
	}
	signers := func(names ...string) string { return minimal + "policy_signers: [" + strings.Join(names, ", ") + "]\n" }
	load("no signers yet", minimal, nil, true)
	load("signers, and nothing signed", signers(name), nil, false)
	load("signed by a stranger", signers(name), other, false)
	load("signed: the key is pinned", signers(name), key, true)
	load("an unsigned change", signers(name)+"links: 3\n", nil, false)
	load("the line is taken out", minimal, nil, false)
	load("the line is replaced", signers(otherName), other, false)
	load("taken out, signed", minimal, key, true)
	load("unsigned after that", minimal, nil, false)
	load("another key takes over, signed by the old one", signers(otherName), key, true)
	load("the old one", signers(otherName), key, false)
	load("the new one", signers(otherName)+"links: 4\n", other, true)
	if err := os.Remove(file + SignatureSuffix); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSigned(file, dir); !errors.Is(err, ErrUnsigned) {
		t.Errorf("without a signature file: %v", err)
	}
	if err := ForgetSigners(dir); err != nil {
		t.Fatal(err)
	}
	load("forgotten", minimal, nil, true)
}

// TestUnsignedChange: a running agent goes on by the policy before, and says so on record.
func TestUnsignedChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	key, name := newSigner(t)
	data, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data) + "policy_signers: [" + name + "]\n"
	if err := os.WriteFile(r.file+SignatureSuffix, []byte(SignConfig(key, []byte(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	r.write(text)
	r.agent.reread()
	if list, err := Signers(r.state); err != nil || len(list) != 1 || list[0] != name {
		t.Fatalf("pinned: %q, %v", list, err)
	}
	before := r.agent.now.Load().hash
	r.write(strings.Replace(text, "- POST /orders", "- '* /**'", 1))
	r.agent.reread()
	if after := r.agent.now.Load().hash; after != before {
		t.Error("an unsigned change is in force")
	}
	if !strings.Contains(r.log.String(), "policy sign") {
		t.Error("the log does not say what to do")
	}
	r.stop()
	if !strings.Contains(r.record(), `"problem":"unsigned"`) {
		t.Error("the unsigned change is not on record")
	}
}
