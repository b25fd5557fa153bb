package gateway

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/relay/store"
	"sallyport/tunnel"
)

const (
	// keptAnchors is how many of the newest heads of an agent's record are kept, keptDays of how many days before the last.
	keptAnchors = 20
	keptDays    = 60
	// anchorTimeout bounds the work on one head; anchorPause is between two of one link.
	anchorTimeout = 10 * time.Second
	anchorPause   = time.Second
	// alarmEvery is how often admins are told of the same agent's refused heads.
	alarmEvery = time.Hour
)

// Anchors are the heads that an agent's record of calls has had: who rewrites the record on its machine cannot change these.
type Anchors struct {
	Gateway string `json:"gateway"`
	// Key has sealed the record of an agent that signs on with Entra, whose link does not prove it: the first one that came.
	Key []byte `json:"key,omitempty"`
	// Recent are the newest, the last one last; Days the last ones of the days before those.
	Recent []Anchor `json:"recent"`
	Days   []Anchor `json:"days,omitempty"`
}

// An Anchor is one head, and when it came.
type Anchor struct {
	N    uint64    `json:"n"`
	Hash string    `json:"h"`
	At   time.Time `json:"at"`
}

// errBack is a record that is not the one before, and longer.
type errBack struct{ text string }

func (e *errBack) Error() string { return e.text }

// take adds a head. One that is there already changes nothing.
func (a Anchors) take(h tunnel.AuditHead, now time.Time) (Anchors, Anchor, error) {
	next := Anchor{N: h.N, Hash: h.Hash, At: now}
	if len(a.Recent) > 0 {
		switch last := a.Recent[len(a.Recent)-1]; {
		case h.N == last.N && h.Hash == last.Hash:
			return a, last, nil
		case h.N == last.N:
			return a, next, &errBack{fmt.Sprintf("record %d has another hash than at %s: the record was written anew", h.N, last.At.Format(time.RFC3339))}
		case h.N < last.N:
			return a, next, &errBack{fmt.Sprintf("the record ends at %d, and had %d at %s: it was cut, or put back as it was earlier", h.N, last.N, last.At.Format(time.RFC3339))}
		}
	}
	a.Recent = append(slices.Clone(a.Recent), next)
	for len(a.Recent) > keptAnchors {
		a = a.age()
	}
	return a, next, nil
}

// age moves the oldest of the recent anchors to the days, where the last one of a day stays.
func (a Anchors) age() Anchors {
	old := a.Recent[0]
	a.Recent, a.Days = a.Recent[1:], slices.Clone(a.Days)
	if n := len(a.Days); n > 0 && sameDay(a.Days[n-1].At, old.At) {
		a.Days[n-1] = old
	} else {
		a.Days = append(a.Days, old)
	}
	a.Days = a.Days[max(0, len(a.Days)-keptDays):]
	return a
}

func sameDay(a, b time.Time) bool {
	return a.UTC().Truncate(24 * time.Hour).Equal(b.UTC().Truncate(24 * time.Hour))
}

// receipt signs what is kept of an anchor. It can be made again at any time: only anchors are stored.
func (r *Registry) receipt(gateway, agent string, a Anchor) tunnel.AuditReceipt {
	return tunnel.SignAuditReceipt(r.key, tunnel.AuditReceipt{Gateway: gateway, Agent: agent, N: a.N, Hash: a.Hash, Time: a.At})
}

// Receipts gives a receipt for each head of an agent's record that is kept, the oldest first.
func (r *Registry) Receipts(ctx context.Context, agent string) ([]tunnel.AuditReceipt, error) {
	all, err := r.anchors.Get(ctx, agent)
	switch {
	case errors.Is(err, store.ErrNotFound) && r.gatewayOf(agent) == "":
		return nil, fmt.Errorf("%w %s; 'sallyport-relay agent list' shows the agents", ErrUnknownAgent, label(agent))
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	out := make([]tunnel.AuditReceipt, 0, len(all.Days)+len(all.Recent))
	for _, a := range slices.Concat(all.Days, all.Recent) {
		out = append(out, r.receipt(all.Gateway, agent, a))
	}
	return out, nil
}

// gatewayOf names the agent's gateway; empty if there is no such agent.
func (r *Registry) gatewayOf(agent string) string {
	for name, record := range r.records.All() {
		if record.agent(agent) != nil {
			return name
		}
	}
	return ""
}

// anchor takes a head from an agent. It runs in the link's reader, and leaves the work to another goroutine: one head at a time,
// and of those that come meanwhile the last.
func (r *Registry) anchor(l *Link, body []byte) {
	body = slices.Clone(body) // the reader uses it again
	l.head.Store(&body)
	if !l.anchoring.CompareAndSwap(false, true) {
		return
	}
	r.serving.Go(func() {
		for {
			for body := l.head.Swap(nil); body != nil; body = l.head.Swap(nil) {
				ctx, cancel := context.WithTimeout(context.Background(), anchorTimeout)
				r.takeHead(ctx, l, *body)
				cancel()
				if !pauseOn(l, anchorPause) {
					return
				}
			}
			l.anchoring.Store(false)
			if l.head.Load() == nil || !l.anchoring.CompareAndSwap(false, true) {
				return
			}
		}
	})
}

// pauseOn waits, unless the link ends.
func pauseOn(l *Link, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.Done():
		return false
	}
}

