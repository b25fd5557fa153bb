package backlog_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/internal/backlog"
)

func TestAllOrNothing(t *testing.T) {
	b := backlog.New[byte](8)
	if !b.Add([]byte("12345")...) || b.Add([]byte("6789")...) || !b.Add([]byte("678")...) {
		t.Error("what fits has to be taken, and what does not has to be refused whole")
	}
	if got := string(b.Take(nil)); got != "12345678" {
		t.Errorf("took %q", got)
	}
	if !b.Add([]byte("9")...) || b.Len() != 1 {
		t.Error("there is no room after all was taken")
	}
}

// The writer is told once for all that waits.
func TestOneSignalForMany(t *testing.T) {
	b := backlog.New[int](100)
	for i := range 3 {
		b.Add(i)
	}
	<-b.Waiting()
	select {
	case <-b.Waiting():
		t.Error("there is a second signal")
	default:
	}
	if got := b.Take(nil); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("took %v", got)
	}
	b.Add(3)
	<-b.Waiting() // or the test hangs
}

func TestGatherEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(f func()) time.Duration {
			begin := time.Now()
			f()
			return time.Since(begin)
		}
		b := backlog.New[int](4)
		b.Add(1)
		if d := took(func() { b.Gather(time.Second, nil) }); d != time.Second {
			t.Errorf("with a quarter used it took %s", d)
		}
		b.Add(2)
		if d := took(func() { b.Gather(time.Second, nil) }); d != 0 {
			t.Errorf("with half used it took %s", d)
		}
		done := make(chan struct{})
		time.AfterFunc(time.Millisecond, func() { close(done) })
		if d := took(func() { b.Gather(time.Second, done) }); d != time.Millisecond {
			t.Errorf("until the end it took %s", d)
		}
		b.Take(nil)
		time.AfterFunc(2*time.Millisecond, func() { _ = b.AddSoon(t.Context(), 3) })
		if d := took(func() { b.Gather(time.Second, nil) }); d != 2*time.Millisecond {
			t.Errorf("until somebody pressed it took %s", d)
		}
	})
}

func TestAddSoonWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backlog.New[int](1)
		b.Add(0)
		late, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("too late"))
		defer cancel()
		if err := b.AddSoon(late, 1); err == nil || err.Error() != "too late" {
			t.Errorf("without room: %v", err)
		}
		results := make(chan error)
		for range 3 {
			go func() { results <- b.AddSoon(t.Context(), 2) }()
		}
		for range 3 {
			synctest.Wait()
			b.Take(nil)
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if b.Len() != 1 {
			t.Errorf("%d wait", b.Len())
		}
	})
}
