//go:build unix

package relay

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/test/loud"
)

func TestFilesOfACertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair := func(name string) *TLS {
		files := TLS{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
		writePair(t, files, name)
		return &files
	}
	one, two := pair("one"), pair("two")
	for name, c := range map[string]struct {
		tls  *TLS
		want []string // of each problem
	}{
		"none":  {nil, nil},
		"good":  {one, nil},
		"acme":  {&TLS{ACME: &ACME{}}, nil},
		"gone":  {&TLS{Cert: one.Cert, Key: dir + "/none.key"}, []string{"none.key: no such file"}},
		"both":  {&TLS{Cert: dir + "/none.crt", Key: dir + "/none.key"}, []string{"none.crt: no such file", "none.key: no such file"}},
		"mixed": {&TLS{Cert: one.Cert, Key: two.Key}, []string{"private key does not match"}},
	} {
		config := Config{TLS: c.tls, Data: t.TempDir()}
		got := config.CheckFiles()
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %q", name, got, c.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i].Error(), c.want[i]) {
				t.Errorf("%s: %v, want %q", name, got[i], c.want[i])
			}
		}
	}
}

func TestADataFolderThatIsEverybodys(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for mode, want := range map[fs.FileMode]int{0o700: 0, 0o755: 0, 0o770: 0, 0o777: 1, 0o702: 1} {
		if err := os.Chmod(data, mode); err != nil {
			t.Fatal(err)
		}
		config := Config{Data: data}
		if got := config.CheckFiles(); len(got) != want || want > 0 && !strings.Contains(got[0].Error(), "chmod go-w") {
			t.Errorf("%04o: %v", mode, got)
		}
	}
}

// TestTheAccountCannotReadTheKey: what root can read and the relay's account cannot, the file or a folder on the way, is said
// with the command that mends it.
func TestTheAccountCannotReadTheKey(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		loud.Missing(t, "root", "that 'config check' finds files which only root can read is not seen")
	}
	dir, err := os.MkdirTemp("", "sallyport-files-") // t.TempDir's parents are private
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const nobody = 65534
	files := TLS{Cert: filepath.Join(dir, "relay.crt"), Key: filepath.Join(dir, "relay.key")}
	writePair(t, files, "one")
	data := t.TempDir()
	if err := os.Chown(data, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	config := Config{TLS: &files, Data: data}
	mode := func(path string, mode fs.FileMode, want ...string) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, p := range config.CheckFiles() {
			said = append(said, p.Error())
		}
		text := strings.Join(said, "\n")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("mode %o of %s: %q, want %q", mode, path, text, w)
			}
		}
		if len(want) == 0 && text != "" {
			t.Errorf("mode %o of %s: %q", mode, path, text)
		}
	}
	if err := os.Chmod(files.Cert, 0o644); err != nil {
		t.Fatal(err)
	}
	mode(dir, 0o755, "relay.key: the relay's account nobody cannot read it")
	mode(files.Key, 0o644)
	mode(dir, 0o700, "nobody cannot read it ("+dir+" has mode 0700)", "chmod g+x "+dir)
	mode(dir, 0o755)
	mode(files.Key, 0o600, "mend with: chgrp ", " "+files.Key+" && chmod g+r "+files.Key)
	if err := os.Chown(files.Key, 0, nobody); err != nil {
		t.Fatal(err)
	}
	mode(files.Key, 0o640)
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	of := &syscall.Stat_t{Uid: 0, Gid: 7}
	for mode, want := range map[fs.FileMode]bool{0o600: false, 0o640: true, 0o604: false, 0o644: true} {
		if allowed(5, []string{"5", "7"}, of, mode, 4) != want {
			t.Errorf("a member of the group, mode %o", mode)
		}
	}
	if !allowed(5, []string{"5"}, of, 0o604, 4) || allowed(5, []string{"5"}, of, 0o640, 4) || allowed(5, []string{"5"}, of, 0o744, 1) {
		t.Error("others")
	}
	if !allowed(0, nil, of, 0o400, 4) || allowed(0, nil, of, 0o044, 4) {
		t.Error("the owner")
	}
}
