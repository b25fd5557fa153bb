package gateway

import "sync"

const (
	// maxUnproved bounds the links that have not proved themselves: in all, and from one address. Behind one address
	// there may be a whole company's agents, all of which come back at once when the relay was restarted.
	maxUnproved        = 1024
	maxUnprovedAddress = 64
)

// A doorkeeper counts the links whose handshake is under way. Each stays 10 seconds at most (tunnel.Greet).
type doorkeeper struct {
	mu        sync.Mutex
	all       int            // guarded by mu
	byAddress map[string]int // guarded by mu; only those above 0
}

func newDoorkeeper() *doorkeeper { return &doorkeeper{byAddress: map[string]int{}} }

func (d *doorkeeper) enter(address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= maxUnproved || d.byAddress[address] >= maxUnprovedAddress {
		return false
	}
	d.all++
	d.byAddress[address]++
	return true
}

func (d *doorkeeper) leave(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.byAddress[address]--; d.byAddress[address] == 0 {
		delete(d.byAddress, address)
	}
}
