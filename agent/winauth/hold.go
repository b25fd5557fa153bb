package winauth

import (
	"fmt"
	"sync"
	"time"
)

const (
	firstHold = 5 * time.Second
	longHold  = 15 * time.Minute
	maxHolds  = 256
)

// holds keeps refused sign-ons with a password from being repeated as fast as requests come in, which would lock the
// account: each refusal by the same service doubles the time until the next try.
type holds struct {
	mu    sync.Mutex // guards table
	table map[string]hold
}

type hold struct {
	until    time.Time
	failures int
}

// check gives an error while a service is on hold.
func (h *holds) check(who, spn string, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.table[spn]
	left := e.until.Sub(now)
	if left <= 0 {
		return nil
	}
	return &Error{
		Kind: Rejected,
		Err: fmt.Errorf("%s was refused by %s %d times; not tried again for %s, so as not to lock the account",
			who, spn, e.failures, left.Round(time.Second)),
		Mend: "check the password and the account's rights",
	}
}

// result remembers how a sign-on ended.
func (h *holds) result(spn string, ok bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ok {
		delete(h.table, spn)
		return
	}
	e, known := h.table[spn]
	if h.table == nil || (!known && len(h.table) >= maxHolds) {
		h.table = make(map[string]hold) // no agent has so many upstreams that refuse it
	}
	e.failures++
	e.until = now.Add(min(firstHold<<min(e.failures-1, 16), longHold))
	h.table[spn] = e
}
