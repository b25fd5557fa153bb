package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxValue bounds one record, well below the largest message that the server takes (1 MiB).
const maxValue = 512 << 10

// A Bucket holds values by key. A write is on the disk when the call returns without an error. Keys consist of
// letters, digits, "-", "_", "=", "/" and ".".
type Bucket struct {
	store *Store
	name  string
	kv    jetstream.KeyValue

	// writing holds one token while a key is written and noted by the witness, so that the witness counts each key once.
	// It is no mutex, because who waits for it may give up.
	writing chan struct{}
	// known holds the keys that ever had a value; guarded by writing.
	known map[string]bool
}

// An Entry is a value as it was read.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64 // grows with every change of any key of the bucket
}

// Bucket opens the bucket of this name and makes it if it is new. Each bucket is opened once.
func (s *Store) Bucket(ctx context.Context, name string) (*Bucket, error) {
	if _, ok := s.witness.of(name); !ok {
		if err := s.witness.set(name, mark{}); err != nil {
			return nil, err
		}
	}
	kv, err := s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:       name,
		History:      1,
		MaxValueSize: maxValue,
		Storage:      jetstream.FileStorage,
	})
	if err != nil {
		return nil, fmt.Errorf("open the bucket %q: %w", name, err)
	}
	b := &Bucket{store: s, name: name, kv: kv, writing: make(chan struct{}, 1), known: map[string]bool{}}
	entries, err := b.load(ctx, func(e jetstream.KeyValueEntry) { b.known[e.Key()] = true })
	if err != nil {
		return nil, err
	}
	entries.stop()
	return b, nil
}

// Get returns a key's value, or ErrNotFound.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	e, err := b.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, b.failed("read", key, err)
	}
	return Entry{Key: key, Value: e.Value(), Revision: e.Revision()}, nil
}

// Keys lists the keys that have a value.
func (b *Bucket) Keys(ctx context.Context) (keys []string, err error) {
	l, err := b.load(ctx, func(e jetstream.KeyValueEntry) {
		if e.Operation() == jetstream.KeyValuePut {
			keys = append(keys, e.Key())
		}
	})
	if err != nil {
		return nil, err
	}
	l.stop()
	return keys, nil
}

// Create gives a key its first value, or fails with ErrExists.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.write(ctx, key, ErrExists, func(ctx context.Context) (uint64, error) { return b.kv.Create(ctx, key, value) })
}

// Put gives a key a value, whatever it had before.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.write(ctx, key, ErrConflict, func(ctx context.Context) (uint64, error) { return b.kv.Put(ctx, key, value) })
}

// Update replaces the value that was read at this revision, or fails with ErrConflict.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(ctx, key, ErrConflict, func(ctx context.Context) (uint64, error) { return b.kv.Update(ctx, key, value, revision) })
}

// Delete takes a key's value away if it is still the one that was read at this revision, or fails with ErrConflict.
// A marker of the deletion stays, so that every watcher learns of it.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	_, err := b.write(ctx, key, ErrConflict, func(ctx context.Context) (uint64, error) {
		// The library does not tell the marker's revision; it is this one at least.
		return revision + 1, b.kv.Delete(ctx, key, jetstream.LastRevision(revision))
	})
	return err
}

// write makes one change and has the witness note it. raced is what it means that the key's present revision is not the
// expected one; the server has one error for all cases. What the server has acknowledged is a success, whatever becomes of
// the witness.
func (b *Bucket) write(ctx context.Context, key string, raced error, change func(context.Context) (uint64, error)) (uint64, error) {
	within, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	select {
	case b.writing <- struct{}{}:
		defer func() { <-b.writing }()
	case <-within.Done():
		return 0, b.failed("write", key, fmt.Errorf("the writes before it take too long: %w", context.Cause(within)))
	}
	if err := b.store.Trouble(); err != nil {
		return 0, b.failed("write", key, err)
	}
	revision, err := change(within)
	if api, ok := errors.AsType[jetstream.JetStreamError](err); ok && api.APIError() != nil &&
		api.APIError().ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, raced
	}
	if err != nil {
		if ctx.Err() == nil {
			err = b.store.report(err)
		}
		return 0, b.failed("write", key, err)
	}
	added := !b.known[key]
	b.known[key] = true
	b.store.witness.note(within, b.name, revision, added)
	return revision, nil
}

func (b *Bucket) failed(what, key string, err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) {
		err = errors.New("the store is closed")
	}
	return fmt.Errorf("%s %q in the bucket %q: %w", what, key, b.name, err)
}

// A Change is a value that is there, is new, or is gone.
type Change struct {
	Entry
	Deleted bool
}

// Watch hands the present state to fn, one value at a time and without deleted keys, then calls ready, then hands
// every change to fn. It blocks until ctx ends, which is no error, or the watch breaks, which is. Calls do not overlap.
func (b *Bucket) Watch(ctx context.Context, fn func(Change), ready func()) error {
	l, err := b.load(ctx, func(e jetstream.KeyValueEntry) {
		if e.Operation() == jetstream.KeyValuePut {
			fn(changeOf(e))
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer l.stop()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.anew:
			return b.startedAgain()
		case e, ok := <-l.watcher.Updates():
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("watch the bucket %q: the watch broke off", b.name)
			}
			if e != nil {
				fn(changeOf(e))
			}
		}
	}
}

func changeOf(e jetstream.KeyValueEntry) Change {
	return Change{
		Entry:   Entry{Key: e.Key(), Value: e.Value(), Revision: e.Revision()},
		Deleted: e.Operation() != jetstream.KeyValuePut,
	}
}

func (b *Bucket) startedAgain() error {
	return fmt.Errorf("watch the bucket %q: the embedded server was started again", b.name)
}

// loading is a watch that has delivered its initial state. anew is closed when its server is no more.
type loading struct {
	watcher jetstream.KeyWatcher
	anew    <-chan struct{}
}

func (l loading) stop() { _ = l.watcher.Stop() }

// load starts a watch and hands its initial state, markers of deleted keys included, to fn.
func (b *Bucket) load(ctx context.Context, fn func(jetstream.KeyValueEntry)) (loading, error) {
	anew := b.store.anew()
	w, err := b.kv.WatchAll(ctx)
	if err != nil {
		return loading{}, fmt.Errorf("watch the bucket %q: %w", b.name, err)
	}
	l := loading{w, anew}
	for {
		select {
		case <-ctx.Done():
			l.stop()
			return loading{}, fmt.Errorf("read the bucket %q: %w", b.name, context.Cause(ctx))
		case <-anew:
			l.stop()
			return loading{}, b.startedAgain()
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return loading{}, fmt.Errorf("read the bucket %q: the watch broke off", b.name)
			case e == nil:
				return l, nil
			default:
				fn(e)
			}
		}
	}
}
