package gateway

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/relay/store"
	"sallyport/tunnel"
)

const (
	// DefaultCodeLife is how long a join code can be used.
	DefaultCodeLife = time.Hour
	// maxCodeLife bounds what an admin can ask for.
	maxCodeLife = 30 * 24 * time.Hour
)

// AddGateway makes a gateway and gives the join string for its first agent. life is how long the code can be used; 0 is
// DefaultCodeLife. The code is not kept: the join string cannot be had again.
func (r *Registry) AddGateway(ctx context.Context, name string, life time.Duration) (tunnel.JoinString, error) {
	if err := CheckName(name); err != nil {
		return tunnel.JoinString{}, err
	}
	join, code, err := r.newCode(name, life)
	if err != nil {
		return tunnel.JoinString{}, err
	}
	record := Record{Name: name, Created: time.Now().UTC(), Codes: []Code{code}}
	err = r.records.Create(ctx, name, record)
	if errors.Is(err, store.ErrExists) {
		return tunnel.JoinString{}, fmt.Errorf("gateway %s: %w; for another agent use 'sallyport-relay gateway join %s'",
			name, ErrExists, name)
	}
	if err != nil {
		return tunnel.JoinString{}, fmt.Errorf("add gateway %s: %w", name, err)
	}
	return join, nil
}

// NewJoin gives a join string for another agent of a gateway; see AddGateway.
func (r *Registry) NewJoin(ctx context.Context, name string, life time.Duration) (tunnel.JoinString, error) {
	join, code, err := r.newCode(name, life)
	if err != nil {
		return tunnel.JoinString{}, err
	}
	err = r.records.Update(ctx, name, func(record Record) (Record, error) {
		return record.withCode(code, time.Now())
	})
	if err != nil {
		return tunnel.JoinString{}, unknownGateway(name, err)
	}
	return join, nil
}

func (r *Registry) newCode(name string, life time.Duration) (tunnel.JoinString, Code, error) {
	if life == 0 {
		life = DefaultCodeLife
	}
	if life < 0 || life > maxCodeLife {
		return tunnel.JoinString{}, Code{}, fmt.Errorf("%w: %s (at most 30 days)", ErrCodeLife, life)
	}
	join := tunnel.JoinString{Relay: r.c.URL, RelayKey: r.Fingerprint(), Gateway: name, Code: tunnel.NewCode()}
	key := tunnel.JoinKey(join.Code).Public().(ed25519.PublicKey)
	return join, Code{Key: key, Expires: time.Now().Add(life).UTC()}, nil
}

// unknownGateway translates the store's "not found".
func unknownGateway(name string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w %s", ErrUnknownGateway, name)
	}
	return fmt.Errorf("change gateway %s: %w", name, err)
}

// RemoveGateway forgets a gateway and its agents, and closes their links.
func (r *Registry) RemoveGateway(ctx context.Context, name string) error {
	if err := r.records.Delete(ctx, name); err != nil {
		return unknownGateway(name, err)
	}
	return nil
}

// RevokeAgent shuts an agent out and closes its links. Revoking twice is no error.
func (r *Registry) RevokeAgent(ctx context.Context, id string) error {
	return r.changeAgents(ctx, id, func(record *Record) {
		if a := record.agent(id); !a.Revoked() {
			a.RevokedAt = time.Now().UTC()
		}
	})
}

// RemoveAgent forgets an agent. One that is not revoked is shut out by it all the same, in the same write: its links are
// closed, and the code that it joined with stays used up.
func (r *Registry) RemoveAgent(ctx context.Context, id string) error {
	return r.changeAgents(ctx, id, func(record *Record) {
		record.Agents = slices.DeleteFunc(record.Agents, func(a Agent) bool { return a.ID == id })
	})
}

