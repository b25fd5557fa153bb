package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"sallyport/agent/link"
	"sallyport/agent/state"
)

const (
	statusFile  = "status.json"
	statusLimit = 64 << 10
	// statusEvery is how often a running agent says that it still runs; a status twice as old is not believed.
	statusEvery = time.Minute
	// statusPause keeps an agent whose links come and go from writing all the time.
	statusPause = 250 * time.Millisecond
)

// A Status is what an agent says of itself in a file of its state directory: it listens nowhere, so this is how its admin
// asks it.
type Status struct {
	// Written is when; Running says that the agent has not been stopped since.
	Written time.Time `json:"written"`
	Running bool      `json:"running"`
	Version string    `json:"version,omitempty"`
	// Links are those that it keeps up.
	Links []link.Status `json:"links"`
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
		return s, fmt.Errorf("read %s: %w", dir.Path(statusFile), err)
	}
	if s.Running && time.Since(s.Written) > 2*statusEvery {
		s.Running = false // it was killed
	}
	return s, nil
}

// A status is what keepStatus writes.
type status struct {
	changed chan struct{} // capacity 1

	mu    sync.Mutex
	clone *Clone // guarded by mu
}

func newStatus() status { return status{changed: make(chan struct{}, 1)} }

// touch says that there is something new; it does not wait.
func (s *status) touch() {
	select {
	case s.changed <- struct{}{}:
	default: // said before
	}
}

// keepStatus writes the status when it changes, until ctx ends.
func (a *Agent) keepStatus(ctx context.Context) {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		a.writeStatus(true)
		select {
		case <-ctx.Done():
			a.writeStatus(false)
			return
		case <-tick.C:
		case <-a.status.changed:
			select {
			case <-ctx.Done():
			case <-time.After(statusPause):
			}
		}
	}
}

func (a *Agent) writeStatus(running bool) {
	a.status.mu.Lock()
	s := Status{
		Written: time.Now().UTC(), Running: running, Version: a.deps.Version, Links: []link.Status{}, Clone: a.status.clone,
	}
	a.status.mu.Unlock()
	if running {
		s.Links = a.links.Status()
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = a.deps.State.Write(statusFile, append(data, '\n'))
	}
	if err != nil {
		a.log.Warn("the status could not be written; 'sallyport-agent state' shows an old one", "error", err)
	}
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
