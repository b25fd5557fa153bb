package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/agent/state"
	"sallyport/tunnel"
)

// A RotateConfig is what Rotate needs.
type RotateConfig struct {
	// State is where the identity is kept.
	State state.Dir
	// Dialer gets to the relay.
	Dialer        *link.Dialer
	Name, Version string
}

// Rotate replaces the agent's key: the relay is shown the present and a new one, in a handshake of its own. An agent that
// runs meanwhile keeps its links and proves the new key over them. After a crash at any moment the agent can link, and the
// same call completes what was begun.
func Rotate(ctx context.Context, c RotateConfig) (*identity.Identity, error) {
	unlock, err := identity.Lock(ctx, c.State)
	if err != nil {
		return nil, err
	}
	defer unlock()
	id, err := identity.Load(c.State)
	if err != nil {
		return nil, err
	}
	if !id.Joined {
		return nil, fmt.Errorf("%w: the relay has not confirmed it; run 'sallyport-agent join' again", identity.ErrNone)
	}
	if err := id.Prepare(c.State); err != nil {
		return nil, err
	}
	who := id.RotateClaim()
	who.Claim.Name, who.Claim.Version = c.Name, c.Version
	if err := link.Rotate(ctx, c.Dialer, who, id.RelayKey); err != nil {
		return nil, notRotated(c.State, id, err)
	}
	if err := id.Promote(c.State, time.Now()); err != nil {
		return nil, fmt.Errorf("the relay has taken the new key, but that could not be saved: %w; mend that and run the same command again", err)
	}
	return id, nil
}

// notRotated words why, and gives the next key up if the relay certainly has not taken it.
func notRotated(dir state.Dir, id *identity.Identity, err error) error {
	refusal, ok := errors.AsType[*tunnel.Refusal](err)
	if ok && refusal.Code == "bad-claim" {
		return errors.Join(errors.New("the relay is of a version that cannot replace keys: update it, or join again with --replace"),
			id.Forget(dir))
	}
	return fmt.Errorf("replace the agent's key: %w; the present key stays in use, and the same command tries again", err)
}

// keyReplaced takes the relay's word that this agent has another key on record than the link was proved with. It is called
// in a link's reader; keepKey does the work.
func (a *Agent) keyReplaced(body []byte) {
	if a.live == nil {
		return // a token says who the agent is
	}
	var m tunnel.KeyReplaced
	if err := json.Unmarshal(body, &m); err != nil {
		a.log.Debug("a control message could not be read", "kind", tunnel.ControlKeyReplaced, "error", err)
		return
	}
	select {
	case a.replaced <- m.Key:
	default: // one is at work already, and proves all links
	}
}

// up is called for each link that has come up.
func (a *Agent) up(l *tunnel.Link) {
	a.offer(l)
	a.anchor.linked()
	a.sendNotices()
	if a.live != nil && a.live.Unsettled() { // the link was proved with a key that the disk has as the next one
		select {
		case a.replaced <- a.live.Fingerprint():
		default:
		}
	}
}

// keepKey changes over to the agent's new key when the relay has taken it, until ctx ends.
func (a *Agent) keepKey(ctx context.Context) {
	recorded := a.started
	for {
		select {
		case <-ctx.Done():
			return
		case key := <-a.replaced:
			a.live.Replaced(time.Now(), key)
			if now := a.live.Fingerprint(); now != recorded {
				recorded = now
				a.log.Info("the agent's key was replaced", "fingerprint", now)
				a.event(audit.Event{
					Kind: audit.Key, Gateway: a.config.Gateway, Agent: a.agent, Relay: a.config.Relay, Key: now,
				})
			}
			a.changeOver(ctx, key)
		}
	}
}

func (a *Agent) changeOver(ctx context.Context, relays string) {
	if a.live.Fingerprint() != relays {
		a.log.Error("the relay has another key for this agent than this machine has: if nobody replaced it on purpose, have the agent "+
			"revoked and join it again", "fingerprint", a.live.Fingerprint(), "relay_has", printable(relays))
		return
	}
	a.links.Prove(ctx)
	if err := a.live.Settle(ctx); err != nil {
		a.log.Warn("the agent's new key could not be saved as the present one; 'sallyport-agent key rotate' tries again", "error", err)
	}
}
