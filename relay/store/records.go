package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// updateTries bounds how often Update starts over because somebody else was faster; each time it waits up to updatePause
	// longer, by chance, so that two who change the same record do not keep step.
	updateTries = 20
	updatePause = 5 * time.Millisecond
)

// Records are a bucket whose values are JSON records of type T, which are read from the store each time: for what is written often,
// or is much, and is seldom read. What is read with each request is a Mirror. Safe for concurrent use.
type Records[T any] struct{ bucket *Bucket }

// NewRecords gives the records of a bucket.
func NewRecords[T any](b *Bucket) Records[T] { return Records[T]{b} }

// Get returns a key's record, or ErrNotFound.
func (r Records[T]) Get(ctx context.Context, key string) (record T, err error) {
	record, _, err = r.get(ctx, key)
	return record, err
}

func (r Records[T]) get(ctx context.Context, key string) (record T, revision uint64, err error) {
	entry, err := r.bucket.Get(ctx, key)
	if err != nil {
		return record, 0, err
	}
	record, err = decode[T](Change{Entry: entry})
	return record, entry.Revision, err
}

// Keys lists the keys that have a record.
func (r Records[T]) Keys(ctx context.Context) ([]string, error) { return r.bucket.Keys(ctx) }

// Create stores a new record and gives its revision, or fails with ErrExists.
func (r Records[T]) Create(ctx context.Context, key string, record T) (revision uint64, err error) {
	value, err := encode(key, record)
	if err != nil {
		return 0, err
	}
	return r.bucket.Create(ctx, key, value)
}

// Update replaces a record by what change makes of it, and gives that with its revision. When somebody else was faster, change
// is called again with their record. It must not modify what it is given. Its error is returned as it is, and nothing is
// written; a record that is not there is ErrNotFound.
func (r Records[T]) Update(ctx context.Context, key string, change func(T) (T, error)) (record T, revision uint64, err error) {
	err = r.repeat(ctx, "change", key, func() error {
		old, was, err := r.get(ctx, key)
		if err != nil {
			return err
		}
		if record, err = change(old); err != nil {
			return err
		}
		value, err := encode(key, record)
		if err != nil {
			return err
		}
		revision, err = r.bucket.Update(ctx, key, value, was)
		return err
	})
	return record, revision, err
}

// Delete takes a record away, and gives a revision that is that of its absence at least; or it fails with ErrNotFound.
func (r Records[T]) Delete(ctx context.Context, key string) (revision uint64, err error) {
	err = r.repeat(ctx, "delete", key, func() error {
		entry, err := r.bucket.Get(ctx, key)
		if err != nil {
			return err
		}
		revision = entry.Revision + 1
		return r.bucket.Delete(ctx, key, entry.Revision)
	})
	return revision, err
}

// repeat makes a change until nobody else was faster.
func (r Records[T]) repeat(ctx context.Context, what, key string, change func() error) error {
	for try := range updateTries {
		if err := stepAside(ctx, try); err != nil {
			return err
		}
		if err := change(); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%s the record %q: %w", what, key, ErrConflict)
}

// stepAside waits before another try; the first comes at once.
func stepAside(ctx context.Context, try int) error {
	if try == 0 {
		return nil
	}
	timer := time.NewTimer(rand.N(time.Duration(try) * updatePause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func encode[T any](key string, record T) ([]byte, error) {
	value, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode the record %q: %w", key, err)
	}
	return value, nil
}

func decode[T any](c Change) (record T, err error) {
	if err := json.Unmarshal(c.Value, &record); err != nil {
		return record, fmt.Errorf("the record %q cannot be read: %w", c.Key, err)
	}
	return record, nil
}
