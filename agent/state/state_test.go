package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func open(t *testing.T) Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "deep", "state"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWriteReplacesAndRead(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, want := range []string{"first, which is longer", "second"} {
		if err := d.Write("a.json", []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := d.Read("a.json", 100)
		if err != nil || string(got) != want {
			t.Errorf("Read = %q, %v; want %q", got, err, want)
		}
	}
	if names, err := d.Names(); err != nil || len(names) != 1 || names[0] != "a.json" {
		t.Errorf("Names = %v, %v; want a.json alone", names, err)
	}
	if _, err := d.Read("a.json", 5); err == nil {
		t.Error("a file over the limit was read")
	}
	if err := d.Remove("a.json"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read("a.json", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read after Remove: %v, want fs.ErrNotExist", err)
	}
}

func TestWriteLeavesNothingBehindOnError(t *testing.T) {
	t.Parallel()
	d := open(t)
	// A directory in the way makes the rename fail after the temporary file was written.
	if err := os.MkdirAll(d.Path("taken/inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Write("taken", []byte("secret")); err == nil {
		t.Fatal("a directory was replaced")
	}
	entries, err := os.ReadDir(d.String())
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestOpenSweepsOldIncompleteFilesOnly(t *testing.T) {
	t.Parallel()
	d := open(t)
	old, fresh, other := d.Path(".identity.json.tmp-1"), d.Path(".identity.json.tmp-2"), d.Path(".keep")
	for _, p := range []string{old, fresh, other} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * staleAfter)
	for _, p := range []string{old, other} {
		if err := os.Chtimes(p, past, past); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(d.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old incomplete file is still there: %v", err)
	}
	for _, p := range []string{fresh, other} {
		if _, err := os.Stat(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}
