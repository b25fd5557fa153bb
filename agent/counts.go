package agent

import (
	"sync"
	"sync/atomic"
	"time"

	"sallyport/agent/audit"
)

// An APIStatus is what became of an API's calls since the agent started.
type APIStatus struct {
	Name string `json:"name"`
	// Calls are all that have ended. Refused are those that were never made (the allow-list, a pause, nobody proved); Failed
	// are those that were allowed and ended with a problem: the API was not reached, did not answer, or refused the sign-on.
	Calls   uint64 `json:"calls"`
	Refused uint64 `json:"refused"`
	Failed  uint64 `json:"failed"`
	// Last is when the last call ended.
	Last time.Time `json:"last,omitzero"`
	// LastProblem is the last call that was refused or failed.
	LastProblem *CallProblem `json:"lastProblem,omitempty"`
}

// A CallProblem is a call that came to nothing, as it is on record under its request ID.
type CallProblem struct {
	Time    time.Time `json:"time"`
	Request string    `json:"request"`
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Status  int       `json:"status"`
	Problem string    `json:"problem"`
}

// counts are an API's, from the agent's start on; a reload leaves them.
type counts struct {
	calls, refused, failed atomic.Uint64
	last                   atomic.Int64 // Unix milliseconds

	mu      sync.Mutex
	problem *CallProblem // guarded by mu
}

func (c *counts) add(e *audit.Event) {
	now := time.Now()
	c.calls.Add(1)
	c.last.Store(now.UnixMilli())
	switch {
	case e.Verdict == audit.Refused:
		c.refused.Add(1)
	case e.Problem != "":
		c.failed.Add(1)
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problem = &CallProblem{now.UTC(), e.Request, e.Method, e.Path, e.Status, e.Problem}
}

func (c *counts) status(name string) APIStatus {
	s := APIStatus{Name: name, Calls: c.calls.Load(), Refused: c.refused.Load(), Failed: c.failed.Load()}
	if at := c.last.Load(); at != 0 {
		s.Last = time.UnixMilli(at).UTC()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.LastProblem = c.problem // never changed once it is there
	return s
}

// count adds an exchange to its API's. One that named an API that is not there is in the record alone.
func (a *Agent) count(c *call) {
	one := a.now.Load().apis[c.API]
	if one != nil {
		one.counts.add(&c.Event)
	}
	if c.API != "" { // the relay's own questions are no calls
		a.measure(c, one != nil)
	}
}

// calls is how many calls have ended.
func (a *Agent) calls() (n uint64) {
	for _, one := range a.now.Load().apis {
		n += one.counts.calls.Load()
	}
	return n
}
