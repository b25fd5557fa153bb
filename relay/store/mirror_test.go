package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/store"
)

type record struct{ N int }

// mirrors returns two mirrors of one bucket, both following it, as two relay nodes would have.
func mirrors(t *testing.T) (a, b *store.Mirror[record]) {
	t.Helper()
	bkt := bucket(t, open(t, t.TempDir()), "things")
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	out := make([]*store.Mirror[record], 2)
	for i := range out {
		m, err := store.NewMirror[record](ctx, bkt, testLog(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		out[i] = m
	}
	return out[0], out[1]
}

func TestMirrorSeesItsOwnWritesAtOnceAndOthersSoon(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := mirrors(t)
	if err := a.Create(ctx, "x", record{1}); err != nil {
		t.Fatal(err)
	}
	if got, ok := a.Get("x"); !ok || got.N != 1 {
		t.Fatalf("own write: %v %v", got, ok)
	}
	waitFor(t, "the other mirror to have x", func() bool { got, ok := b.Get("x"); return ok && got.N == 1 })
	if err := b.Create(ctx, "x", record{2}); !errors.Is(err, store.ErrExists) {
		t.Fatalf("second Create: %v", err)
	}
	if err := b.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the first mirror to lose x", func() bool { _, ok := a.Get("x"); return !ok })
	if err := a.Update(ctx, "x", func(r record) (record, error) { return r, nil }); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Update of nothing: %v", err)
	}
}

// TestMirrorUpdatesDoNotGetLost has many writers add one to the same record through two mirrors.
func TestMirrorUpdatesDoNotGetLost(t *testing.T) {
	t.Parallel()
	a, b := mirrors(t)
	if err := a.Create(t.Context(), "n", record{}); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 10 {
		m := []*store.Mirror[record]{a, b}[i%2]
		writers.Go(func() {
			for range 4 {
				err := m.Update(t.Context(), "n", func(r record) (record, error) { return record{r.N + 1}, nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	want := map[string]record{"n": {40}}
	for _, m := range []*store.Mirror[record]{a, b} {
		waitFor(t, "40", func() bool { return cmp.Diff(want, m.All()) == "" })
	}
}

func TestAccessLogIsWrittenAndBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	for i := range 1000 {
		if !st.Append(fmt.Appendf(nil, "{\"n\":%d}\n", i)) {
			t.Fatalf("event %d was dropped", i)
		}
	}
	if st.Append(make([]byte, 1<<20)) {
		t.Error("an event of 1 MiB was taken")
	}
	if got := st.Dropped(); got != 1 {
		t.Errorf("dropped %d, want 1", got)
	}
	closeStore(t, st)

	st = open(t, dir)
	events := read(t, st, store.Calls, time.Time{})
	if len(events) != 1000 || events[0] != `{"n":0}` || events[999] != `{"n":999}` {
		t.Errorf("%d events after a restart", len(events))
	}
}

func read(t *testing.T, st *store.Store, log store.Log, since time.Time) (events []string) {
	t.Helper()
	err := st.Read(t.Context(), log, since, false, func(event []byte) error {
		events = append(events, string(event))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestReadBeginsAtATimeAndFollows(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	st := open(t, t.TempDir())
	if got := read(t, st, store.Changes, time.Time{}); len(got) != 0 {
		t.Errorf("an empty log has %q", got)
	}
	var middle time.Time
	for i := range 20 {
		if i == 13 {
			time.Sleep(20 * time.Millisecond) // the server's clock decides
			middle = time.Now()
			time.Sleep(20 * time.Millisecond)
		}
		if err := st.Record(ctx, fmt.Appendf(nil, "event %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, st, store.Changes, time.Time{}); len(got) != 20 || got[0] != "event 0" || got[19] != "event 19" {
		t.Errorf("all: %q", got)
	}
	if got := read(t, st, store.Changes, middle); len(got) != 7 || got[0] != "event 13" {
		t.Errorf("since the middle: %q", got)
	}
	if got := read(t, st, store.Changes, time.Now().Add(time.Hour)); len(got) != 0 {
		t.Errorf("since the future: %q", got)
	}
	seen := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- st.Read(ctx, store.Changes, middle, true, func(event []byte) error {
			if event != nil {
				seen <- string(event)
			}
			return nil
		})
	}()
	for i := 13; i < 20; i++ {
		if got := <-seen; got != fmt.Sprint("event ", i) {
			t.Fatalf("followed %q", got)
		}
	}
	if err := st.Record(ctx, []byte("later")); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "later" {
		t.Errorf("followed %q", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the end of following: %v", err)
	}
	enough := errors.New("enough")
	if err := st.Read(t.Context(), store.Changes, time.Time{}, false, func([]byte) error { return enough }); err != enough {
		t.Errorf("the reader's own error: %v", err)
	}
}

// TestChangesAreBounded: the oldest leave.
func TestChangesAreBounded(t *testing.T) {
	t.Parallel()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: testLog(t), ChangesMaxBytes: 100 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, st)
	for i := range 100 {
		if err := st.Record(t.Context(), fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 5000))); err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, st, store.Changes, time.Time{})
	if len(got) < 10 || len(got) > 20 || !strings.HasPrefix(got[len(got)-1], "99 ") {
		t.Errorf("%d events are kept", len(got))
	}
	if err := st.Record(t.Context(), make([]byte, 64<<10)); err == nil {
		t.Error("an event of 64 KiB was taken")
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond) // the store runs in real time, so synctest cannot serve
	}
	t.Fatalf("waited in vain for %s", what)
}
