package winauth

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	firstHold = 5 * time.Second
	longHold  = 15 * time.Minute
	maxHolds  = 256
	// turnTime is how long others wait for a sign-on whose end nobody reports: its connection may be gone.
	turnTime = 10 * time.Second
)

// holds keep a wrong password from being shown as fast as requests come in, which would lock the account: each refusal by
// the same service doubles the time until the next try, and a password that the service has not accepted yet is shown by
// one sign-on at a time.
type holds struct {
	mu    sync.Mutex // guards table
	table map[string]*hold
}

type hold struct {
	until    time.Time
	failures int
	proved   bool          // it was accepted last time
	turn     time.Time     // until then somebody's sign-on is under way
	ended    chan struct{} // closed when it has ended; nil if nobody's is
}

// check gives an error while a service is on hold.
func (h *holds) check(who, spn string, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.table[spn].held(who, spn, now)
}

func (e *hold) held(who, spn string, now time.Time) error {
	if e == nil || !e.until.After(now) {
		return nil
	}
	return &Error{
		Kind: Rejected,
		Err: fmt.Errorf("%s was refused by %s %d times; not tried again for %s, so as not to lock the account",
			who, spn, e.failures, e.until.Sub(now).Round(time.Second)),
		Mend: "check the password and the account's rights",
	}
}

// await gives leave to show the password: at once if it was accepted last time, else when nobody else is showing it. What
// has leave reports its result.
func (h *holds) await(ctx context.Context, who, spn string, clock func() time.Time) error {
	for {
		h.mu.Lock()
		now, e := clock(), h.entry(spn)
		if err := e.held(who, spn, now); err != nil {
			h.mu.Unlock()
			return err
		}
		if e.proved || !e.turn.After(now) {
			if !e.proved {
				e.end()
				e.turn, e.ended = now.Add(turnTime), make(chan struct{})
			}
			h.mu.Unlock()
			return nil
		}
		ended, left := e.ended, e.turn.Sub(now)
		h.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-ended:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return &Error{Kind: NotReady, Err: fmt.Errorf("wait for another sign-on of %s to %s: %w", who, spn, context.Cause(ctx))}
		}
		timer.Stop()
	}
}

// entry gives the service's entry. h.mu is held.
func (h *holds) entry(spn string) *hold {
	e := h.table[spn]
	if e != nil {
		return e
	}
	if h.table == nil || len(h.table) >= maxHolds { // no agent has so many upstreams
		for _, old := range h.table {
			old.end()
		}
		h.table = make(map[string]*hold)
	}
	e = &hold{}
	h.table[spn] = e
	return e
}

// end lets the next one have its turn.
func (e *hold) end() {
	if e.ended != nil {
		close(e.ended)
	}
	e.turn, e.ended = time.Time{}, nil
}

// result remembers how a sign-on ended.
func (h *holds) result(spn string, ok bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.entry(spn)
	e.end()
	if e.proved = ok; ok {
		e.failures, e.until = 0, time.Time{}
		return
	}
	e.failures++
	e.until = now.Add(min(firstHold<<min(e.failures-1, 16), longHold))
}
