package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/agent/state"
	"sallyport/tunnel"
)

// ErrJoined is wrapped by Join's error when this agent is a member already.
var ErrJoined = errors.New("this agent has joined already")

// A JoinConfig is what Join needs.
type JoinConfig struct {
	// String is what the admin copied from the relay.
	String tunnel.JoinString
	// State is where the identity is kept.
	State state.Dir
	// Dialer gets to the relay that String names.
	Dialer *link.Dialer
	// Replace sets an identity that has joined aside and makes another.
	Replace       bool
	Name, Version string
	Log           *slog.Logger
}

// Join makes this agent a member of a gateway. The key is on the disk before anything is sent, so after a crash at any
// moment the same call with the same join string completes it.
func Join(ctx context.Context, c JoinConfig) (*identity.Identity, error) {
	id, aside, err := c.identity()
	if err != nil {
		return nil, err
	}
	if err := id.Save(c.State); err != nil {
		return nil, err
	}
	who := id.JoinClaim(c.String.Code)
	who.Claim.Name, who.Claim.Version = c.Name, c.Version
	welcome, err := link.Join(ctx, c.Dialer, who, id.RelayKey)
	if err != nil {
		err = fmt.Errorf("join gateway %s: %w", id.Gateway, err)
		if aside != "" && notAdmitted(err) {
			return nil, c.putBack(err, aside)
		}
		return nil, err
	}
	id.Agent, id.Joined, id.Pending = welcome.Agent, true, welcome.Pending
	if err := id.Save(c.State); err != nil {
		return nil, fmt.Errorf("the relay has admitted this agent, but that could not be saved: %w; "+
			"mend that and join again with the same join string", err)
	}
	return id, c.record(ctx, id)
}

// notAdmitted reports whether the relay has certainly not taken this agent in. Otherwise its key has to be kept: the code admits no
// other.
func notAdmitted(err error) bool {
	_, refused := errors.AsType[*tunnel.Refusal](err)
	return refused || errors.Is(err, tunnel.ErrRelayKey) || errors.Is(err, link.ErrUnreached)
}

// putBack has the agent go on as it was: a code that has expired costs nobody the key that works.
func (c JoinConfig) putBack(err error, aside string) error {
	if failed := identity.PutBack(c.State, aside); failed != nil {
		return errors.Join(err, failed)
	}
	c.Log.Info("the previous identity is in its place again")
	return err
}

// identity gives the identity to join with: the one of an attempt that did not come to its end, or a new one, and where it has set
// the one before aside.
func (c JoinConfig) identity() (id *identity.Identity, aside string, err error) {
	j := c.String
	old, err := identity.Load(c.State)
	switch {
	case errors.Is(err, identity.ErrNone):
	case err != nil && !c.Replace:
		return nil, "", err
	case err == nil && !old.Joined && old.RelayKey == j.RelayKey && old.Gateway == j.Gateway:
		old.Relay = j.Relay
		return old, "", nil // the relay may know this key already: a new one would need a new code
	case err == nil && !old.Joined:
		// An attempt elsewhere that the relay never confirmed: nothing is lost with its key.
	case err == nil && !c.Replace:
		return nil, "", fmt.Errorf("%w: gateway %s at %s, as agent %s; to join anew, add --replace (the old key is set aside, not deleted)",
			ErrJoined, old.Gateway, old.Relay, old.Agent)
	default:
		if aside, err = identity.SetAside(c.State, time.Now()); err != nil {
			return nil, "", err
		}
		c.Log.Info("the previous identity was set aside", "file", aside)
	}
	id, err = identity.New(j.Relay, j.RelayKey, j.Gateway)
	return id, aside, err
}

// record puts the membership on record.
func (c JoinConfig) record(ctx context.Context, id *identity.Identity) error {
	log, err := audit.Open(c.State, audit.Options{Log: c.Log, Key: id.Signer})
	if errors.Is(err, audit.ErrInUse) { // by the agent that runs: its next start puts the membership on record
		c.Log.Warn("the joining is not in the audit record, for the running agent writes that: restart the agent")
		return nil
	}
	if err != nil {
		return err
	}
	log.Record(audit.Event{Kind: audit.Join, Gateway: id.Gateway, Agent: id.Agent, Relay: id.Relay, Version: c.Version})
	done, cancel := context.WithCancel(ctx)
	cancel() // an ended context: what is queued is written, and that is all
	return log.Run(done)
}
