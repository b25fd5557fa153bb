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

// A CodeUse says how a join code can be used. The zero value is a code for one agent, of DefaultCodeLife.
type CodeUse struct {
	// Life is how long the code can be used; 0 is DefaultCodeLife.
	Life time.Duration
	// Uses is how many agents can join with it; 0 is one. More than one need Approve: a string that many machines have
	// seen must not be enough to become a member.
	Uses int
	// Approve has each agent wait until an admin has approved it.
	Approve bool
}

// An Admission is a new join code: what the agents' admin gets, and how it can be used.
type Admission struct {
	tunnel.JoinString
	// ID names the code for ApproveCode and gives nothing away.
	ID      string
	Expires time.Time
	Uses    int
	Approve bool
}

// AddGateway makes a gateway and gives the join string for its first agents. The code is not kept: the join string cannot
// be had again.
func (r *Registry) AddGateway(ctx context.Context, name string, use CodeUse) (Admission, error) {
	if err := CheckName(name); err != nil {
		return Admission{}, err
	}
	join, code, err := r.newCode(name, use)
	if err != nil {
		return Admission{}, err
	}
	// Of a gateway of this name that was removed while the store failed, nothing may be left to this one.
	if !r.Exists(name) {
		if err := r.definitions.DeleteGateway(ctx, name); err != nil {
			return Admission{}, fmt.Errorf("add gateway %s: %w", name, err)
		}
	}
	record := Record{Name: name, Created: time.Now().UTC(), Codes: []Code{code}}
	err = r.records.Create(ctx, name, record)
	if errors.Is(err, store.ErrExists) {
		return Admission{}, fmt.Errorf("gateway %s: %w; for another agent use 'sallyport-relay gateway join %s'",
			name, ErrExists, name)
	}
	if err != nil {
		return Admission{}, fmt.Errorf("add gateway %s: %w", name, err)
	}
	return join, nil
}

// NewJoin gives a join string for more agents of a gateway; see AddGateway.
func (r *Registry) NewJoin(ctx context.Context, name string, use CodeUse) (Admission, error) {
	join, code, err := r.newCode(name, use)
	if err != nil {
		return Admission{}, err
	}
	err = r.records.Update(ctx, name, func(record Record) (Record, error) {
		return record.withCode(code, time.Now())
	})
	if err != nil {
		return Admission{}, unknownGateway(name, err)
	}
	return join, nil
}

func (r *Registry) newCode(name string, use CodeUse) (Admission, Code, error) {
	if use.Life == 0 {
		use.Life = DefaultCodeLife
	}
	use.Uses = max(use.Uses, 1)
	switch {
	case use.Life < 0 || use.Life > maxCodeLife:
		return Admission{}, Code{}, fmt.Errorf("%w: %s (at most 30 days)", ErrCodeLife, use.Life)
	case use.Uses > maxAgents:
		return Admission{}, Code{}, fmt.Errorf("%w: %d (a gateway has at most %d agents)", ErrCodeUses, use.Uses, maxAgents)
	case use.Uses > 1 && !use.Approve:
		return Admission{}, Code{}, fmt.Errorf("%w: %d without approval (add --approve: an admin then approves each agent)",
			ErrCodeUses, use.Uses)
	}
	join := tunnel.JoinString{Relay: r.c.URL, RelayKey: r.Fingerprint(), Gateway: name, Code: tunnel.NewCode()}
	code := Code{
		Key:     tunnel.JoinKey(join.Code).Public().(ed25519.PublicKey),
		Expires: time.Now().Add(use.Life).UTC(), Uses: use.Uses, Approve: use.Approve,
	}
	return Admission{join, code.ID(), code.Expires, use.Uses, use.Approve}, code, nil
}

// unknownGateway translates the store's "not found".
func unknownGateway(name string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w %s", ErrUnknownGateway, name)
	}
	return fmt.Errorf("change gateway %s: %w", name, err)
}

