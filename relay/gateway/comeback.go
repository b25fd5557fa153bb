package gateway

import (
	"context"
	"errors"
	"time"
)

// comebackTime is how long after a relay's start an agent that is not there yet is waited for: agents that have lost their
// links come back within seconds, and a restart should cost callers a moment and not an error.
const comebackTime = 15 * time.Second

// PickSoon is Pick, and waits for a link while the relay is so young that the agents are still coming back.
func (r *Registry) PickSoon(ctx context.Context, gateway, api string) (*Link, error) {
	l, err := r.Pick(gateway, api)
	left := comebackTime - time.Since(r.opened)
	if err == nil || left <= 0 || !r.expects(gateway) {
		return l, err
	}
	late := time.NewTimer(left)
	defer late.Stop()
	for {
		r.mu.Lock()
		news := r.news // before Pick looks, so that nothing that comes after is missed
		r.mu.Unlock()
		if l, err = r.Pick(gateway, api); err == nil || !errors.Is(err, ErrNoLink) && !errors.Is(err, ErrNotOffered) {
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

// tell wakes those who wait for links. r.mu is held.
func (r *Registry) tell() {
	close(r.news)
	r.news = make(chan struct{})
}
