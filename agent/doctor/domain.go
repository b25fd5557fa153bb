package doctor

import (
	"context"
	"sync"

	"sallyport/agent"
)

// questions are those that the domain is asked. Each is asked once in an examination, however many APIs want to know: with a
// wrong password or a stale keytab each would be one logon more towards a locked account.
type questions struct {
	mu          sync.Mutex // guards delegations and locks
	delegations map[actor]func() acting
	locks       func() (agent.LockoutRisk, error)
}

// actor is an account that acts for callers, as agent.yaml names it.
type actor struct{ account, secret, keytab, principal string }

// acting is what TryDelegation has found.
type acting struct {
	account, way string
	err          error
}

func (q *questions) delegation(ctx context.Context, p *patient, a *agent.API) acting {
	w := a.Auth.Windows
	who := actor{w.Account, w.Secret, w.Keytab, w.Principal}
	q.mu.Lock()
	ask, asked := q.delegations[who]
	if !asked {
		ask = sync.OnceValue(func() (t acting) {
			ctx, cancel := bounded(ctx)
			defer cancel()
			t.account, t.way, t.err = agent.TryDelegation(ctx, p.config, a, p.deps)
			return t
		})
		if q.delegations == nil {
			q.delegations = map[actor]func() acting{}
		}
		q.delegations[who] = ask
	}
	q.mu.Unlock()
	return ask()
}

func (q *questions) lockout(ctx context.Context, p *patient) (agent.LockoutRisk, error) {
	q.mu.Lock()
	if q.locks == nil {
		q.locks = sync.OnceValues(func() (agent.LockoutRisk, error) {
			ctx, cancel := bounded(ctx)
			defer cancel()
			return agent.TryLockout(ctx, p.config, p.deps)
		})
	}
	ask := q.locks
	q.mu.Unlock()
	return ask()
}
