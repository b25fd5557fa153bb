package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/agent/state"
	"sallyport/tunnel"
)

// A key is replaced in three steps, and the agent can link after a crash between any two of them:
//
//  1. the next key is on the disk beside the present one (Prepare);
//  2. the relay is shown both, and takes the next one (RotateClaim); for a while it takes either;
//  3. the next key is the present one on the disk (Promote).
//
// An agent that stopped between 2 and 3 is told by the relay that its key was replaced, and then has the next one at hand.

// lockName is the file that keeps two of those who replace a key apart.
const lockName = "identity.lock"

// lockTimeout bounds the wait for another command that replaces the key.
const lockTimeout = 75 * time.Second

// Lock keeps others from replacing the identity until it is given back.
func Lock(ctx context.Context, dir state.Dir) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout, errors.New("another command is at work on the agent's key"))
	defer cancel()
	return dir.Lock(ctx, lockName)
}

// Prepare puts a next key beside the present one, unless there is one of an attempt that did not come to its end. The
// caller holds the Lock.
func (i *Identity) Prepare(dir state.Dir) error {
	if i.next != nil {
		return nil
	}
	_, next, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make the agent's next key: %w", err)
	}
	i.next = next
	return i.Save(dir)
}

// RotateClaim is how the agent replaces its key: it proves the present and the next one.
func (i *Identity) RotateClaim() tunnel.AgentIdentity {
	return tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindRotate, Gateway: i.Gateway, Agent: i.Agent},
		Key:   i.key, NewKey: i.next,
	}
}

// Promote makes the next key the present one. The caller holds the Lock.
func (i *Identity) Promote(dir state.Dir, now time.Time) error {
	if i.next == nil {
		return nil
	}
	i.advance(now)
	return i.Save(dir)
}

func (i *Identity) advance(now time.Time) {
	i.remember()
	i.key, i.next, i.Created = i.next, nil, now.UTC().Truncate(time.Second)
}

// Forget gives up a next key that the relay certainly has not taken. The caller holds the Lock.
func (i *Identity) Forget(dir state.Dir) error {
	i.next = nil
	return i.Save(dir)
}

// A Live is the identity of an agent that runs: a command may replace the key meanwhile. Safe for concurrent use.
type Live struct {
	dir state.Dir

	mu sync.Mutex
	id *Identity // guarded by mu; replaced, never changed
}

// Follow gives the identity in dir as it will be from now on; id is what it is now.
func Follow(dir state.Dir, id *Identity) *Live { return &Live{dir: dir, id: id} }

// Claim is how the agent proves itself on a link, with the key that is on the disk now.
func (l *Live) Claim(ctx context.Context) (tunnel.AgentIdentity, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read()
	return l.id.Claim(ctx)
}

// Fingerprint of the key in use.
func (l *Live) Fingerprint() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id.Fingerprint()
}

// read takes over what is on the disk, if it is this agent's still. l.mu is held.
func (l *Live) read() {
	id, err := Load(l.dir)
	switch {
	case err != nil, id.Agent != l.id.Agent, id.Gateway != l.id.Gateway, id.RelayKey != l.id.RelayKey:
		return // it counts from the next start; until then the agent is who it was
	case id.next != nil && fingerprint(id.next) == l.id.Fingerprint():
		return // the relay has said that it is the present one; the disk follows
	}
	l.id = id
}

// Replaced takes the next key into use if the relay has it on record: fingerprint is that of the relay's key for this
// agent, or empty if it only said that the present one is not. It reports whether the key in use is another one now.
func (l *Live) Replaced(now time.Time, relays string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.id.Fingerprint()
	l.read()
	if n := l.id.next; n != nil && l.id.Fingerprint() == before && (relays == "" || relays == fingerprint(n)) {
		id := *l.id
		id.advance(now)
		l.id = &id
	}
	return l.id.Fingerprint() != before
}

// Unsettled reports whether the key in use is not the present one on the disk yet.
func (l *Live) Unsettled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	id, err := Load(l.dir)
	return err == nil && id.next != nil && fingerprint(id.next) == l.id.Fingerprint()
}

// Settle puts the key that is in use on the disk as the present one, if it is the next one there.
func (l *Live) Settle(ctx context.Context) error {
	unlock, err := Lock(ctx, l.dir)
	if err != nil {
		return err
	}
	defer unlock()
	id, err := Load(l.dir)
	if err != nil {
		return err
	}
	if id.next == nil || fingerprint(id.next) != l.Fingerprint() {
		return nil // whoever began it has done it
	}
	return id.Promote(l.dir, time.Now())
}
