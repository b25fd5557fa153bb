package gateway

import (
	"context"
	"errors"
	"time"
)

// comebackTime is how long after a relay's start an agent that is not there yet is waited for: agents that have lost their
// links come back within seconds, and a restart should cost callers a moment and not an error.
const comebackTime = 15 * time.Second

const (
	// returnTime is how long a call waits for an agent that has said that it goes, and for how long after its end one does: a
	// restart and an update take about a second. A stop looks the same, and costs the calls after it this time.
	returnTime = 5 * time.Second
	// lostTime is the same for an agent whose link broke: it links again within half a second. With the 9 s after which a silent
	// link is given up it keeps those who waited on it from waiting much longer than 10 s.
	lostTime = 900 * time.Millisecond
	// maxAwaiting bounds the calls of a gateway that wait so; their bodies, as far as they have come, are in memory.
	maxAwaiting = 256
)

// PickSoon is Pick, and waits for a link where an agent should be back soon: while the relay is so young that all agents are
// still coming back, unless a link of exclude was there, and after one that offers the API has said that it goes or lost its link.
// Where one of exclude was lost, another that owes a sign of life too is no more than what is left if no better one comes: what
// lets the packets of one vanish often does so with all.
func (r *Registry) PickSoon(ctx context.Context, gateway, api string, exclude ...*Link) (*Link, error) {
	good := func(l *Link, err error) bool { return err == nil && (len(exclude) == 0 || !l.Suspect()) }
	l, err := r.Pick(gateway, api, exclude...)
	if good(l, err) || !r.expects(gateway) {
		return l, err
	}
	var left time.Duration
	if len(exclude) == 0 {
		left = comebackTime - time.Since(r.opened)
	}
	if s := (*r.sites.Load())[gateway]; left < returnTime && s != nil {
		if soon := r.returns(s, api); soon > left {
			defer s.awaiting.Add(-1)
			if s.awaiting.Add(1) <= maxAwaiting {
				left = soon
			}
		}
	}
	if left <= 0 {
		return l, err
	}
	late := time.NewTimer(left)
	defer late.Stop()
	for {
		r.mu.Lock()
		news := r.news // before Pick looks, so that nothing that comes after is missed
		r.mu.Unlock()
		l, err = r.Pick(gateway, api, exclude...)
		if good(l, err) || err != nil && !errors.Is(err, ErrNoLink) && !errors.Is(err, ErrNotOffered) {
			return l, err
		}
		select {
		case <-news:
		case <-late.C:
			return l, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// expects says whether an agent of the gateway may still come back.
func (r *Registry) expects(gateway string) bool {
	s := (*r.sites.Load())[gateway]
	if s == nil {
		return false
	}
	for _, a := range s.record.Load().Agents {
		if !a.Revoked() {
			return true
		}
	}
	return false
}

// A departure is the end of an agent's link, from which it should come back.
type departure struct {
	offer *Offer // its last one; it may be nil
	at    time.Time
	back  time.Duration // within what it is waited for
}

func (d departure) waits() bool { return time.Since(d.at) < d.back }

// departed notes a link that has ended. r.mu is held.
func (s *site) departed(l *Link) {
	back := lostTime
	if l.Leaving() {
		back = returnTime
	}
	if d := s.gone[l.Agent]; d.waits() && d.back > back {
		return // another link of its told more
	}
	s.gone[l.Agent] = departure{l.offer.Load(), time.Now(), back}
}

// returns says for how long an agent that offers the API is waited for: one that takes its leave or has lost its link, or did so
// just now. 0 is not at all.
func (r *Registry) returns(s *site, api string) (back time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range s.gone {
		if d.waits() && d.offer.has(api) {
			back = max(back, d.back)
		}
	}
	for _, l := range s.all() {
		switch {
		case l.offer.Load() == nil: // it is just up, and says in a moment what it offers
			back = max(back, lostTime)
		case !l.Offers(api):
		case l.Leaving():
			return returnTime
		case l.Err() != nil: // it is about to be taken out
			back = max(back, lostTime)
		}
	}
	return back
}

// tell wakes those who wait for links. r.mu is held.
func (r *Registry) tell() {
	close(r.news)
	r.news = make(chan struct{})
}
