package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// rewatchPause is how long a broken watch waits before it is made again.
const rewatchPause = time.Second

// A Mirror is the in-memory copy of a bucket whose values are JSON records of type T. Reading is lock-free. A change
// made through the mirror is visible in it when the call returns; changes by others arrive while Run runs. A record,
// once in the mirror, is never modified.
type Mirror[T any] struct {
	bucket *Bucket
	log    *slog.Logger
	// changed is called after each change with the new state; calls do not overlap.
	changed func(map[string]T)

	state atomic.Pointer[map[string]T]

	// changing holds one token while a record is read, changed and written, so that only other relay nodes can be faster.
	// It is no mutex, because who waits for it may give up.
	changing chan struct{}

	mu       sync.Mutex
	revision map[string]uint64         // guarded by mu: of every key seen, deleted ones included
	broken   atomic.Pointer[time.Time] // since when the watch is broken, nil if it works
}

// NewMirror reads the bucket. changed may be nil; it is called once before NewMirror returns.
func NewMirror[T any](ctx context.Context, b *Bucket, log *slog.Logger, changed func(map[string]T)) (*Mirror[T], error) {
	if changed == nil {
		changed = func(map[string]T) {}
	}
	m := &Mirror[T]{
		bucket: b, log: log, changed: changed,
		changing: make(chan struct{}, 1), revision: map[string]uint64{},
	}
	m.state.Store(&map[string]T{})
	initial, stop := context.WithCancel(ctx)
	defer stop()
	first := map[string]T{}
	var bad error
	err := b.Watch(initial, func(c Change) {
		record, err := decode[T](c)
		if err != nil {
			bad = err
			return
		}
		first[c.Key] = record
		m.revision[c.Key] = c.Revision
	}, stop)
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("read the bucket %q: %w", b.name, context.Cause(ctx))
	case bad != nil:
		return nil, damaged("%v", bad)
	}
	m.state.Store(&first)
	changed(first)
	return m, nil
}

// Run follows the bucket until ctx ends. A watch that breaks is made again.
func (m *Mirror[T]) Run(ctx context.Context) error {
	for {
		seen := map[string]bool{}
		initial := true
		err := m.bucket.Watch(ctx, func(c Change) {
			if initial {
				seen[c.Key] = true
			}
			m.follow(c)
		}, func() {
			initial = false
			m.forget(ctx, seen)
			m.broken.Store(nil)
		})
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		m.broken.CompareAndSwap(nil, &now)
		m.log.Error("the watch of the store broke, trying again", "bucket", m.bucket.name, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatchPause):
		}
	}
}

// Broken is for how long the mirror has not followed the bucket; 0 if it does.
func (m *Mirror[T]) Broken() time.Duration {
	if at := m.broken.Load(); at != nil {
		return time.Since(*at)
	}
	return 0
}

// follow takes over a change seen by the watch.
func (m *Mirror[T]) follow(c Change) {
	if c.Deleted {
		m.apply(c.Key, nil, c.Revision)
		return
	}
	record, err := decode[T](c)
	if err != nil {
		m.log.Error("a record of the store cannot be read, the previous one stays", "bucket", m.bucket.name, "error", err)
		return
	}
	m.apply(c.Key, &record, c.Revision)
}

// forget drops what a fresh watch has not shown: it was deleted while the watch was broken. What the bucket still
// knows was merely written after the watch had begun.
func (m *Mirror[T]) forget(ctx context.Context, seen map[string]bool) {
	for key := range m.All() {
		if seen[key] {
			continue
		}
		if _, err := m.bucket.Get(ctx, key); errors.Is(err, ErrNotFound) {
			m.mu.Lock()
			revision := m.revision[key] + 1
			m.mu.Unlock()
			m.apply(key, nil, revision)
		}
	}
}

// apply takes over a record, nil for a deletion, unless something newer is here already.
func (m *Mirror[T]) apply(key string, record *T, revision uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision <= m.revision[key] {
		return
	}
	m.revision[key] = revision
	next := maps.Clone(*m.state.Load())
	if record == nil {
		delete(next, key)
	} else {
		next[key] = *record
	}
	m.state.Store(&next)
	m.changed(next)
}

// Get returns a key's record.
func (m *Mirror[T]) Get(key string) (T, bool) {
	record, ok := (*m.state.Load())[key]
	return record, ok
}

// All returns the present state. It must not be modified.
func (m *Mirror[T]) All() map[string]T { return *m.state.Load() }

// Create stores a new record, or fails with ErrExists.
func (m *Mirror[T]) Create(ctx context.Context, key string, record T) error {
	revision, err := m.records().Create(ctx, key, record)
	if err != nil {
		return err
	}
	m.apply(key, &record, revision)
	return nil
}

// Update replaces a record by what change makes of it, as that of Records.
func (m *Mirror[T]) Update(ctx context.Context, key string, change func(T) (T, error)) error {
	if err := m.turn(ctx, key); err != nil {
		return err
	}
	defer func() { <-m.changing }()
	record, revision, err := m.records().Update(ctx, key, change)
	if err != nil {
		return err
	}
	m.apply(key, &record, revision)
	return nil
}

// Delete takes a record away, or fails with ErrNotFound.
func (m *Mirror[T]) Delete(ctx context.Context, key string) error {
	if err := m.turn(ctx, key); err != nil {
		return err
	}
	defer func() { <-m.changing }()
	revision, err := m.records().Delete(ctx, key)
	if err != nil {
		return err
	}
	m.apply(key, nil, revision)
	return nil
}

func (m *Mirror[T]) records() Records[T] { return Records[T]{m.bucket} }

// turn waits until nobody else changes a record.
func (m *Mirror[T]) turn(ctx context.Context, key string) error {
	select {
	case m.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("change the record %q: the changes before it take too long: %w", key, context.Cause(ctx))
	}
}
