package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/link"
	"sallyport/agent/state"
)

const (
	statusFile  = "status.json"
	statusLimit = 8 << 20
	// statusEvery is how often a running agent says that it still runs; a status twice as old is not believed.
	statusEvery = time.Minute
	// countsEvery is how often it is written anew while calls are made.
	countsEvery = 10 * time.Second
	// statusPause keeps an agent whose links come and go from writing all the time.
	statusPause = 250 * time.Millisecond
)

// A Status is what an agent says of itself in a file of its state directory: it listens nowhere, so this is how its admin
// asks it.
type Status struct {
	// Written is when; Running says that the agent has not been stopped since.
	Written time.Time `json:"written"`
	Running bool      `json:"running"`
	// Late says that it runs and has not written for long, so that the rest is old: its disk may be full.
	Late    bool   `json:"late,omitempty"`
	Version string `json:"version,omitempty"`
	// Started is when this process began.
	Started time.Time `json:"started,omitzero"`
	// Policy is the hash of the allow-list in force, since PolicySince. ConfigProblem is what is wrong with the file that is
	// there now, if it is not the one in force.
	Policy        string    `json:"policy,omitempty"`
	PolicySince   time.Time `json:"policySince,omitzero"`
	ConfigProblem string    `json:"configProblem,omitempty"`
	// Links are those that it keeps up.
	Links []link.Status `json:"links"`
	// APIs are those of the policy in force, by name.
	APIs []APIStatus `json:"apis,omitempty"`
	// Clone is the last time that another process showed this agent's key.
	Clone *Clone `json:"clone,omitempty"`
}

// A Clone is another process that showed this agent's key to the relay and was refused.
type Clone struct {
	Seen time.Time `json:"seen"`
	// Peer is the address it came from, as the relay saw it.
	Peer string `json:"peer"`
}

// ReadStatus gives the last status of the agent with this state directory. The error wraps fs.ErrNotExist if it never ran.
func ReadStatus(dir state.Dir) (s Status, err error) {
	data, err := dir.Read(statusFile, statusLimit)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read %s (delete it; a running agent writes it anew): %w", dir.Path(statusFile), err)
	}
	if s.Running && time.Since(s.Written) > 2*statusEvery {
		s.Late = audit.InUse(dir)
		s.Running = s.Late // else it was killed
	}
	return s, nil
}

// A status is what keepStatus writes.
type status struct {
	changed chan struct{} // capacity 1

	started   time.Time
	unwritten bool // the disk does not take it; of keepStatus alone

	mu      sync.Mutex
	clone   *Clone    // guarded by mu
	since   time.Time // of the policy in force; guarded by mu
	problem string    // of the file that is there; guarded by mu
	good    uint64    // changes of the file that were put in force; guarded by mu
	bad     uint64    // those that were not; guarded by mu
}

func newStatus() *status {
	now := time.Now().UTC()
	return &status{changed: make(chan struct{}, 1), started: now, since: now}
}

// maxProblem bounds what the status tells of a file that is wrong; the log has all of it.
const maxProblem = 2000

// loaded says that a file was put in force (problem is nil) or was not.
func (s *status) loaded(problem error) {
	s.mu.Lock()
	if s.problem = ""; problem != nil {
		s.problem = clipped(problem.Error(), maxProblem)
		s.bad++
	} else {
		s.good++
		s.since = time.Now().UTC()
	}
	s.mu.Unlock()
	s.touch()
}

// touch says that there is something new; it does not wait.
func (s *status) touch() {
	select {
	case s.changed <- struct{}{}:
	default: // said before
	}
}

// keepStatus writes the status when it changes, until ctx ends.
func (a *Agent) keepStatus(ctx context.Context) {
	tick := time.NewTicker(countsEvery)
	defer tick.Stop()
	var seen uint64
	var written time.Time
	for {
		// A tick is worth a write if there were calls, or if the agent has not said for long that it runs.
		if calls := a.calls(); calls != seen || time.Since(written) > statusEvery-countsEvery {
			seen, written = calls, time.Now()
			a.writeStatus(true)
		}
		select {
		case <-ctx.Done():
			a.writeStatus(false)
			return
		case <-tick.C:
		case answer := <-a.pulses:
			answer <- a.line()
		case <-a.status.changed:
			written = time.Time{}
			select {
			case <-ctx.Done():
			case <-time.After(statusPause):
			}
		}
	}
}

func (a *Agent) writeStatus(running bool) {
	snap := a.now.Load()
	a.status.mu.Lock()
	s := Status{
		Written: time.Now().UTC(), Running: running, Version: a.deps.Version, Started: a.status.started, Policy: snap.hash,
		PolicySince: a.status.since, ConfigProblem: a.status.problem, Links: []link.Status{}, Clone: a.status.clone,
	}
	a.status.mu.Unlock()
	for _, name := range snap.names {
		s.APIs = append(s.APIs, snap.apis[name].counts.status(name))
	}
	if running {
		s.Links = a.links.Status()
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = a.deps.State.Write(statusFile, append(data, '\n'))
	}
	switch {
	case err != nil && !a.status.unwritten: // once: it is tried every few seconds
		a.log.Warn("the status could not be written; 'sallyport-agent status' shows an old one", "error", err)
	case err == nil && a.status.unwritten:
		a.log.Info("the status is written again")
	}
	a.status.unwritten = err != nil
}

// cloneKind is the control message by which the relay says that another process has shown this agent's key; its body is a
// Clone.
const cloneKind = "clone"

func (a *Agent) cloneSeen(body []byte) {
	var c Clone
	if err := json.Unmarshal(body, &c); err != nil {
		a.log.Debug("a control message could not be read", "kind", cloneKind, "error", err)
		return
	}
	c.Peer = printable(c.Peer)
	a.status.mu.Lock()
	repeated := a.status.clone != nil && c.Seen.Sub(a.status.clone.Seen) < time.Second // one for each link
	a.status.clone = &c
	a.status.mu.Unlock()
	a.status.touch()
	if !repeated {
		a.log.Error("another process has shown this agent's key to the relay and was refused: was this machine or its key copied? "+
			"Replace the key with 'sallyport-agent key rotate', or revoke the agent", "peer", c.Peer)
	}
}

// printable makes text of the relay's fit for a log and a terminal.
func printable(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if r >= ' ' && r <= '~' && len(out) < 128 {
			out = append(out, r)
		}
	}
	return string(out)
}

// clipped is the beginning of a text.
func clipped(s string, limit int) string {
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return s
}
