package store_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"sallyport/relay/store"
)

// Records are read and changed in the store itself: nobody's change gets lost, and what is gone is not there.
func TestRecords(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := store.NewRecords[record](bucket(t, open(t, t.TempDir()), "things"))
	more := func(old record) (record, error) { return record{old.N + 1}, nil }
	if _, err := r.Get(ctx, "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of nothing: %v", err)
	}
	if _, _, err := r.Update(ctx, "x", more); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Update of nothing: %v", err)
	}
	for _, key := range []string{"x", "y"} {
		if _, err := r.Create(ctx, key, record{1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Create(ctx, "x", record{7}); !errors.Is(err, store.ErrExists) {
		t.Errorf("second Create: %v", err)
	}
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for range 5 {
				if _, _, err := r.Update(ctx, "x", more); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if got, err := r.Get(ctx, "x"); err != nil || got.N != 16 {
		t.Errorf("after 15 changes: %v, %v", got, err)
	}
	no := errors.New("no")
	if _, _, err := r.Update(ctx, "x", func(record) (record, error) { return record{}, no }); !errors.Is(err, no) {
		t.Errorf("a change that fails: %v", err)
	}
	if _, err := r.Delete(ctx, "x"); err != nil {
		t.Error(err)
	}
	if _, err := r.Delete(ctx, "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("second Delete: %v", err)
	}
	if keys, err := r.Keys(ctx); err != nil || !slices.Equal(keys, []string{"y"}) {
		t.Errorf("keys %v, %v", keys, err)
	}
}
