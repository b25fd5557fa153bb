package identity

import (
	"crypto/ed25519"
	"slices"
	"testing"
	"time"

	"sallyport/agent/state"
	"sallyport/tunnel"
)

// Whoever verifies the record finds every key that this agent ever had: replaced, set aside, and that of the record alone.
func TestRecordKeysAreRemembered(t *testing.T) {
	t.Parallel()
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for range 2 {
		id, err := New("https://relay.example.com", "sha256:relay", "g")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			want = append(want, id.Fingerprint())
			if err := id.Prepare(dir); err != nil {
				t.Fatal(err)
			}
			want = append(want, fingerprint(id.next))
			if err := id.Promote(dir, time.Now()); err != nil {
				t.Fatal(err)
			}
			if id, err = Load(dir); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := SetAside(dir, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	first, err := RecordKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := RecordKey(dir)
	if err != nil || !again.Public().(ed25519.PublicKey).Equal(first.Public()) {
		t.Errorf("the second call gave another key: %v", err)
	}
	want = append(want, tunnel.Fingerprint(first.Public().(ed25519.PublicKey)))
	got, err := RecordKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range want {
		if !slices.Contains(got, key) {
			t.Errorf("key %s is not remembered", key)
		}
	}
}
