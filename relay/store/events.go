package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A Log is one of the two records that the store keeps; its name is its stream's.
type Log string

// The logs: Calls is the access log (Append), Changes is what admins did (Record).
const (
	Calls   Log = "access"
	Changes Log = "admin"
)

func (l Log) subject() string { return string(l) + ".events" }

const (
	// recordTimeout bounds the write of one change: who made it waits for that.
	recordTimeout = 5 * time.Second
	// followPause is how long a reader that has come to the end waits before it looks again.
	followPause = 250 * time.Millisecond
)

// openChanges makes the stream of what admins did.
func (s *Store) openChanges(ctx context.Context, maxBytes int64, maxAge time.Duration) error {
	_, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:     string(Changes),
		Subjects: []string{Changes.subject()},
		Storage:  jetstream.FileStorage,
		Discard:  jetstream.DiscardOld,
		MaxBytes: maxBytes,
		MaxAge:   maxAge,
	})
	if err != nil {
		return fmt.Errorf("open the record of changes: %w", err)
	}
	return nil
}

// Record keeps what an admin did. The event is on the disk when it returns without an error.
func (s *Store) Record(ctx context.Context, event []byte) error {
	if len(event) > maxEvent {
		return fmt.Errorf("record a change: the event has %d bytes; at most %d are kept", len(event), maxEvent)
	}
	if err := s.Trouble(); err != nil {
		return fmt.Errorf("record a change: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if _, err := s.js.Publish(within, Changes.subject(), append(slices.Clip(event), '\n')); err != nil {
		if ctx.Err() == nil {
			err = s.report(err)
		}
		return fmt.Errorf("record a change: %w", err)
	}
	return nil
}

// Read hands the events of a log that were kept since a time to fn, oldest first. It ends with the newest; with follow it
// goes on until ctx ends, which is no error, and calls fn with nil whenever there is nothing more for the moment. fn's error
// ends it and is returned as it is.
func (s *Store) Read(ctx context.Context, log Log, since time.Time, follow bool, fn func(event []byte) error) error {
	r, err := s.reader(ctx, log)
	if err != nil {
		return err
	}
	next, end, err := r.seek(ctx, since)
	if err != nil {
		return err
	}
	for follow || next <= end {
		msg, err := r.get(ctx, next)
		switch {
		case ctx.Err() != nil && follow:
			return nil
		case errors.Is(err, jetstream.ErrMsgNotFound) && !follow:
			return nil // the last ones have left by age or size
		case errors.Is(err, jetstream.ErrMsgNotFound):
			if err := fn(nil); err != nil {
				return err
			}
			if pause(ctx, followPause) != nil {
				return nil
			}
			continue
		case err != nil:
			return err
		case !follow && msg.Sequence > end:
			return nil
		}
		for line := range bytes.Lines(msg.Data) {
			if err := fn(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return err
			}
		}
		next = msg.Sequence + 1
	}
	return nil
}

// A reader gets the messages of a log.
type reader struct {
	log    Log
	stream jetstream.Stream
}

func (s *Store) reader(ctx context.Context, log Log) (reader, error) {
	within, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	stream, err := s.js.Stream(within, string(log))
	if err != nil {
		return reader{}, fmt.Errorf("read the log %q: %w", log, err)
	}
	return reader{log, stream}, nil
}

// get gives the first message from this sequence on.
func (r reader) get(ctx context.Context, from uint64) (*jetstream.RawStreamMsg, error) {
	within, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	msg, err := r.stream.GetMsg(within, from, jetstream.WithGetMsgSubject(r.log.subject()))
	if err != nil {
		return nil, fmt.Errorf("read the log %q: %w", r.log, err)
	}
	return msg, nil
}

// seek finds the first message that was kept at this time or later, and the last one there is now.
func (r reader) seek(ctx context.Context, since time.Time) (first, last uint64, err error) {
	state := r.stream.CachedInfo().State
	first, last = max(state.FirstSeq, 1), state.LastSeq
	n := sort.Search(int(last+1-min(first, last+1)), func(i int) bool {
		if err != nil {
			return true
		}
		msg, failed := r.get(ctx, first+uint64(i))
		switch {
		case errors.Is(failed, jetstream.ErrMsgNotFound):
			return true
		case failed != nil:
			err = failed
			return true
		}
		return !msg.Time.Before(since)
	})
	return first + uint64(n), last, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
