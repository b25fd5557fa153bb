package operation

import (
	"slices"
	"time"
)

const (
	// recordSize is what a record counts for before it has a body.
	recordSize = 1 << 10
	// maxEvicted bounds how many old records one new one clears away.
	maxEvicted = 64
)

// A shelf are the records of one connector, as far as they are in memory. Ledger.mu guards it.
type shelf struct {
	items map[string]*item // by name
	bytes int64            // of all items
}

// An item is what of a record is in memory.
type item struct {
	kind  string
	since time.Time // when it was begun or, once it has ended, when that was
	size  int64
	run   *Run // nil unless it is running here
}

func (s *shelf) put(name string, it *item) {
	s.drop(name)
	s.items[name] = it
	s.bytes += it.size
}

func (s *shelf) drop(name string) {
	if it := s.items[name]; it != nil {
		s.bytes -= it.size
		delete(s.items, name)
	}
}

// expired says that a record has been kept long enough.
func (l *Ledger) expired(it *item) bool { return it.run == nil && time.Since(it.since) > l.c.Keep }

// of is a connector's shelf; l.mu is held, or nobody else is there yet.
func (l *Ledger) of(connector string) *shelf {
	s := l.shelves[connector]
	if s == nil {
		s = &shelf{items: map[string]*item{}}
		l.shelves[connector] = s
	}
	return s
}

// item is a record that is there, nil if it is not. l.mu is held.
func (l *Ledger) item(connector, name string) *item {
	if s := l.shelves[connector]; s != nil {
		if it := s.items[name]; it != nil && !l.expired(it) {
			return it
		}
	}
	return nil
}

// admit puts the run into the index, within the connector's bounds. What gave way is to be removed from the store.
func (l *Ledger) admit(r *Run, again bool) (evicted []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(r.connector)
	if known := l.item(r.connector, r.name); known != nil && (known.run != nil || !again) {
		return nil, ErrKnown
	}
	kind, count, running := r.token[:1], 0, 0
	var ended []string // of this kind
	for name, it := range s.items {
		switch {
		case l.expired(it):
			if len(evicted) < maxEvicted && name != r.name {
				evicted = append(evicted, name)
			}
		case it.kind != kind:
		case it.run != nil:
			count++
			running++
		default:
			count++
			ended = append(ended, name)
		}
	}
	for _, name := range evicted {
		s.drop(name)
	}
	full := count >= l.c.Kept || s.bytes >= l.c.Share
	if kind == kindDeferred && (full || running >= l.c.Running) {
		return evicted, ErrBusy // an answer that somebody may still come for is not given up for a new one
	}
	if kind == kindRepeat && (full || s.bytes >= l.c.Share*3/4) {
		// Of repeats, the oldest is the least likely to come. A quarter is kept free for answers that begin now.
		slices.SortFunc(ended, func(a, b string) int { return s.items[a].since.Compare(s.items[b].since) })
		for len(ended) > 0 && len(evicted) < maxEvicted && (count >= l.c.Kept || s.bytes >= l.c.Share*3/4) {
			s.drop(ended[0])
			evicted, ended, count = append(evicted, ended[0]), ended[1:], count-1
		}
		if count >= l.c.Kept || s.bytes >= l.c.Share {
			return evicted, ErrBusy
		}
	}
	s.put(r.name, &item{kind: kind, since: r.rec.Started, size: recordSize, run: r})
	return evicted, nil
}

// grow takes n bytes more for the run's answer, or fails with ErrTooLarge: one connector must not take the room of all.
func (l *Ledger) grow(r *Run, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(r.connector)
	it := s.items[r.name]
	if it == nil || s.bytes+n > l.c.Share {
		return ErrTooLarge
	}
	it.size += n
	s.bytes += n
	return nil
}

// ended takes the run's end down; the record stays. size is that of its body.
func (l *Ledger) ended(r *Run, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(r.connector)
	if it := s.items[r.name]; it != nil && it.run == r {
		s.bytes += recordSize + size - it.size
		it.run, it.since, it.size = nil, time.Now(), recordSize+size
	}
}

// drop takes the run out of the index.
func (l *Ledger) drop(r *Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.of(r.connector); s.items[r.name] != nil && s.items[r.name].run == r {
		s.drop(r.name)
	}
}
