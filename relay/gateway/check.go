package gateway

import (
	"context"
	"slices"
	"time"

	"sallyport/tunnel"
)

// check tells an agent's admin how the relay stands to the agent: whether its key may link, and which of its links answer. It
// changes nothing, and who asks is no second process with the agent's key.
func (r *Registry) check(ctx context.Context, c tunnel.Claim) (tunnel.Welcome, error) {
	if err := r.member(c); err != nil {
		return tunnel.Welcome{}, err
	}
	links := r.rivals(c) // the one who asks has no link
	if len(links) > tunnel.MaxEchoes {
		links = links[:tunnel.MaxEchoes]
	}
	ctx, cancel := context.WithTimeout(ctx, r.c.CloneProbe)
	defer cancel()
	answers := make(chan tunnel.Echo, len(links))
	for _, l := range links {
		r.serving.Go(func() {
			answered := l.Probe(ctx) == nil
			answers <- tunnel.Echo{Slot: l.claim.Slot, Answered: answered, Millis: float64(l.RTT()) / float64(time.Millisecond)}
		})
	}
	w := tunnel.Welcome{Agent: c.Agent}
	for range links {
		w.Echoes = append(w.Echoes, <-answers)
	}
	slices.SortFunc(w.Echoes, func(a, b tunnel.Echo) int { return a.Slot - b.Slot })
	return w, nil
}