// changeAgents changes a copy of the record of the agent's gateway.
func (r *Registry) changeAgents(ctx context.Context, id string, change func(*Record)) error {
	unknown := fmt.Errorf("%w %s; 'sallyport-relay agent list' shows the agents", ErrUnknownAgent, id)
	for name, record := range r.records.All() {
		if record.agent(id) == nil {
			continue
		}
		err := r.records.Update(ctx, name, func(record Record) (Record, error) {
			if record.Agents = slices.Clone(record.Agents); record.agent(id) == nil {
				return record, unknown
			}
			change(&record)
			return record, nil
		})
		switch {
		case errors.Is(err, ErrUnknownAgent), errors.Is(err, store.ErrNotFound): // somebody else was faster
			return unknown
		case err != nil:
			return fmt.Errorf("change gateway %s: %w", name, err)
		}
		return nil
	}
	return unknown
}

// Exists reports whether there is a gateway of this name.
func (r *Registry) Exists(name string) bool {
	_, ok := r.records.Get(name)
	return ok
}

// Status is a gateway at this moment.
type Status struct {
	Name    string        `json:"name"`
	Created time.Time     `json:"created"`
	Agents  []AgentStatus `json:"agents"`
	// OpenCodes is how many join codes wait to be used.
	OpenCodes int `json:"openCodes"`
	// Warnings are for the admin, one sentence each: agents that do not agree.
	Warnings []string `json:"warnings,omitempty"`
}

// AgentStatus is an agent at this moment.
type AgentStatus struct {
	ID      string       `json:"id"`
	Gateway string       `json:"gateway"`
	Name    string       `json:"name,omitempty"`
	Joined  time.Time    `json:"joined"`
	Revoked time.Time    `json:"revoked,omitzero"`
	Links   []LinkStatus `json:"links"`
	// Clone is set for a day after a second process with this agent's key was refused.
	Clone *Clone `json:"clone,omitempty"`
}

// A Clone is a process that showed the key of an agent whose own process is linked: the machine or its key was copied.
// This relay process remembers the last one.
type Clone struct {
	Seen time.Time `json:"seen"`
	// Peer is the address it came from.
	Peer string `json:"peer"`
}

// cloneMemory is how long a clone is shown. One that is still there tries again each minute.
const cloneMemory = 24 * time.Hour

// LinkStatus is a link at this moment.
type LinkStatus struct {
	Slot    int           `json:"slot"`
	Since   time.Time     `json:"since"`
	Peer    string        `json:"peer"`
	Version string        `json:"version,omitempty"`
	RTT     time.Duration `json:"rttNs"`
	Streams int           `json:"streams"`
	// State is "up", "draining" or "silent".
	State string   `json:"state"`
	APIs  []string `json:"apis"`
}

// Status of all gateways, by name.
func (r *Registry) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	sites := *r.sites.Load()
	out := make([]Status, 0, len(sites))
	for _, name := range slices.Sorted(maps.Keys(sites)) {
		out = append(out, sites[name].status(time.Now()))
	}
	return out
}

// status is called under Registry.mu.
func (s *site) status(now time.Time) Status {
	record := s.record.Load()
	out := Status{Name: record.Name, Created: record.Created, Agents: []AgentStatus{}}
	for _, c := range record.Codes {
		if c.UsedBy == "" && now.Before(c.Expires) {
			out.OpenCodes++
		}
	}
	for _, a := range record.Agents {
		st := AgentStatus{ID: a.ID, Gateway: record.Name, Name: a.Name, Joined: a.Joined, Revoked: a.RevokedAt, Links: []LinkStatus{}}
		if c, seen := s.clones[a.ID]; seen && now.Sub(c.Seen) < cloneMemory {
			st.Clone = &c
		}
		for _, l := range s.all() {
			if l.Agent == a.ID {
				st.Links = append(st.Links, l.status())
			}
		}
		slices.SortFunc(st.Links, func(x, y LinkStatus) int { return x.Slot - y.Slot })
		out.Agents = append(out.Agents, st)
	}
	slices.SortFunc(out.Agents, func(x, y AgentStatus) int { return strings.Compare(x.ID, y.ID) })
	out.Warnings = s.disagreements()
	return out
}
