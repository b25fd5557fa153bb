package update

import (
	"debug/pe"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestWhoMayFollowASignedProgram(t *testing.T) {
	const ours, theirs = "CN=Example, O=Example AG", "CN=Example, O=Other AG"
	bad := errors.New("the root is not trusted")
	for name, c := range map[string]struct {
		now, next seal
		ok        bool
	}{
		"unsigned after unsigned":           {seal{}, seal{}, true},
		"signed after unsigned":             {seal{}, seal{signed: true, publisher: theirs}, true},
		"broken after unsigned":             {seal{}, seal{signed: true, wrong: bad}, true},
		"the same publisher":                {seal{signed: true, publisher: ours}, seal{signed: true, publisher: ours}, true},
		"unsigned after signed":             {seal{signed: true, publisher: ours}, seal{}, false},
		"another publisher":                 {seal{signed: true, publisher: ours}, seal{signed: true, publisher: theirs}, false},
		"a signature that is not good":      {seal{signed: true, publisher: ours}, seal{signed: true, publisher: ours, wrong: bad}, false},
		"after a signature that went bad":   {seal{signed: true, publisher: ours, wrong: bad}, seal{signed: true, publisher: ours}, false},
		"two certificates that name nobody": {seal{signed: true}, seal{signed: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.now.admits(c.next); (err == nil) != c.ok || !c.ok && !errors.Is(err, ErrPublisher) {
				t.Errorf("got %v, want one: %v", err, !c.ok)
			}
		})
	}
}

func TestSignatureInAProgramIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.exe")
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./cmd/sallyport-agent")
	c.Dir, c.Env = "testdata", append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=windows", "GOARCH=amd64")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if signed, err := isSigned(path); signed || err != nil {
		t.Errorf("a fresh program: signed %v, %v", signed, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header := int(binary.LittleEndian.Uint32(data[0x3c:])) + 4 + binary.Size(pe.FileHeader{})
	directory := header + 112 // in an optional header of 64 bits
	binary.LittleEndian.PutUint32(data[directory+8*peSecurity+4:], 8)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if signed, err := isSigned(path); !signed || err != nil {
		t.Errorf("a program with a certificate table: signed %v, %v", signed, err)
	}
	if err := os.WriteFile(path, []byte("MZ"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := isSigned(path); err == nil {
		t.Error("what is no program has no error")
	}
}