// takeHead keeps a head and answers with a receipt, or says to agent and admins why it does not.
func (r *Registry) takeHead(ctx context.Context, l *Link, body []byte) {
	h, err := tunnel.ReadAuditHead(body, l.Gateway)
	var at Anchor
	if err == nil {
		at, err = r.keepHead(ctx, l, h)
	}
	if err == nil {
		_ = l.SendControl(tunnel.ControlAuditReceipt, r.receipt(l.Gateway, l.Agent, at)) // the agent asks again over its next link
		return
	}
	if errors.Is(err, errKeep) { // the agent asks again
		r.c.Log.Warn("there is no receipt for the head of an agent's record", "gateway", l.Gateway, "agent", l.Agent, "error", err)
		return
	}
	r.alarm(ctx, l, err.Error())
	_ = l.SendControl(tunnel.ControlAuditRefused, tunnel.AuditRefusal{N: h.N, Reason: err.Error()}) // nobody is there any more
}

var (
	// errForeignHead is a head that is not of the link's agent.
	errForeignHead = errors.New("the head of the record is not sealed by a key of this agent")
	// errThere is a head that is kept already.
	errThere = errors.New("the head is kept already")
	// errKeep is the store's fault, not the agent's.
	errKeep = errors.New("keep the head of a record")
)

func (r *Registry) keepHead(ctx context.Context, l *Link, h tunnel.AuditHead) (at Anchor, err error) {
	now := time.Now().UTC()
	byEntra := l.proved.Load().entra != nil
	if !byEntra {
		record, _ := r.records.Get(l.Gateway)
		if a := record.agent(l.Agent); a == nil || !h.Key.Equal(ed25519.PublicKey(a.Key)) && !a.held(h.Key) {
			return at, errForeignHead
		}
	}
	take := func(a Anchors) (Anchors, error) {
		if byEntra && len(a.Key) == 0 {
			a.Key = h.Key
		}
		if byEntra && !h.Key.Equal(ed25519.PublicKey(a.Key)) {
			return a, &errBack{"another key than before seals the record: it was made anew"}
		}
		next, kept, err := a.take(h, now)
		at = kept
		return next, err
	}
	update := func() error {
		_, _, err := r.anchors.Update(ctx, l.Agent, func(a Anchors) (Anchors, error) {
			if a.Gateway != l.Gateway {
				a = Anchors{Gateway: l.Gateway} // it has moved, with a record of its own
			}
			next, err := take(a)
			if err == nil && at.At != now {
				err = errThere
			}
			return next, err
		})
		return err
	}
	err = update()
	if errors.Is(err, store.ErrNotFound) {
		var first Anchors
		if first, err = take(Anchors{Gateway: l.Gateway}); err != nil {
			return at, err
		}
		if _, err = r.anchors.Create(ctx, l.Agent, first); errors.Is(err, store.ErrExists) { // by its other link
			err = update()
		}
	}
	if errors.Is(err, errThere) {
		err = nil
	}
	return at, kept(err)
}

// kept words a fault of the store; what take found is left as it is.
func kept(err error) error {
	if _, back := errors.AsType[*errBack](err); err == nil || back {
		return err
	}
	return fmt.Errorf("%w: %w", errKeep, err)
}

// alarm tells admins that an agent's record is not what it was: in the log, and among the events.
func (r *Registry) alarm(ctx context.Context, l *Link, text string) {
	now := time.Now()
	r.mu.Lock()
	s := (*r.sites.Load())[l.Gateway]
	again := s != nil && now.Sub(s.alarms[l.Agent]) < alarmEvery
	if s != nil && !again {
		s.alarms[l.Agent] = now
	}
	r.mu.Unlock()
	if again {
		return
	}
	r.c.Log.Error("an agent's record of calls is not what it was", "gateway", l.Gateway, "agent", l.Agent, "detail", text)
	r.event(ctx, l, "record of calls altered", map[string]any{"detail": text})
}

// event tells those who keep what happens, as something that the link's agent did.
func (r *Registry) event(ctx context.Context, l *Link, what string, on map[string]any) {
	if r.c.Event == nil {
		return
	}
	on["gateway"], on["agent"] = l.Gateway, l.Agent
	r.c.Event(ctx, "agent:"+l.Agent, what, on)
}

// forgetAnchors drops what is kept of agents that are no more.
func (r *Registry) forgetAnchors(ctx context.Context) {
	agents, err := r.anchors.Keys(ctx)
	for _, agent := range agents {
		if r.gatewayOf(agent) != "" {
			continue
		}
		if _, err = r.anchors.Delete(ctx, agent); err != nil && !errors.Is(err, store.ErrNotFound) {
			break
		}
		err = nil
	}
	if err != nil && ctx.Err() == nil {
		r.c.Log.Warn("the anchors of agents that are no more were not removed; the next start tries again", "error", err)
	}
}
