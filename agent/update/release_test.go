package update

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport/internal/signature"
)

func signer(n byte) (ed25519.PrivateKey, string) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	return key, signature.Name(key.Public().(ed25519.PublicKey))
}

// sums is a SumsFile of files by their names.
func sums(files map[string][]byte) []byte {
	var b bytes.Buffer
	for name, data := range files {
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(data), name)
	}
	return b.Bytes()
}

func TestRelease(t *testing.T) {
	t.Parallel()
	key, name := signer(1)
	other, _ := signer(2)
	text := sums(map[string][]byte{
		"sallyport-agent-1.2.0-linux-amd64.tar.gz":     []byte("a"),
		"sallyport-agent-1.10.0-rc2-linux-amd64":       []byte("b"),
		"sallyport-agent-1.10.0-linux-amd64.tar.gz":    []byte("c"),
		"sallyport-agent-1.10.0-windows-amd64.zip":     []byte("d"),
		"sallyport-agent-1.10.0-linux-amd64.cdx.json":  []byte("e"),
		"sallyport-relay-1.10.0-linux-amd64.tar.gz":    []byte("f"),
		"container/agent/linux/amd64/sallyport-agent":  []byte("g"),
		"sallyport-agent_1.10.0-1_amd64.deb":           []byte("h"),
		"../sallyport-agent-9.9.9-linux-amd64":         []byte("i"),
		"sallyport-agent-1.10.0-linux-amd64.tar.gz.sh": []byte("j"),
	})
	line, err := Sign(key, text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ReadRelease(text, []byte(line), []string{name})
	if err != nil || r.Signer != name {
		t.Fatalf("%+v, %v", r, err)
	}
	var got []string
	for _, p := range r.For("linux", "amd64") {
		got = append(got, p.Version)
	}
	if strings.Join(got, " ") != "1.10.0 1.10.0-rc2 1.2.0" {
		t.Errorf("for linux/amd64: %v", got)
	}
	if p, err := r.Of([]byte("d")); err != nil || p.Name != "sallyport-agent-1.10.0-windows-amd64.zip" || p.OS != "windows" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, data := range []string{"x", "f", "e", "h"} {
		if p, err := r.Of([]byte(data)); err == nil {
			t.Errorf("%s is %+v", data, p)
		}
	}
	wrong, err := Sign(other, text)
	if err != nil {
		t.Fatal(err)
	}
	policy := signature.Sign(key, "sallyport agent.yaml v1\n", text)
	for what, lines := range map[string]string{"another's": wrong, "a policy's": policy, "none": ""} {
		if _, err := ReadRelease(text, []byte(lines), []string{name}); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s signature: %v", what, err)
		}
	}
	if _, err := ReadRelease(append(text, '\n'), []byte(line), []string{name}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("a changed list: %v", err)
	}
	if _, err := Sign(key, []byte("agent.yaml: no\n")); err == nil {
		t.Error("anything can be signed as a release")
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	order := []string{"0.0.0-3.g1", "0.1.0-dev5.gab", "0.1.0-dev12.gab", "0.1.0", "0.1.1-rc2", "0.1.1-rc10", "0.1.1", "0.2.0", "0.10.0", "1.0.0", "1.0.0.1"}
	for i, a := range order {
		for j, b := range order {
			if got := Compare(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
	for v, want := range map[string]bool{"1.2.3": true, "1.2.3-dev5.gab": true, "devel": false, "devel-0123": false, "1.2": false, "": false, "1.2.3-linux-amd64": false} {
		if IsVersion(v) != want {
			t.Errorf("%q is a version: %v", v, !want)
		}
	}
}

// FuzzSums: no list makes the reader fall over, and what it gives is what a package of ours is called.
func FuzzSums(f *testing.F) {
	f.Add(sums(map[string][]byte{"sallyport-agent-1.2.0-linux-amd64.tar.gz": []byte("a")}))
	f.Add([]byte("abc  x\n"))
	f.Add([]byte(strings.Repeat("0", 64) + " *sallyport-agent-1.2.0-rc1-windows-arm64.exe\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseSums(text)
		for _, p := range list {
			if err != nil || !IsVersion(p.Version) || strings.ContainsAny(p.Name, `/\`) || p.OS == "" || p.Arch == "" {
				t.Errorf("%+v, %v", p, err)
			}
			if Compare(p.Version, p.Version) != 0 {
				t.Errorf("%s is not itself", p.Version)
			}
		}
	})
}

// FuzzProgram: a package that is signed and broken all the same is an error, not more.
func FuzzProgram(f *testing.F) {
	f.Add([]byte("PK\x03\x04"), ".zip")
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ".tar.gz")
	f.Add([]byte("\x7fELF"), "")
	f.Add([]byte("MZ"), ".exe")
	f.Fuzz(func(t *testing.T, data []byte, form string) {
		p := Package{OS: "linux", Arch: "amd64", form: form}
		if program, err := p.Program(data, "linux", "amd64"); err == nil {
			t.Errorf("%d bytes are a program", len(program))
		}
	})
}
