package store

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// TestWhoWaitsForAWriteMayGiveUp: a disk that hangs holds up the write that is at it, and nobody for longer than they like.
func TestWhoWaitsForAWriteMayGiveUp(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	st, err := Open(ctx, Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close(ctx)
	b, err := st.Bucket(ctx, "things")
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMirror[int](ctx, b, st.log, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Create(ctx, "a", 1); err != nil {
		t.Fatal(err)
	}
	b.writing <- struct{}{} // a write that does not end
	m.changing <- struct{}{}
	for what, write := range map[string]func(context.Context) error{
		"put":    func(ctx context.Context) error { _, err := b.Put(ctx, "a", []byte("1")); return err },
		"update": func(ctx context.Context) error { return m.Update(ctx, "a", func(int) (int, error) { return 2, nil }) },
		"delete": func(ctx context.Context) error { return m.Delete(ctx, "a") },
	} {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if err := write(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
	}
	<-b.writing
	<-m.changing
	if err := m.Update(ctx, "a", func(int) (int, error) { return 2, nil }); err != nil {
		t.Error(err)
	}
}
