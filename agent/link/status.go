package link

import (
	"slices"
	"time"
)

// The states of a link, for people and scripts.
const (
	StateDialing = "dialing"
	StateUp      = "up"
	StateDown    = "down"                 // it is tried again
	StateWaiting = "waiting for approval" // by an admin of the relay
	StateRefused = "refused"              // an admin has to act
	StateClone   = "clone"                // another process with this agent's key is linked
)

// A Status is what there is to say of one of the links that are kept up.
type Status struct {
	Slot  int       `json:"slot"`
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Reason says why there is no link, NextTry when the next attempt is made.
	Reason  string    `json:"reason,omitempty"`
	NextTry time.Time `json:"nextTry,omitzero"`
	// RTT is the last measured round trip to the relay and back over a link that is up, in milliseconds.
	RTT float64 `json:"rttMillis,omitempty"`
	// Node and Version are the relay's, as it said when the link came up.
	Node    string `json:"node,omitempty"`
	Version string `json:"relayVersion,omitempty"`
}

// maxName bounds what the relay says of itself.
const maxName = 128

// Status of all links, by slot.
func (ls *Links) Status() []Status {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	list := slices.Clone(ls.status)
	for i := range list {
		if list[i].State == StateUp && ls.current[i] != nil {
			list[i].RTT = float64(ls.current[i].RTT().Microseconds()) / 1000
		}
	}
	return list
}

// Counts are what became of links since the start: those that came up where one had been before, planned ones too; attempts that
// failed; and links that ended without having been drained.
type Counts struct{ Reconnects, Failures, Lost uint64 }

// Counts gives them.
func (ls *Links) Counts() Counts {
	return Counts{ls.reconnects.Load(), ls.failures.Load(), ls.lost.Load()}
}

// note keeps what became of a slot, and tells.
func (ls *Links) note(s Status) {
	ls.mu.Lock()
	s.Since = time.Now().UTC()
	if old := ls.status[s.Slot]; old.State == s.State {
		s.Since = old.Since
	}
	ls.status[s.Slot] = s
	ls.mu.Unlock()
	if ls.c.Changed != nil {
		ls.c.Changed()
	}
}
