// Package keep keeps what a domain controller has said: tickets, people, names. Each thing is asked for once at a time however
// many want it, is kept until it ends, and a failure is remembered for a moment, so that a busy API is no storm of questions.
// All of it is bounded and in memory only.
//
//	tickets := keep.New(keep.Config[*Ticket]{Max: 256, Clock: time.Now, Life: life, Hold: hold})
//	t, err := tickets.Get(ctx, "HTTP/erp.corp.example", fetch)
package keep

import (
	"context"
	"sync"
	"time"
)

// A Life says how long a value is good.
type Life struct {
	// Stale is when a newer one is fetched. If that fails as Config.RideOut says, the old one serves on. Zero: at Ends.
	Stale time.Time
	// Ends is when it is good for nothing.
	Ends time.Time
}

// Config shapes a Table.
type Config[V any] struct {
	// Max bounds the values, and the failures, that are kept.
	Max int
	// Clock is time.Now in earnest.
	Clock func() time.Time
	// Life says how long a value is good.
	Life func(V) Life
	// Hold says how long a failure is remembered; 0: not at all.
	Hold func(error) time.Duration
	// RideOut says that a failure is no reason to give up a value that is stale and has not ended: an outage. Nil: none is.
	RideOut func(error) bool
}

// A Table keeps values by key. Safe for concurrent use.
type Table[V any] struct {
	c       Config[V]
	flights flights[V]

	mu    sync.Mutex // guards what follows
	kept  map[string]V
	fails map[string]failure
}

type failure struct {
	err   error
	until time.Time
}

// New makes a Table.
func New[V any](c Config[V]) *Table[V] {
	return &Table[V]{c: c, kept: make(map[string]V), fails: make(map[string]failure)}
}

// Get gives what is kept, or else what fetch gets; of many callers at once one fetches, under its own context.
func (t *Table[V]) Get(ctx context.Context, key string, fetch func(context.Context) (V, error)) (V, error) {
	if v, ok, err := t.look(key); ok || err != nil {
		return v, err
	}
	return t.flights.do(ctx, key, func(ctx context.Context) (V, error) {
		if v, ok, err := t.look(key); ok || err != nil {
			return v, err
		}
		v, err := fetch(ctx)
		return t.put(ctx, key, v, err)
	})
}

// look gives a value that is good and not stale, or the failure that is remembered.
func (t *Table[V]) look(key string) (v V, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.c.Clock()
	if f, failed := t.fails[key]; failed {
		if now.Before(f.until) {
			if old, usable := t.usable(key, now); usable && t.rides(f.err) {
				return old, true, nil
			}
			return v, false, f.err
		}
		delete(t.fails, key)
	}
	if v, ok = t.usable(key, now); ok {
		stale := t.c.Life(v).Stale
		ok = stale.IsZero() || now.Before(stale)
	}
	return v, ok, nil
}

// usable gives a value that has not ended. Callers hold mu.
func (t *Table[V]) usable(key string, now time.Time) (v V, ok bool) {
	if v, ok = t.kept[key]; ok && !now.Before(t.c.Life(v).Ends) {
		delete(t.kept, key)
		ok = false
	}
	return v, ok
}

func (t *Table[V]) rides(err error) bool { return t.c.RideOut != nil && t.c.RideOut(err) }

// put keeps the outcome of a fetch and gives what its callers get.
func (t *Table[V]) put(ctx context.Context, key string, v V, err error) (V, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		delete(t.kept, key)
		MakeRoom(t.kept, t.c.Max, func(v V) time.Time { return t.c.Life(v).Ends })
		t.kept[key] = v
		return v, nil
	}
	now := t.c.Clock()
	if hold := t.c.Hold(err); hold > 0 && ctx.Err() == nil {
		MakeRoom(t.fails, t.c.Max, func(f failure) time.Time { return f.until })
		t.fails[key] = failure{err: err, until: now.Add(hold)}
	}
	if old, ok := t.usable(key, now); ok && t.rides(err) {
		return old, nil
	}
	delete(t.kept, key)
	return v, err
}

// Drop forgets a value if same says that it is still the one that is meant.
func (t *Table[V]) Drop(key string, same func(V) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.kept[key]; ok && same(v) {
		delete(t.kept, key)
	}
}

// Len is how many values are kept.
func (t *Table[V]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.kept)
}

// MakeRoom drops the entry that ends first when a map is full.
func MakeRoom[K comparable, V any](m map[K]V, limit int, ends func(V) time.Time) {
	if len(m) < limit {
		return
	}
	var first K
	var when time.Time
	for k, v := range m {
		if e := ends(v); when.IsZero() || e.Before(when) {
			first, when = k, e
		}
	}
	delete(m, first)
}
