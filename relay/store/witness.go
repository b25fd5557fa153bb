package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A witness is a small file beside the embedded server's own. JetStream repairs by leaving out what it cannot read: a
// bucket whose description is damaged is as if it had never been, and a damaged block is cut short, both with nothing
// but a warning. For a relay that would mean to start without its gateways and keys. So the witness writes down, after
// each write, how far each bucket had come, and Open compares.
//
// What is written when the witness hears of it has taken effect. So the witness can fail no write: it may lag behind,
// which Open allows, says so in the log, and catches up as soon as it can.
type witness struct {
	path string
	log  *slog.Logger
	wake chan struct{} // capacity 1: something is to be saved

	saving sync.Mutex // held while the file is written, by run and at the start alone

	mu      sync.Mutex // guards what follows; not held while the file is written
	buckets map[string]mark
	version uint64        // grows with each change of buckets
	saved   uint64        // the version that the file has
	tried   uint64        // the version that was last attempted
	attempt chan struct{} // closed after the next attempt
}

// A mark says how far a bucket had come. A crash may hit between a write and its mark, or the mark fail to be written, so
// a bucket can be further than its mark, never behind it.
type mark struct {
	Revision uint64 `json:"revision"`
	// Messages is how many values and delete markers the bucket held; there is one for each key that ever was.
	Messages uint64 `json:"messages"`
}

const (
	witnessName = "buckets.json"
	// saveRetry is how long what could not be saved waits for another attempt.
	saveRetry = 5 * time.Second
)

func openWitness(dir string, log *slog.Logger) (*witness, error) {
	w := &witness{
		path: filepath.Join(dir, witnessName), log: log, buckets: map[string]mark{},
		wake: make(chan struct{}, 1), attempt: make(chan struct{}),
	}
	text, err := os.ReadFile(w.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(dir, "jetstream")); err == nil {
			return nil, damaged("the file %s is missing", w.path)
		}
		return w, w.save() // before the first file of the server is made, so that its absence always means damage
	case err != nil:
		return nil, fmt.Errorf("read what the store should hold: %w", err)
	}
	if err := json.Unmarshal(text, &w.buckets); err != nil {
		return nil, damaged("the file %s cannot be read: %v", w.path, err)
	}
	return w, nil
}

// names of the buckets that must exist.
func (w *witness) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.buckets))
}

func (w *witness) of(bucket string) (mark, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.buckets[bucket]
	return m, ok
}

// note takes down that the bucket has come to this revision; added says whether its key was new to the bucket. It waits
// for an attempt to save that, as long as ctx allows.
func (w *witness) note(ctx context.Context, bucket string, revision uint64, added bool) {
	w.mu.Lock()
	m := w.buckets[bucket]
	m.Revision = max(m.Revision, revision)
	if added {
		m.Messages++
	}
	w.buckets[bucket] = m
	w.version++
	for mine := w.version; w.tried < mine && ctx.Err() == nil; w.mu.Lock() {
		attempt := w.attempt
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default:
		}
		select {
		case <-attempt:
		case <-ctx.Done():
		}
	}
	w.mu.Unlock()
}

// set replaces the mark of a bucket, in the file too.
func (w *witness) set(bucket string, m mark) error {
	w.mu.Lock()
	w.buckets[bucket] = m
	w.version++
	w.mu.Unlock()
	return w.save()
}

// run saves what is noted until ctx ends. What could not be saved is tried again.
func (w *witness) run(ctx context.Context) {
	retry := time.NewTicker(saveRetry)
	defer retry.Stop()
	failing := false
	for {
		select {
		case <-w.wake:
		case <-retry.C:
			if !w.behind() {
				continue
			}
		case <-ctx.Done():
			if w.behind() {
				_ = w.save() // else it lags, which Open allows
			}
			return
		}
		err := w.save()
		if err != nil && !failing {
			w.log.Error("the store's witness lags behind; changes take effect all the same", "cause", err)
		}
		failing = err != nil
	}
}

func (w *witness) behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.saved < w.version
}

// save replaces the file: written beside it, synced, renamed, and the folder synced, so that a crash leaves one of the
// two whole.
func (w *witness) save() error {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.mu.Lock()
	text, err := json.Marshal(w.buckets)
	version := w.version
	w.mu.Unlock()
	if err == nil {
		err = replaceFile(w.path, append(text, '\n'))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tried = max(w.tried, version)
	close(w.attempt)
	w.attempt = make(chan struct{})
	if err != nil {
		return fmt.Errorf("write down what the store should hold: %w", err)
	}
	w.saved = max(w.saved, version)
	return nil
}

func replaceFile(path string, text []byte) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// damaged says what is wrong and what to do about it.
func damaged(format string, v ...any) error {
	return fmt.Errorf("%w: %s; nothing was changed. Restore the data folder from a backup, or move it away to start "+
		"with an empty store (agents must then join again and connectors be published again)",
		ErrDamaged, fmt.Sprintf(format, v...))
}

// checkBuckets compares every bucket with its mark and reads every value once, because the server verifies a value's
// checksum only when it is read.
func (s *Store) checkBuckets(ctx context.Context) error {
	for _, name := range s.witness.names() {
		want, _ := s.witness.of(name)
		got, err := s.survey(ctx, name, want.Revision)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound) && want == (mark{}):
			continue // a crash hit between the announcement of the bucket and its making
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return damaged("the bucket %q is missing", name)
		case err != nil:
			return err
		}
		if got.last < want.Revision {
			return damaged("the bucket %q ends at revision %d, but revision %d was acknowledged",
				name, got.last, want.Revision)
		}
		// Each write after the mark replaces at most one older value.
		if later := got.last - want.Revision; got.old+later < want.Messages {
			return damaged("the bucket %q has %d of %d values", name, got.old+later, want.Messages)
		}
		if found := (mark{Revision: got.last, Messages: got.all}); found != want {
			if err := s.witness.set(name, found); err != nil {
				s.log.Error("the store's witness lags behind", "bucket", name, "cause", err)
			}
		}
	}
	return nil
}

// found is what survey saw in a bucket.
type found struct {
	last     uint64 // its last revision
	all, old uint64 // messages, and those of them that are not newer than the mark
}

func (s *Store) survey(ctx context.Context, bucket string, marked uint64) (found, error) {
	stream, err := s.js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return found{}, fmt.Errorf("open the bucket %q: %w", bucket, err)
	}
	state := stream.CachedInfo().State
	if lost := state.Lost; lost != nil && len(lost.Msgs) > 0 {
		return found{}, damaged("%d values of the bucket %q cannot be read", len(lost.Msgs), bucket)
	}
	result := found{last: state.LastSeq}
	// "The next one from here on" steps over the gaps that replaced values leave; they may be millions.
	for next := state.FirstSeq; result.all < state.Msgs; result.all++ {
		msg, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject("$KV."+bucket+".>"))
		if err != nil {
			return found{}, damaged("a value of the bucket %q from revision %d on cannot be read: %v", bucket, next, err)
		}
		if msg.Sequence <= marked {
			result.old++
		}
		next = msg.Sequence + 1
	}
	return result, nil
}
