// Package backlog is what waits to be written by one goroutine: lines of a log, events of a record. Who adds never waits for
// the writing, what waits is bounded, and the writer is woken once for much, not for each: to wake a goroutine for a line costs
// more than to write it.
//
// It knows nothing of what waits, and writes nothing. Package syslog has a queue of its own, because it keeps what it could not
// send.
//
//	b := backlog.New[byte](4 << 20)
//	b.Add(line...)                       // by anybody; false: there is no room for all of it
//	<-b.Waiting()                        // by the writer, which then lets more gather for a moment
//	lines = b.Take(lines)
package backlog

import (
	"context"
	"sync"
	"time"
)

// A Backlog is some values in their order. It is safe for concurrent use; one goroutine takes.
type Backlog[T any] struct {
	limit    int
	waiting  chan struct{} // capacity 1
	pressing chan struct{} // capacity 1

	mu    sync.Mutex // guards what follows
	items []T
	room  chan struct{} // closed by the next Take; nil: nobody waits for that
}

// New makes a Backlog in which at most limit values wait.
func New[T any](limit int) *Backlog[T] {
	return &Backlog[T]{limit: limit, waiting: make(chan struct{}, 1), pressing: make(chan struct{}, 1)}
}

// Add adds all of items, or, where there is no room for them, none, and then gives false.
func (b *Backlog[T]) Add(items ...T) bool {
	b.mu.Lock()
	before, after := len(b.items), len(b.items)+len(items)
	if after > b.limit {
		b.mu.Unlock()
		return false
	}
	b.items = append(b.items, items...)
	b.mu.Unlock()
	if before == 0 {
		signal(b.waiting)
	}
	if half := b.limit / 2; before < half && after >= half {
		signal(b.pressing)
	}
	return true
}

// AddSoon adds one value and presses; it waits for room until ctx ends, whose cause it then returns.
func (b *Backlog[T]) AddSoon(ctx context.Context, item T) error {
	for !b.Add(item) {
		select {
		case <-b.nextRoom():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	signal(b.pressing)
	return nil
}

// nextRoom is closed when there may be room; it is now, if there is.
func (b *Backlog[T]) nextRoom() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.room == nil {
		b.room = make(chan struct{})
	}
	room := b.room
	if len(b.items) < b.limit {
		close(room)
		b.room = nil
	}
	return room
}

// Waiting has a signal when something waits that the writer has not been told of.
func (b *Backlog[T]) Waiting() <-chan struct{} { return b.waiting }

// Gather returns when it is time to take: after d, when half of the room is used, when somebody presses, or when done is closed.
func (b *Backlog[T]) Gather(d time.Duration, done <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.pressing:
	case <-done:
	}
}

// Take gives what waits and leaves empty, from an earlier Take, in its place.
func (b *Backlog[T]) Take(empty []T) []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.items
	b.items = empty[:0]
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	return full
}

// Len is how many values wait.
func (b *Backlog[T]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
