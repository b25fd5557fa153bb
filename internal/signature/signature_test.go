package signature

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
)

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func TestBy(t *testing.T) {
	t.Parallel()
	one, two := key(1), key(2)
	name := Name(one.Public().(ed25519.PublicKey))
	data := []byte("what is signed")
	line := Sign(one, "a purpose\n", data)
	for what, c := range map[string]struct {
		data, lines, purpose string
		trusted              []string
		want                 string
	}{
		"signed":            {"what is signed", line, "a purpose\n", []string{name}, name},
		"among others":      {"what is signed", "nonsense\n" + Sign(two, "a purpose\n", data) + line, "a purpose\n", []string{name}, name},
		"other text":        {"what is signed!", line, "a purpose\n", []string{name}, ""},
		"other purpose":     {"what is signed", line, "another\n", []string{name}, ""},
		"moved boundary":    {"purpose\nwhat is signed", line, "a ", []string{name}, name}, // why purposes end with a line feed, and none begins another
		"nobody is trusted": {"what is signed", line, "a purpose\n", nil, ""},
		"another's":         {"what is signed", Sign(two, "a purpose\n", data), "a purpose\n", []string{name}, ""},
		"another's name":    {"what is signed", name + " " + strings.Fields(Sign(two, "a purpose\n", data))[1], "a purpose\n", []string{name}, ""},
		"too far down":      {"what is signed", strings.Repeat("\n", maxLines) + line, "a purpose\n", []string{name}, ""},
		"empty":             {"what is signed", "", "a purpose\n", []string{name}, ""},
	} {
		if got := By([]byte(c.data), []byte(c.lines), c.purpose, c.trusted); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	public := key(1).Public().(ed25519.PublicKey)
	if got, ok := ParseName(Name(public)); !ok || !got.Equal(public) {
		t.Errorf("%v, %v", got, ok)
	}
	for _, bad := range []string{"", "ed25519:", "ed25519:AAAA", strings.TrimPrefix(Name(public), prefix), "rsa:" + Name(public)} {
		if _, ok := ParseName(bad); ok {
			t.Errorf("%q is a key", bad)
		}
	}
}

// FuzzBy: no signature file makes an unsigned text signed.
func FuzzBy(f *testing.F) {
	f.Add([]byte("ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= AAAA\n"))
	f.Add([]byte("\n\n x y z"))
	f.Add([]byte(Sign(key(1), "another\n", []byte("text"))))
	name := Name(key(1).Public().(ed25519.PublicKey))
	f.Fuzz(func(t *testing.T, lines []byte) {
		if by := By([]byte("text"), lines, "a purpose\n", []string{name}); by != "" {
			t.Errorf("%q signs", lines)
		}
	})
}
