package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// maxUnproved bounds the links that have not proved themselves: in all, and from one address. Behind one address
	// there may be a whole company's agents, all of which come back at once when the relay was restarted.
	maxUnproved        = 1024
	maxUnprovedAddress = 64
	// maxWaiting bounds those that wait for their turn, in all and from one address; each costs a connection with TLS.
	maxWaiting        = 1024
	maxWaitingAddress = 512
	// doorWait is how long one waits; agents give the upgrade 10 seconds.
	doorWait = 5 * time.Second
	// laterLeast and laterMost are between what those are asked to wait that find no place to wait here.
	laterLeast, laterMost = 5 * time.Second, 30 * time.Second
	// tellEvery limits how often the log speaks of them: whoever has no proof must not fill it.
	tellEvery = 10 * time.Second
)

// A doorkeeper counts the links whose handshake is under way, and lets others wait for their turn: to refuse one costs a TLS
// handshake, and again each time that it comes back. A handshake stays 10 seconds at most (tunnel.Greet).
type doorkeeper struct {
	log *slog.Logger

	mu        sync.Mutex
	all       int                 // guarded by mu
	byAddress map[string]*visited // guarded by mu; only those with somebody inside or waiting
	waiting   []*visitor          // guarded by mu; the longest first

	refused int       // guarded by mu: since the log was told
	told    time.Time // guarded by mu
}

// visited counts one address.
type visited struct{ inside, waiting int }

// A visitor waits for its turn.
type visitor struct {
	address string
	turn    chan struct{} // closed when it is its turn
}

func newDoorkeeper(log *slog.Logger) *doorkeeper {
	return &doorkeeper{log: log, byAddress: map[string]*visited{}}
}

// enter lets a link in, at once or after a while; false if there is no room. Who was let in leaves again.
func (d *doorkeeper) enter(ctx context.Context, address string) bool {
	v, entered := d.come(address)
	if v == nil {
		return entered
	}
	late := time.NewTimer(doorWait)
	defer late.Stop()
	select {
	case <-v.turn:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return d.giveUp(v)
}

// come lets a link in at once, has it wait as a visitor, or does neither.
func (d *doorkeeper) come(address string) (v *visitor, entered bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.byAddress[address]
	if at == nil {
		at = &visited{}
		d.byAddress[address] = at
	}
	if d.room(at) && at.waiting == 0 {
		d.all++
		at.inside++
		return nil, true
	}
	if len(d.waiting) >= maxWaiting || at.waiting >= maxWaitingAddress {
		d.turnAway(address)
		return nil, false
	}
	v = &visitor{address, make(chan struct{})}
	at.waiting++
	d.waiting = append(d.waiting, v)
	return v, false
}

func (d *doorkeeper) room(at *visited) bool {
	return d.all < maxUnproved && at.inside < maxUnprovedAddress
}

// turnAway counts one that was refused; d.mu is held.
func (d *doorkeeper) turnAway(address string) {
	d.refused++
	if at := d.byAddress[address]; *at == (visited{}) {
		delete(d.byAddress, address)
	}
	if now := time.Now(); now.Sub(d.told) >= tellEvery {
		d.log.Warn("links refused: too many that have not proved themselves", "links", d.refused, "peer", address, "waiting", len(d.waiting))
		d.refused, d.told = 0, now
	}
}

// giveUp takes away a visitor that waits no longer, unless its turn has come meanwhile.
func (d *doorkeeper) giveUp(v *visitor) (entered bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.waiting, v)
	if i < 0 {
		return true
	}
	d.waiting = slices.Delete(d.waiting, i, i+1)
	d.byAddress[v.address].waiting--
	d.turnAway(v.address)
	return false
}

// leave makes room for whoever has waited longest, of those whose address has room.
func (d *doorkeeper) leave(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	at := d.byAddress[address]
	at.inside--
	if i := slices.IndexFunc(d.waiting, func(v *visitor) bool { return d.room(d.byAddress[v.address]) }); i >= 0 {
		v := d.waiting[i]
		d.waiting = slices.Delete(d.waiting, i, i+1)
		next := d.byAddress[v.address]
		next.waiting--
		next.inside++
		d.all++
		close(v.turn)
	}
	if *at == (visited{}) {
		delete(d.byAddress, address)
	}
}

// later is when one that was refused is to come back: another time for each, so that they do not come together.
func later() time.Duration { return laterLeast + rand.N(laterMost-laterLeast) }
