package gateway

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/relay/gateway/entra"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

const (
	// keyOverlap is how long the key before the present one is good for links: as long as an agent may take to change over
	// that was stopped in the middle of it.
	keyOverlap = 10 * time.Minute
	// sweepEvery is how often links are looked at whose key or token has ended.
	sweepEvery = time.Second
)

// holds reports whether this is the agent's key, or the one before it while that is still good.
func (a *Agent) holds(key ed25519.PublicKey, now time.Time) bool {
	return key.Equal(ed25519.PublicKey(a.Key)) || a.held(key) && now.Before(a.OldUntil)
}

// held reports whether this is the key before the present one.
func (a *Agent) held(key ed25519.PublicKey) bool {
	return len(a.OldKey) > 0 && key.Equal(ed25519.PublicKey(a.OldKey))
}

// replacedKey reports whether the agent on record has another key than the one that its ID was made of.
func (r *Record) replacedKey(id string, key ed25519.PublicKey) bool {
	a := r.agent(id)
	return a != nil && !bytes.Equal(a.Key, key)
}

// errRotated ends an update in which nothing has to be done: the key was replaced before, and the answer was lost.
var errRotated = errors.New("the key was replaced before")

// rotate gives an agent another key. The present key signs for the new one: the one before it cannot, so that who has found
// an old key cannot take the agent over.
func (r Record) rotate(c tunnel.Claim, now time.Time, overlap time.Duration) (Record, error) {
	a := r.agent(c.Agent)
	switch {
	case a == nil:
		return r, unknownAgent()
	case a.Revoked():
		return r, refuse("revoked", "an admin has revoked this agent")
	case a.held(c.Key) && bytes.Equal(a.Key, c.NewKey):
		return r, errRotated
	case !bytes.Equal(a.Key, c.Key):
		return r, keyReplaced()
	case bytes.Equal(c.NewKey, c.Key):
		return r, refuse("bad-key", "the new key is the present one")
	}
	r.Agents = slices.Clone(r.Agents)
	a = r.agent(c.Agent)
	a.OldKey, a.OldUntil = a.Key, now.Add(overlap)
	a.Key, a.KeySince = c.NewKey, now
	return r, nil
}

func unknownAgent() error {
	return refuse("unknown-agent", "the agent is not a member of this gateway; join it again")
}

func keyReplaced() error {
	return &tunnel.Refusal{
		Code: tunnel.RefusedKeyReplaced, Permanent: true,
		Reason: "the agent's key was replaced by another; if nobody did that on purpose, revoke the agent and join it again",
	}
}

// rotate replaces an agent's key, as proved by both.
func (r *Registry) rotate(ctx context.Context, c tunnel.Claim, peer string) (tunnel.Welcome, error) {
	err := r.records.Update(ctx, c.Gateway, func(record Record) (Record, error) {
		return record.rotate(c, time.Now().UTC(), r.c.KeyOverlap)
	})
	if errors.Is(err, store.ErrNotFound) {
		err = refuse("unknown-gateway", "the relay knows no gateway of this name")
	}
	if err != nil && !errors.Is(err, errRotated) {
		return tunnel.Welcome{}, fmt.Errorf("replace the key of agent %s: %w", label(c.Agent), err)
	}
	r.c.Log.Info("agent key replaced", "gateway", c.Gateway, "agent", c.Agent, "peer", peer,
		"old", tunnel.Fingerprint(c.Key), "fingerprint", tunnel.Fingerprint(c.NewKey), "repeated", err != nil)
	return tunnel.Welcome{Agent: c.Agent}, nil
}

// tellKeyReplaced has the agent prove its present key over a link that was opened with the one before it.
func (l *Link) tellKeyReplaced(a *Agent) {
	if p := l.proved.Load(); p.entra != nil || p.key.Equal(ed25519.PublicKey(a.Key)) {
		return
	}
	_ = l.SendControl(tunnel.ControlKeyReplaced, tunnel.KeyReplaced{Key: tunnel.Fingerprint(a.Key)}) // the sweep ends links that fail
}

// A proof is what a link's agent has proved last.
type proof struct {
	key   ed25519.PublicKey
	entra *entra.Identity // nil: the agent's own key says who it is
}

// ended says why the proof is no longer good; empty if it is.
func (p *proof) ended(a *Agent, now time.Time) string {
	switch {
	case p.entra != nil && now.After(p.entra.Expires):
		return "the agent's token has ended"
	case p.entra == nil && !a.holds(p.key, now):
		return "the agent's key was replaced"
	}
	return ""
}

// prove takes an agent's proof over a live link. It runs in the link's reader, and does not wait there for Entra's keys: one
// proof at a time is looked at, and of those that come meanwhile the last.
func (r *Registry) prove(l *Link, body []byte) {
	body = slices.Clone(body) // the reader uses it again
	l.unread.Store(&body)
	if !l.proving.CompareAndSwap(false, true) {
		return
	}
	r.serving.Go(func() {
		for {
			for body := l.unread.Swap(nil); body != nil; body = l.unread.Swap(nil) {
				ctx, cancel := context.WithTimeout(context.Background(), proveTimeout)
				r.judge(ctx, l, *body)
				cancel()
			}
			l.proving.Store(false)
			if l.unread.Load() == nil || !l.proving.CompareAndSwap(false, true) {
				return
			}
		}
	})
}

// proveTimeout bounds the look at a proof.
const proveTimeout = 10 * time.Second

func (r *Registry) judge(ctx context.Context, l *Link, body []byte) {
	p, err := l.bond.Check(body)
	switch {
	case err != nil:
	case l.proved.Load().entra != nil:
		err = r.renew(ctx, l, p)
	default:
		err = r.accept(l, p)
	}
	if err != nil {
		r.c.Log.Warn("an agent's proof over its link was refused", "gateway", l.Gateway, "agent", l.Agent, "error", err)
	}
}

func (r *Registry) accept(l *Link, p tunnel.Proven) error {
	record, _ := r.records.Get(l.Gateway)
	a := record.agent(l.Agent)
	if a == nil || a.Revoked() || !p.Key.Equal(ed25519.PublicKey(a.Key)) {
		return errors.New("the key is not the agent's")
	}
	l.proved.Store(&proof{key: p.Key})
	r.c.Log.Info("link proved with the agent's new key", "gateway", l.Gateway, "agent", l.Agent, "slot", l.claim.Slot,
		"fingerprint", tunnel.Fingerprint(p.Key))
	return nil
}

// sweep ends links whose proof has ended, every second until ctx ends.
func (r *Registry) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for l, reason := range r.outdated(now) {
				r.c.Log.Warn("link is ended", "gateway", l.Gateway, "agent", l.Agent, "slot", l.claim.Slot, "reason", reason)
				r.serving.Go(func() { r.retire(context.WithoutCancel(ctx), l, reason) })
			}
		}
	}
}

// outdated gives the links whose proof has ended and that are not being drained for it yet, and why.
func (r *Registry) outdated(now time.Time) map[*Link]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[*Link]string{}
	if r.draining {
		return out // they all end
	}
	for _, s := range *r.sites.Load() {
		for _, l := range s.all() {
			a := s.record.Load().agent(l.Agent)
			if a == nil {
				continue // reconcile ends it
			}
			if reason := l.proved.Load().ended(a, now); reason != "" && l.outdated.CompareAndSwap(false, true) {
				out[l] = reason
			}
		}
	}
	return out
}
