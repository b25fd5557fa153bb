package connector

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	d, end := openDirectory(t, t.TempDir())
	publish(t, d, Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}})
	publish(t, d, Connector{Gateway: "plant1", Name: "stock", Auth: []string{AuthKey}})
	add := func(name string, expires time.Time) string {
		t.Helper()
		info, secret, err := d.AddKey(t.Context(), "plant1", "orders", name, expires)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(secret, info.Hint) || len(info.Hint) > 8 || info.Name != name {
			t.Errorf("info %+v", info)
		}
		return secret
	}
	first, second := add("first", time.Time{}), add("second", time.Now().Add(time.Hour))
	brief := add("brief", time.Now().Add(20*time.Millisecond))
	time.Sleep(30 * time.Millisecond) // the key's life; the store runs in real time
	check := func(key string) string {
		name, ok := d.ByPath("plant1", "orders").CheckKey(key)
		if ok != (name != "") {
			t.Errorf("CheckKey gives %q, %v", name, ok)
		}
		return name
	}
	for key, want := range map[string]string{
		first: "first", second: "second", brief: "", "": "", "sp_": "", first[:len(first)-1]: "", first + "x": "",
		strings.ToUpper(first): "", newKey(): "", " " + first: "", first[3:]: "",
	} {
		if got := check(key); got != want {
			t.Errorf("a key of %d bytes is %q, want %q", len(key), got, want)
		}
	}
	if _, ok := d.ByPath("plant1", "stock").CheckKey(first); ok {
		t.Error("a key opens another connector")
	}
	if _, _, err := d.AddKey(t.Context(), "plant1", "orders", "first", time.Time{}); !errors.Is(err, ErrExists) {
		t.Errorf("a name twice: %v", err)
	}
	for _, bad := range []string{"", "a b", "a\n", strings.Repeat("x", 65), "ä"} {
		if _, _, err := d.AddKey(t.Context(), "plant1", "orders", bad, time.Time{}); err == nil {
			t.Errorf("%q is taken for a key's name", bad)
		}
	}
	if _, _, err := d.AddKey(t.Context(), "plant1", "orders", "past", time.Now().Add(-time.Hour)); err == nil {
		t.Error("a key that has expired was made")
	}
	if err := d.RevokeKey(t.Context(), "plant1", "orders", "first"); err != nil {
		t.Fatal(err)
	}
	if check(first) != "" || check(second) != "second" {
		t.Error("the wrong key was revoked, or none")
	}
	if err := d.RevokeKey(t.Context(), "plant1", "orders", "first"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("revoking twice: %v", err)
	}
	end()
}

// TestLastUseSurvivesARestart: it is written down when the relay ends in order.
func TestLastUseSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, end := openDirectory(t, dir)
	publish(t, d, Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}})
	info, secret, err := d.AddKey(t.Context(), "plant1", "orders", "flow", time.Time{})
	if err != nil || !info.LastUsed.IsZero() {
		t.Fatalf("%+v, %v", info, err)
	}
	before := time.Now().Add(-time.Second)
	d.ByPath("plant1", "orders").CheckKey(secret)
	for _, d := range []*Directory{d, reopened(t, dir, end)} {
		keys, err := d.ListKeys("plant1", "orders")
		if err != nil || len(keys) != 1 || keys[0].LastUsed.Before(before) {
			t.Errorf("keys %+v, %v", keys, err)
		}
	}
}

// TestLastUseIsWrittenOnceAMinute looks at what waits to be written, in fake time.
func TestLastUseIsWrittenOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &usage{log: slog.New(slog.DiscardHandler), pending: map[string]bool{}}
		taken := func() int {
			n := len(u.pending)
			clear(u.pending)
			return n
		}
		total := 0
		for range 180 { // three minutes of a call a second
			u.touch("key", time.Now())
			total += taken()
			time.Sleep(time.Second)
		}
		if total != 3 {
			t.Errorf("%d writes in three minutes, want 3", total)
		}
	})
}

// TestKeysHaveForm: keys are recognisable, differ, and hold all their bits.
func TestKeysHaveForm(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		k := newKey()
		if !wellFormed(k) || seen[k] {
			t.Fatalf("bad or repeated key of %d bytes", len(k))
		}
		seen[k] = true
	}
	if got := encode62(bytes.Repeat([]byte{0xff}, keyBytes), keyDigits+1); got[0] != '0' {
		t.Errorf("256 bits do not fit %d digits: %s", keyDigits, got)
	}
}

// FuzzCheckKey: nothing that is presented opens a connector or breaks anything but its own key.
func FuzzCheckKey(f *testing.F) {
	p := &Published{keys: []Key{{Name: "k", Hash: make([]byte, 32)}}}
	f.Add("sp_")
	f.Add(newKey())
	f.Add(strings.Repeat("sp_", 30))
	f.Fuzz(func(t *testing.T, presented string) {
		if name, ok := p.CheckKey(presented); ok {
			t.Fatalf("%q opens as %q", presented, name)
		}
	})
}
