package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/state"
	"sallyport/tunnel"
)

const (
	toldFile  = "told.json"
	toldLock  = "told.lock"
	toldLimit = 64 << 10
	// toldEvery is how often the agent looks whether it was told something.
	toldEvery = time.Second
	// tellTimeout bounds the wait for another command that tells the agent something.
	tellTimeout = 10 * time.Second
	// maxPaused bounds the APIs that are paused by name.
	maxPaused = 1024
)

// Told is what an admin has told the agent beside its configuration, in a file of the state directory: the agent listens
// nowhere, so this is how it is spoken to. It outlives restarts.
type Told struct {
	// Paused are the APIs that answer no calls for now; the name "" is all of them.
	Paused []Pause `json:"paused,omitempty"`
	// LogLevel holds until LogUntil instead of the configuration's; zero: for good.
	LogLevel string    `json:"logLevel,omitempty"`
	LogUntil time.Time `json:"logUntil,omitzero"`
}

// A Pause is one API that answers no calls.
type Pause struct {
	API   string    `json:"api"`
	Since time.Time `json:"since"`
	// Reason is for people: of the agent's side, callers do not see it.
	Reason string `json:"reason,omitempty"`
}

// paused says whether calls of an API are refused.
func (t *Told) paused(api string) bool {
	return t != nil && slices.ContainsFunc(t.Paused, func(p Pause) bool { return p.API == api || p.API == "" })
}

// Pause adds an API, "" for all, and reports whether it was not there yet.
func (t *Told) Pause(p Pause) bool {
	if slices.ContainsFunc(t.Paused, func(old Pause) bool { return old.API == p.API }) {
		return false
	}
	t.Paused = append(t.Paused, p)
	return true
}

// Resume takes an API away, "" for every pause, and reports whether there was one.
func (t *Told) Resume(api string) bool {
	before := len(t.Paused)
	t.Paused = slices.DeleteFunc(t.Paused, func(p Pause) bool { return api == "" || p.API == api })
	return len(t.Paused) < before
}

// level is the log level that was told, if it holds at now.
func (t *Told) level(now time.Time) (slog.Level, bool) {
	var l slog.Level
	if t == nil || t.LogLevel == "" || !t.LogUntil.IsZero() && !now.Before(t.LogUntil) || l.UnmarshalText([]byte(t.LogLevel)) != nil {
		return 0, false
	}
	return l, true
}

// ReadTold gives what the agent with this state directory was told.
func ReadTold(dir state.Dir) (*Told, error) {
	data, err := dir.Read(toldFile, toldLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return &Told{}, nil
	} else if err != nil {
		return nil, err
	}
	t := new(Told)
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("read %s (delete it to begin anew): %w", dir.Path(toldFile), err)
	}
	if len(t.Paused) > maxPaused {
		return nil, fmt.Errorf("%s: %d APIs are paused; at most %d can be", dir.Path(toldFile), len(t.Paused), maxPaused)
	}
	return t, nil
}

// Tell changes what the agent was told. A running one takes it over within about a second.
func Tell(ctx context.Context, dir state.Dir, change func(*Told) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tellTimeout, errors.New("another command tells the agent something and does not end"))
	defer cancel()
	unlock, err := dir.Lock(ctx, toldLock) // or of two commands at once one would lose what it said to be done
	if err != nil {
		return err
	}
	defer unlock()
	t, err := ReadTold(dir)
	if err != nil {
		return err
	}
	if err := change(t); err != nil {
		return err
	}
	if len(t.Paused) > maxPaused {
		return fmt.Errorf("%d APIs cannot be paused by name (at most %d; pause all of them instead)", len(t.Paused), maxPaused)
	}
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return fmt.Errorf("encode what the agent is told: %w", err)
	}
	return dir.Write(toldFile, append(data, '\n'))
}

// listen follows what the agent is told, until ctx ends.
func (a *Agent) listen(ctx context.Context) {
	tick := time.NewTicker(toldEvery)
	defer tick.Stop()
	var seen version
	trouble := ""
	for {
		next, err := look(a.deps.State.Path(toldFile), seen)
		if errors.Is(err, fs.ErrNotExist) {
			next, err = version{}, nil
		}
		if err == nil && next.sum != seen.sum {
			err = a.hear()
		}
		switch {
		case err == nil:
			seen, trouble = next, ""
		case err.Error() != trouble:
			trouble = err.Error()
			a.log.Error("what the agent is told cannot be read; what it was told before holds", "error", err)
		}
		a.setLevel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hear takes over what the file says.
func (a *Agent) hear() error {
	t, err := ReadTold(a.deps.State)
	if err != nil {
		return err
	}
	before := a.told.Swap(t)
	for _, p := range t.Paused {
		if before == nil || !slices.ContainsFunc(before.Paused, func(o Pause) bool { return o.API == p.API }) {
			a.log.Warn("calls are paused", "api", orAll(p.API), "reason", p.Reason)
			a.event(audit.Event{Kind: audit.Pause, API: p.API, Detail: p.Reason})
		}
	}
	if before != nil {
		for _, p := range before.Paused {
			if !slices.ContainsFunc(t.Paused, func(o Pause) bool { return o.API == p.API }) {
				a.log.Info("calls are taken again", "api", orAll(p.API))
				a.event(audit.Event{Kind: audit.Resume, API: p.API})
			}
		}
	}
	a.links.Each(a.offer)
	return nil
}

func orAll(api string) string {
	if api == "" {
		return "all"
	}
	return api
}

// setLevel brings the log to the level that was told, or back to the configuration's.
func (a *Agent) setLevel() {
	if a.deps.Level == nil {
		return
	}
	want, told := a.told.Load().level(time.Now())
	if !told {
		want = a.usual
	}
	if have := a.deps.Level.Level(); have != want {
		a.deps.Level.Set(want)
		a.log.Log(context.Background(), max(want, slog.LevelInfo), "the log level has changed", "from", have, "to", want)
	}
}

func pausedProblem() *tunnel.Problem {
	return &tunnel.Problem{
		Code: "paused", Title: "The API is paused.", Detail: "The people who run this API have paused it.",
		Origin: tunnel.OriginAgent, Executed: tunnel.ExecutedNo,
	}
}

// pausedStatus is what a call of a paused API is answered with.
const pausedStatus = http.StatusServiceUnavailable
