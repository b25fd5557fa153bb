package store_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"sallyport/relay/store"
)

func readObject(t *testing.T, o *store.Objects, name string) []byte {
	t.Helper()
	r, err := o.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestObjects(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	st := open(t, dir)
	o, err := st.Objects(ctx, "things", 4<<20, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := o.List(ctx); err != nil || len(list) != 0 {
		t.Fatalf("a new kind of objects has %v, %v", list, err)
	}
	large := bytes.Repeat([]byte("0123456789"), 100_000)
	for _, body := range [][]byte{[]byte("first"), large} { // the second takes the place of the first
		if n, err := o.Put(ctx, "a.b", iotest.OneByteReader(bytes.NewReader(body))); err != nil || n != int64(len(body)) {
			t.Fatalf("put %d bytes: %d, %v", len(body), n, err)
		}
	}
	broken := errors.New("broken off")
	if _, err := o.Put(ctx, "a.b", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("a reader that broke off: %v", err)
	}
	closeStore(t, st)

	o, err = open(t, dir).Objects(ctx, "things", 4<<20, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got := readObject(t, o, "a.b"); !bytes.Equal(got, large) {
		t.Errorf("after a restart %d bytes are there, want the %d of the last whole write", len(got), len(large))
	}
	list, err := o.List(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "a.b" || list[0].Size != int64(len(large)) {
		t.Errorf("list: %v, %v", list, err)
	}
	_, err = o.Put(ctx, "huge", bytes.NewReader(make([]byte, 8<<20)))
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("more than there is room for: %v", err)
	}
	for range 2 { // what is not there is deleted too
		if err := o.Delete(ctx, "a.b"); err != nil {
			t.Error(err)
		}
	}
	if _, err := o.Get(ctx, "a.b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted object: %v", err)
	}
	// What was purged is room again.
	if _, err := o.Put(ctx, "again", bytes.NewReader(slices.Repeat(large, 3))); err != nil {
		t.Error(err)
	}
}
