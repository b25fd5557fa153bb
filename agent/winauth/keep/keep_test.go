package keep

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errOutage, errNo = errors.New("nobody answers"), errors.New("no")

type item struct {
	n           int
	stale, ends time.Time
}

func table() *Table[item] {
	return New(Config[item]{
		Max: 3, Clock: time.Now,
		Life:    func(v item) Life { return Life{Stale: v.stale, Ends: v.ends} },
		Hold:    func(error) time.Duration { return 10 * time.Second },
		RideOut: func(err error) bool { return errors.Is(err, errOutage) },
	})
}

// TestLife: a value is fetched once while it is good; a stale one outlives an outage, but not a refusal, and never its end.
func TestLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, fetched := table(), 0
		var fail error
		get := func() (int, error) {
			v, err := k.Get(t.Context(), "a", func(context.Context) (item, error) {
				fetched++
				return item{fetched, time.Now().Add(time.Hour), time.Now().Add(2 * time.Hour)}, fail
			})
			return v.n, err
		}
		steps := []struct {
			after   time.Duration
			fail    error
			n, want int
			err     error
		}{
			{0, nil, 1, 1, nil},
			{59 * time.Minute, nil, 1, 1, nil},
			{2 * time.Minute, errOutage, 1, 2, nil},     // stale, and nobody answers
			{time.Second, errOutage, 1, 2, nil},         // not asked again at once
			{10 * time.Second, nil, 3, 3, nil},          // back
			{61 * time.Minute, errNo, 0, 4, errNo},      // a refusal counts
			{time.Second, nil, 0, 4, errNo},             // and is remembered
			{10 * time.Second, nil, 5, 5, nil},          // for a while
			{3 * time.Hour, errOutage, 0, 6, errOutage}, // what has ended does not serve on
			{10 * time.Second, errOutage, 0, 7, errOutage},
		}
		for i, s := range steps {
			time.Sleep(s.after)
			fail = s.fail
			if n, err := get(); n != s.n && err == nil || fetched != s.want || !errors.Is(err, s.err) || (err != nil) != (s.err != nil) {
				t.Fatalf("step %d: %d, %v after %d fetches; want %+v", i, n, err, fetched, s)
			}
		}
	})
}

// TestBounds: neither values nor failures grow without end.
func TestBounds(t *testing.T) {
	t.Parallel()
	k := table()
	for i := range 20 {
		_, _ = k.Get(t.Context(), strconv.Itoa(i), func(context.Context) (item, error) {
			return item{ends: time.Now().Add(time.Hour)}, nil
		})
		_, _ = k.Get(t.Context(), "bad"+strconv.Itoa(i), func(context.Context) (item, error) { return item{}, errNo })
	}
	if k.Len() != 3 || len(k.fails) != 3 {
		t.Errorf("%d values, %d failures", k.Len(), len(k.fails))
	}
	k.Drop("19", func(item) bool { return false })
	k.Drop("18", func(item) bool { return true })
	if k.Len() != 2 {
		t.Errorf("%d values after one was dropped", k.Len())
	}
}

func TestFlightTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g flights[int]
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := g.do(first, "k", func(ctx context.Context) (int, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}); !errors.Is(err, context.Canceled) {
				t.Errorf("first: %v", err)
			}
		})
		synctest.Wait()
		runs := 0
		for range 5 {
			wg.Go(func() {
				v, err := g.do(t.Context(), "k", func(context.Context) (int, error) {
					runs++
					time.Sleep(time.Second)
					return 7, nil
				})
				if v != 7 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if runs != 1 {
			t.Errorf("the work was done %d times", runs)
		}
	})
}
