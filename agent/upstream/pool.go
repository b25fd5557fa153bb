package upstream

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A poolKey says whose connection it is. Every field is compared whenever a connection is taken: a connection that
// carried one key never carries another. The API is not in it because each has a pool of its own.
type poolKey struct {
	kind       AuthKind
	mode       string
	identity   string
	proof      string
	generation string
}

// A pool keeps the idle connections of one API and counts its exchanges.
type pool struct {
	slots   chan struct{} // one for each running exchange
	long    chan struct{} // one for each exchange that may last: event streams and upgraded ones
	waiting atomic.Int64
	wait    time.Duration

	mu     sync.Mutex // guards what follows
	idle   []*conn    // oldest first
	sweep  *time.Timer
	closed bool
}

func newPool(concurrent int, wait time.Duration) *pool {
	return &pool{slots: make(chan struct{}, concurrent), long: make(chan struct{}, maxLong), wait: wait}
}

// enter takes one of the places for exchanges, after a bounded wait, and says how long that was; 0 if there was none. leave
// gives the place back.
func (p *pool) enter(ctx context.Context) (waited time.Duration, err error) {
	select {
	case p.slots <- struct{}{}:
		return 0, nil
	default:
	}
	if p.waiting.Add(1) > int64(maxQueued*cap(p.slots)) {
		p.waiting.Add(-1)
		return 0, p.busy("and as many as may wait are waiting")
	}
	defer p.waiting.Add(-1)
	began := time.Now()
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
	case <-timer.C:
		err = p.busy("for " + p.wait.String())
	case <-ctx.Done():
		err = &Error{Kind: CallerGone, NotRun: true, Err: context.Cause(ctx)}
	}
	return time.Since(began), err
}

// lengthen moves an exchange that may last for hours to a place of its own kind, so that idle WebSockets do not use up the
// API's places. It says whether there was one; else the exchange keeps the place that it has.
func (p *pool) lengthen() bool {
	select {
	case p.long <- struct{}{}:
		<-p.slots
		return true
	default:
		return false
	}
}

func (p *pool) leave(long bool) {
	if long {
		<-p.long
	} else {
		<-p.slots
	}
}

func (p *pool) busy(how string) error {
	return &Error{Kind: Busy, NotRun: true, Err: fmt.Errorf("all %d exchanges of this API are in use %s", cap(p.slots), how)}
}

// take gives the youngest live idle connection of key, or nil.
func (p *pool) take(key poolKey) *conn {
	for {
		c := p.pop(key)
		if c == nil {
			return nil
		}
		if !c.expired(time.Now()) && c.alive() {
			return c
		}
		c.bye()
	}
}

func (p *pool) pop(key poolKey) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if c := p.idle[i]; c.key == key {
			p.idle = slices.Delete(p.idle, i, i+1)
			return c
		}
	}
	return nil
}

// put keeps a connection for the next exchange of its key. Where there is no room the one idle longest ends.
func (p *pool) put(c *conn) {
	now := time.Now()
	c.since = now
	if evicted := p.keep(c, now); evicted != nil {
		evicted.bye()
	}
}

func (p *pool) keep(c *conn, now time.Time) (evicted *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || now.After(c.ends) {
		return c
	}
	if len(p.idle) >= cap(p.slots) {
		evicted = p.idle[0]
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	p.idle = append(p.idle, c)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(maxConnIdle, p.expire)
	}
	return evicted
}

// expire ends what has been idle for too long, so that a quiet API holds no connections. It runs on the pool's timer,
// which is set only while there are idle connections.
func (p *pool) expire() {
	p.mu.Lock()
	now := time.Now()
	n := 0
	for n < len(p.idle) && p.idle[n].expired(now) {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	p.idle = slices.Delete(p.idle, 0, n)
	p.sweep = nil
	if len(p.idle) > 0 && !p.closed {
		p.sweep = time.AfterFunc(max(p.idle[0].since.Add(maxConnIdle).Sub(now), time.Second), p.expire)
	}
	p.mu.Unlock()
	for _, c := range old {
		c.bye()
	}
}

// close ends the idle connections and keeps none from now on. Running exchanges go on.
func (p *pool) close() {
	p.mu.Lock()
	old := p.idle
	p.idle, p.closed = nil, true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	for _, c := range old {
		c.bye()
	}
}