// RemoveGateway forgets a gateway, its agents and their APIs' definitions, and closes the links.
func (r *Registry) RemoveGateway(ctx context.Context, name string) error {
	if err := r.records.Delete(ctx, name); err != nil {
		return unknownGateway(name, err)
	}
	if err := r.definitions.DeleteGateway(ctx, name); err != nil {
		return fmt.Errorf("gateway %s was removed, but not what is kept of its APIs: %w", name, err)
	}
	r.forgetAnchors(ctx)
	return nil
}

// RevokeAgent shuts an agent out and closes its links. Revoking twice is no error.
func (r *Registry) RevokeAgent(ctx context.Context, id string) error {
	return r.changeAgents(ctx, id, func(record *Record) error {
		if a := record.agent(id); !a.Revoked() {
			a.RevokedAt = time.Now().UTC()
		}
		return nil
	})
}

// RemoveAgent forgets an agent. One that is not revoked is shut out by it all the same, in the same write: its links are
// closed, and the code that it joined with stays used up.
func (r *Registry) RemoveAgent(ctx context.Context, id string) error {
	err := r.changeAgents(ctx, id, func(record *Record) error {
		record.Agents = slices.DeleteFunc(record.Agents, func(a Agent) bool { return a.ID == id })
		return nil
	})
	if err == nil {
		r.forgetAnchors(ctx)
	}
	return err
}

// changeAgents changes a copy of the record of the agent's gateway.
func (r *Registry) changeAgents(ctx context.Context, id string, change func(*Record) error) error {
	unknown := fmt.Errorf("%w %s; 'sallyport-relay agent list' shows the agents", ErrUnknownAgent, id)
	for name, record := range r.records.All() {
		if record.agent(id) == nil {
			continue
		}
		err := r.records.Update(ctx, name, func(record Record) (Record, error) {
			if record.Agents = slices.Clone(record.Agents); record.agent(id) == nil {
				return record, unknown
			}
			return record, change(&record)
		})
		switch {
		case errors.Is(err, ErrUnknownAgent), errors.Is(err, store.ErrNotFound): // somebody else was faster
			return unknown
		case errors.Is(err, ErrNotPending):
			return err
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
	// Entra says which applications link as agents without a join.
	Entra []EntraRule `json:"entra,omitempty"`
}

// AgentStatus is an agent at this moment.
type AgentStatus struct {
	ID      string    `json:"id"`
	Gateway string    `json:"gateway"`
	Name    string    `json:"name,omitempty"`
	Joined  time.Time `json:"joined"`
	Revoked time.Time `json:"revoked,omitzero"`
	// Refused is set besides Revoked if the agent was never approved.
	Refused time.Time `json:"refused,omitzero"`
	// Pending says that the agent waits for approval; Code is the ID of the code that it joined with, Peer the address that
	// it came from.
	Pending bool   `json:"pending,omitempty"`
	Code    string `json:"code,omitempty"`
	Peer    string `json:"peer,omitempty"`
	// Fingerprint of the agent's key, as its own admin sees it too.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Entra is who the agent is there, if it signs on with that instead of a key.
	Entra *EntraName `json:"entra,omitempty"`
	// KeySince is since when the agent has its key.
	KeySince time.Time    `json:"keySince,omitzero"`
	Links    []LinkStatus `json:"links"`
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
	out := Status{Name: record.Name, Created: record.Created, Agents: []AgentStatus{}, Entra: record.Entra}
	for _, c := range record.Codes {
		if c.left() > 0 && now.Before(c.Expires) {
			out.OpenCodes++
		}
	}
	for _, a := range record.Agents {
		st := a.status(record.Name)
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

func (a *Agent) status(gateway string) AgentStatus {
	s := AgentStatus{
		ID: a.ID, Gateway: gateway, Name: a.Name, Joined: a.Joined, Revoked: a.RevokedAt, Refused: a.RefusedAt,
		Pending: a.Pending && !a.Revoked(), Code: a.Code, Peer: a.Peer, Entra: a.Entra, Links: []LinkStatus{},
	}
	if a.Entra != nil {
		return s
	}
	s.Fingerprint, s.KeySince = tunnel.Fingerprint(a.Key), a.KeySince
	if s.KeySince.IsZero() {
		s.KeySince = a.Joined
	}
	return s
}
