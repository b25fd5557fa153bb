package gateway

import (
	"context"
	"errors"
	"slices"
	"time"
)

// comebackTime is how long after a relay's start an agent that is not there yet is waited for: agents that have lost their
// links come back within seconds, and a restart should cost callers a moment and not an error.
const comebackTime = 15 * time.Second

const (
	// returnTime is how long a call waits for an agent that has said that it goes, and for how long after its end one does: a
	// restart and an update take about a second. A stop looks the same, and costs the calls after it this time.
	returnTime = 5 * time.Second
	// maxAwaiting bounds the calls of a gateway that wait so; their bodies, as far as they have come, are in memory.
	maxAwaiting = 256
)

// PickSoon is Pick, and waits for a link where an agent should be back soon: while the relay is so young that all agents are
// still coming back, unless a link of exclude was there, and after one that offers the API has said that it goes.
func (r *Registry) PickSoon(ctx context.Context, gateway, api string, exclude ...*Link) (*Link, error) {
	l, err := r.Pick(gateway, api, exclude...)
	if err == nil || !r.expects(gateway) {
		return l, err
	}
	var left time.Duration
	if len(exclude) == 0 {
		left = comebackTime - time.Since(r.opened)
	}
	if s := (*r.sites.Load())[gateway]; left < returnTime && s != nil && r.returns(s, api) {
		defer s.awaiting.Add(-1)
		if s.awaiting.Add(1) <= maxAwaiting {
			left = returnTime
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
		if l, err = r.Pick(gateway, api, exclude...); err == nil || !errors.Is(err, ErrNoLink) && !errors.Is(err, ErrNotOffered) {
			return l, err
		}
		select {
		case <-news:
		case <-late.C:
			return nil, err
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

// A departure is that of an agent which has said that it goes.
type departure struct {
	offer *Offer // its last one; it may be nil
	at    time.Time
}

// returns says whether an agent that offers the API takes its leave, or has done so just now.
func (r *Registry) returns(s *site, api string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range s.gone {
		if time.Since(d.at) < returnTime && d.offer.has(api) {
			return true
		}
	}
	return slices.ContainsFunc(s.all(), func(l *Link) bool { return l.Leaving() && l.Offers(api) })
}

// tell wakes those who wait for links. r.mu is held.
func (r *Registry) tell() {
	close(r.news)
	r.news = make(chan struct{})
}
