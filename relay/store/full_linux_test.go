package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/relay/store"
	"sallyport/test/loud"
)

func freeOf(t *testing.T, dir string) int64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Error(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}

// fill leaves so many bytes of the file system free; the function gives the rest back.
func fill(t *testing.T, dir string, leave int64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := freeOf(t, dir) - leave; n > 0 {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			t.Fatal(err)
		}
	}
	return func() { remove(t, path) }
}

// A logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func openOn(t *testing.T, c store.Config) (*store.Store, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	c.Log = slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), &slog.HandlerOptions{Level: slog.LevelInfo}))
	st, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, st) })
	return st, log
}

func waitUpTo(t *testing.T, what string, limit time.Duration, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("it never came to be that %s", what)
}

// TestFullDiskIsSaidBeforeAnythingIsWritten: a store stops while there is room left for it to go on afterwards.
func TestFullDiskIsSaidBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := loud.NeedsDisk(t, 96, "a store on a really full disk is not tried")
	st, log := openOn(t, store.Config{Dir: filepath.Join(dir, "store")})
	b := bucket(t, st, "things")
	first, err := b.Create(ctx, "a", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	empty := fill(t, dir, 10<<20)
	for what, write := range map[string]func() error{
		"create": func() error { _, err := b.Create(ctx, "b", []byte("1")); return err },
		"put":    func() error { _, err := b.Put(ctx, "a", []byte("2")); return err },
		"update": func() error { _, err := b.Update(ctx, "a", []byte("2"), first); return err },
		"delete": func() error { return b.Delete(ctx, "a", first) },
	} {
		err := write()
		if !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), "MB needed; free some space") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s on a full disk: %v", what, err)
		}
	}
	if e, err := b.Get(ctx, "a"); err != nil || string(e.Value) != "1" {
		t.Errorf("read on a full disk: %q, %v", e.Value, err)
	}
	if err := st.Trouble(); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Trouble: %v", err)
	}
	waitUpTo(t, "the log says it", 20*time.Second, func() bool { return strings.Contains(log.String(), "level=ERROR msg=\"the store takes no changes\"") })
	empty()
	if _, err := b.Update(ctx, "a", []byte("2"), first); err != nil {
		t.Errorf("write when there is room again: %v", err)
	}
	waitUpTo(t, "the log says that there is room", 20*time.Second, func() bool { return strings.Contains(log.String(), "has room again") })
}

// TestStoreMendsItselfAfterAFullDisk: the disk fills up between the look at it and the write. The embedded server takes
// nothing more after that, so it has to be started again.
func TestStoreMendsItselfAfterAFullDisk(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := loud.NeedsDisk(t, 96, "a store on a really full disk is not tried")
	data := filepath.Join(dir, "store")
	var outrun atomic.Bool // the next look sees room that is gone when it comes to writing
	st, log := openOn(t, store.Config{Dir: data, Free: func(string) (uint64, error) {
		if outrun.CompareAndSwap(true, false) {
			return 1 << 40, nil
		}
		return uint64(freeOf(t, dir)), nil
	}})
	b := bucket(t, st, "things")
	m, err := store.NewMirror[record](ctx, b, testLog(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(running) }()
	defer func() { stop(); <-ended }()
	const acknowledged = 20
	for i := range acknowledged {
		if err := m.Create(ctx, fmt.Sprint("key", i), record{i}); err != nil {
			t.Fatal(err)
		}
	}

	empty := fill(t, dir, 256<<10)
	large := fmt.Appendf(nil, `{"N":1,"Pad":%q}`, strings.Repeat("x", 400<<10))
	for try := 0; ; try++ { // the keeper may have the look that was meant for the write
		outrun.Store(true)
		_, err := b.Put(ctx, "large", large)
		if errors.Is(err, store.ErrNoSpace) && strings.Contains(err.Error(), "no space left") {
			break
		}
		if try == 5 {
			t.Fatalf("the write that fills the disk: %v", err)
		}
	}
	if err := st.Trouble(); !errors.Is(err, store.ErrFailed) {
		t.Fatalf("Trouble: %v", err)
	}
	quick, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := m.Create(quick, "late", record{}); !errors.Is(err, store.ErrFailed) {
		t.Errorf("a write to a store that has failed: %v", err)
	}
	empty()
	waitUpTo(t, "the store has mended itself", 90*time.Second, func() bool { return st.Trouble() == nil })
	if err := m.Create(ctx, "after", record{1}); err != nil {
		t.Fatalf("write to the mended store: %v\n%s", err, log)
	}
	if _, err := b.Put(ctx, "foreign", []byte(`{"N":7}`)); err != nil {
		t.Fatal(err)
	}
	waitUpTo(t, "the mirror follows the mended store", 30*time.Second, func() bool { r, ok := m.Get("foreign"); return ok && r.N == 7 })
	for i := range acknowledged {
		if _, err := b.Get(ctx, fmt.Sprint("key", i)); err != nil {
			t.Fatalf("key %d of %d acknowledged: %v", i, acknowledged, err)
		}
	}
	stop()
	closeStore(t, st)
	b = bucket(t, open(t, data), "things")
	if e, err := b.Get(ctx, "after"); err != nil || string(e.Value) != `{"N":1}` {
		t.Errorf("after a restart: %q, %v", e.Value, err)
	}
}
