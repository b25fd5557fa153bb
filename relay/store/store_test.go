package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/relay/store"
)

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: dir, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, st) })
	return st
}

func closeStore(t *testing.T, st *store.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := st.Close(ctx); err != nil {
		t.Error(err)
	}
}

func bucket(t *testing.T, st *store.Store, name string) *store.Bucket {
	t.Helper()
	b, err := st.Bucket(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucketKeepsRevisions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := bucket(t, open(t, t.TempDir()), "things")

	if _, err := b.Get(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of nothing: %v", err)
	}
	first, err := b.Create(ctx, "a", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, "a", []byte("2")); !errors.Is(err, store.ErrExists) {
		t.Fatalf("second Create: %v", err)
	}
	second, err := b.Update(ctx, "a", []byte("2"), first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(ctx, "a", []byte("3"), first); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("Update of an old revision: %v", err)
	}
	if err := b.Delete(ctx, "a", first); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("Delete of an old revision: %v", err)
	}
	if err := b.Delete(ctx, "a", second); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of what was deleted: %v", err)
	}
	if _, err := b.Create(ctx, "a", []byte("4")); err != nil {
		t.Fatalf("Create after Delete: %v", err)
	}
}

func TestReopenHasEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	b := bucket(t, st, "things")
	for i := range 20 {
		if _, err := b.Put(t.Context(), fmt.Sprint("key", i%10), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, st)

	b = bucket(t, open(t, dir), "things")
	for i := range 10 {
		e, err := b.Get(t.Context(), fmt.Sprint("key", i))
		if err != nil || string(e.Value) != fmt.Sprint(10+i) {
			t.Errorf("key%d = %q, %v", i, e.Value, err)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	// A lock of another open file conflicts just as another process's does.
	_, err := store.Open(t.Context(), store.Config{Dir: dir, Log: testLog(t)})
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("second Open: %v", err)
	}
	closeStore(t, st)
	open(t, dir)
}

// TestDamageIsAnError damages a closed store in every way that leaves files behind, and wants Open to say so.
func TestDamageIsAnError(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, dir string){
		"bucket's folder gone": func(t *testing.T, dir string) {
			remove(t, streamDir(dir))
		},
		"all of JetStream gone": func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "jetstream"))
		},
		"description gone": func(t *testing.T, dir string) {
			remove(t, filepath.Join(streamDir(dir), "meta.inf"))
		},
		"description garbled": func(t *testing.T, dir string) {
			garble(t, filepath.Join(streamDir(dir), "meta.inf"))
		},
		"values gone": func(t *testing.T, dir string) {
			remove(t, filepath.Join(streamDir(dir), "msgs"))
		},
		"a value garbled": func(t *testing.T, dir string) {
			garble(t, block(t, dir))
		},
		"a value garbled and the index gone": func(t *testing.T, dir string) {
			garble(t, block(t, dir))
			remove(t, filepath.Join(streamDir(dir), "msgs", "index.db"))
		},
		"values cut short": func(t *testing.T, dir string) {
			cut(t, block(t, dir))
		},
		"values cut short and the index gone": func(t *testing.T, dir string) {
			cut(t, block(t, dir))
			remove(t, filepath.Join(streamDir(dir), "msgs", "index.db"))
		},
		"values emptied and the index gone": func(t *testing.T, dir string) {
			write(t, block(t, dir), nil)
			remove(t, filepath.Join(streamDir(dir), "msgs", "index.db"))
		},
		"witness gone": func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "buckets.json"))
		},
		"witness garbled": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "buckets.json"), []byte(`{"things": {"rev`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir)
			b := bucket(t, st, "things")
			for i := range 30 {
				if _, err := b.Put(t.Context(), fmt.Sprint("key", i), bytes.Repeat([]byte("x"), 100)); err != nil {
					t.Fatal(err)
				}
			}
			closeStore(t, st)
			damage(t, dir)
			st, err := store.Open(t.Context(), store.Config{Dir: dir, Log: testLog(t)})
			if err == nil {
				closeStore(t, st)
			}
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "backup") {
				t.Fatalf("Open: %v", err)
			}
		})
	}
}

func TestUnwritableFolderIsAnError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	if _, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(file, "store"), Log: testLog(t)}); err == nil {
		t.Fatal("Open below a file succeeded")
	}
}

func streamDir(dir string) string {
	return filepath.Join(dir, "jetstream", "jetstream", "$G", "streams", "KV_things")
}

// block returns the file that holds the values.
func block(t *testing.T, dir string) string {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(streamDir(dir), "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks: %q, %v", blocks, err)
	}
	return blocks[0]
}

func remove(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func garble(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 0x55
	write(t, path, text)
}

func cut(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWitnessFailsNoWrite: what the server has acknowledged has taken effect, so that saying otherwise would be wrong. The
// witness catches up when it can.
func TestWitnessFailsNoWrite(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	st := open(t, dir)
	b := bucket(t, st, "things")
	inTheWay := filepath.Join(dir, "buckets.json.new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, "a", []byte("1")); err != nil {
		t.Errorf("a write that the witness cannot note: %v", err)
	}
	witness := func() string {
		text, err := os.ReadFile(filepath.Join(dir, "buckets.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if strings.Contains(witness(), `"revision":1`) {
		t.Fatalf("the witness is not behind: %s", witness())
	}
	remove(t, inTheWay)
	waitFor(t, "the witness has caught up", func() bool { return strings.Contains(witness(), `{"things":{"revision":1,"messages":1}}`) })
	closeStore(t, st)
	if e, err := bucket(t, open(t, dir), "things").Get(ctx, "a"); err != nil || string(e.Value) != "1" {
		t.Errorf("after a restart: %q, %v", e.Value, err)
	}
}
