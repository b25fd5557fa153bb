package connector

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"sallyport/relay/store"
)

const (
	// usageEvery is how often the last use of a key is written down at most.
	usageEvery = time.Minute
	// maxPending bounds the keys that wait to be written; a use beyond that is written down with the key's next one.
	maxPending = 65536
)

// usage remembers when keys were last used. No call waits for it: it is in memory at once and in the store later.
type usage struct {
	log     *slog.Logger
	records *store.Mirror[used]

	recent sync.Map // key ID to time.Time: uses since the start

	mu      sync.Mutex
	pending map[string]bool // guarded by mu: key IDs; true: forget the key
}

type used struct {
	At time.Time `json:"at"`
}

func newUsage(ctx context.Context, st *store.Store, log *slog.Logger) (*usage, error) {
	bucket, err := st.Bucket(ctx, "key_usage")
	if err != nil {
		return nil, err
	}
	records, err := store.NewMirror[used](ctx, bucket, log, nil)
	if err != nil {
		return nil, err
	}
	return &usage{log: log, records: records, pending: map[string]bool{}}, nil
}

// touch notes a use. It takes a lock at most once a minute for each key.
func (u *usage) touch(id string, now time.Time) {
	if last, ok := u.recent.Load(id); ok && now.Sub(last.(time.Time)) < usageEvery {
		return
	}
	u.recent.Store(id, now)
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.pending[id]; !ok && len(u.pending) < maxPending {
		u.pending[id] = false
	}
}

func (u *usage) last(id string) time.Time {
	if at, ok := u.recent.Load(id); ok {
		return at.(time.Time).UTC()
	}
	record, _ := u.records.Get(id)
	return record.At
}

func (u *usage) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pending[id] = true
}

// run writes down the uses once a minute, and once more at the end.
func (u *usage) run(ctx context.Context) {
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.write(ctx)
		case <-ctx.Done():
			// The store is still open: it closes after everything that writes.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			u.write(last)
			return
		}
	}
}

func (u *usage) write(ctx context.Context) {
	u.mu.Lock()
	batch := u.pending
	u.pending = map[string]bool{}
	u.mu.Unlock()
	for id, gone := range batch {
		if err := u.writeOne(ctx, id, gone); err != nil {
			u.log.Warn("the last use of a key was not written down", "key_id", id, "error", err)
			return // the store is in trouble; the uses to come will be written
		}
	}
}

func (u *usage) writeOne(ctx context.Context, id string, gone bool) error {
	if gone {
		u.recent.Delete(id)
		if err := u.records.Delete(ctx, id); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	}
	now := used{At: u.last(id)}
	err := u.records.Create(ctx, id, now)
	if errors.Is(err, store.ErrExists) {
		err = u.records.Update(ctx, id, func(used) (used, error) { return now, nil })
	}
	return err
}
