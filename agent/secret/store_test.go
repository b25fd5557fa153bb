package secret

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sallyport/agent/state"
)

func newStore(t *testing.T, credentials string) (*Store, state.Dir) {
	t.Helper()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, credentials)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestSetGetListRemove(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t, "")
	for _, value := range []string{"first", "täglich neu\nzweite Zeile"} {
		if err := s.Set("erp-password", New(value)); err != nil {
			t.Fatal(err)
		}
		got, err := s.Get("erp-password")
		if err != nil || got.Reveal() != value {
			t.Fatalf("Get = %q, %v; want %q", got.Reveal(), err, value)
		}
	}
	info, err := os.Stat(dir.Path("secrets/erp-password.secret"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v; want mode 0600", info, err)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	want := []Info{{Name: "erp-password", Source: SourceStore}}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(Info{}, "Changed")); diff != "" {
		t.Error(diff)
	}
	if err := s.Remove("erp-password"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"Get": second(s.Get("erp-password")), "Remove": s.Remove("erp-password")} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of a removed secret: %v, want ErrNotFound", what, err)
		}
	}
}

func second(_ Secret, err error) error { return err }

func TestNames(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, "")
	for _, name := range []string{"a", "erp-password", "a.b_c-1", strings.Repeat("x", 63), "console", "com10"} {
		if err := s.Set(name, New("v")); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "../x", "a/b", `a\b`, "/etc/passwd", "A", ".hidden", "-rf", "a b", "a\x00", "a\n", "ä", "a..b", "a.",
		strings.Repeat("x", 64), "con", "nul.txt", "com1", "lpt9.x", "c:x",
	} {
		for what, err := range map[string]error{
			"Set": s.Set(name, New("v")), "Get": second(s.Get(name)), "Remove": s.Remove(name),
		} {
			if err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%s %q: %v, want the name refused", what, name, err)
			}
		}
	}
}

func TestSetRefusesEmptyAndHuge(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, "")
	for _, value := range []string{"", strings.Repeat("x", sizeLimit+1)} {
		if err := s.Set("a", New(value)); err == nil {
			t.Errorf("a value of %d bytes was stored", len(value))
		}
	}
	if err := s.Set("a", New(strings.Repeat("x", sizeLimit))); err != nil {
		t.Error(err)
	}
}

func TestGetRefusesExposedAndEmptyFile(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t, "")
	if err := s.Set("a", New("value")); err != nil {
		t.Fatal(err)
	}
	path := dir.Path("secrets/a.secret")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("a"); !errors.Is(err, state.ErrExposed) {
		t.Errorf("Get of an exposed file: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("a"); err == nil || !strings.Contains(err.Error(), "secret set a") {
		t.Errorf("Get of an empty file: %v", err)
	}
}

// systemd's credentials are read where the store has none, and the store's own go first.
func TestSystemdCredentials(t *testing.T) {
	t.Parallel()
	creds := t.TempDir()
	for name, value := range map[string]string{"both": "theirs", "theirs": "line\r\n", "Odd Name": "x", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(creds, name), []byte(value), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := newStore(t, creds)
	if err := s.Set("both", New("ours")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"both": "ours", "theirs": "line"} {
		if got, err := s.Get(name); err != nil || got.Reveal() != want {
			t.Errorf("Get(%s) = %q, %v; want %q", name, got.Reveal(), err, want)
		}
	}
	if _, err := s.Get("empty"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Get of an empty credential: %v", err)
	}
	if _, err := s.Get("missing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a missing credential: %v", err)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	want := []Info{{Name: "both", Source: SourceStore}, {Name: "empty", Source: SourceSystemd}, {Name: "theirs", Source: SourceSystemd}}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(Info{}, "Changed")); diff != "" {
		t.Error(diff)
	}
}
