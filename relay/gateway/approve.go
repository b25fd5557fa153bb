package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sallyport/tunnel"
)

// pendingRetry is how often an agent that waits for approval asks again: an admin who has approved it should see it come up
// soon, and a whole gateway of waiting agents is still a trickle.
const pendingRetry = 15 * time.Second

// waiting is what an agent is told that no admin has approved yet.
func waiting() *tunnel.Refusal {
	return &tunnel.Refusal{
		Code: tunnel.RefusedPending, RetryAfter: pendingRetry,
		Reason: "the agent waits for an admin of the relay, who compares its fingerprint and approves it",
	}
}

// ApproveAgent lets an agent link that waits for it.
func (r *Registry) ApproveAgent(ctx context.Context, id string) error {
	return r.changeAgents(ctx, id, func(record *Record) error {
		a := record.agent(id)
		if a.Revoked() || !a.Pending {
			return fmt.Errorf("%w: agent %s", ErrNotPending, id)
		}
		a.Pending = false
		return nil
	})
}

// RefuseAgent shuts out an agent that waits for approval. It stays on record, so that it can be told.
func (r *Registry) RefuseAgent(ctx context.Context, id string) error {
	return r.changeAgents(ctx, id, func(record *Record) error {
		a := record.agent(id)
		if a.Revoked() || !a.Pending {
			return fmt.Errorf("%w: agent %s", ErrNotPending, id)
		}
		a.RevokedAt = time.Now().UTC()
		a.RefusedAt = a.RevokedAt
		return nil
	})
}

// ApproveCode lets all agents link that have joined with the code of this ID and wait for it; it names them. Those who
// join with the code later wait again.
func (r *Registry) ApproveCode(ctx context.Context, code string) (approved []string, err error) {
	for name, record := range r.records.All() {
		if !slices.ContainsFunc(record.Agents, func(a Agent) bool { return a.Code == code && a.waits() }) {
			continue
		}
		err := r.records.Update(ctx, name, func(record Record) (Record, error) {
			record.Agents, approved = slices.Clone(record.Agents), nil
			for i := range record.Agents {
				if a := &record.Agents[i]; a.Code == code && a.waits() {
					a.Pending = false
					approved = append(approved, a.ID)
				}
			}
			return record, nil
		})
		if err != nil {
			return nil, unknownGateway(name, err)
		}
		return approved, nil
	}
	return nil, fmt.Errorf("%w: no agent that joined with the code %s", ErrNotPending, code)
}

func (a *Agent) waits() bool { return a.Pending && !a.Revoked() }
