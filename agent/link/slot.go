package link

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"sallyport/tunnel"
)

// repeatAfter is how long the same failure is not logged again.
const repeatAfter = 10 * time.Minute

// A slot is one of the links that are kept up, through all its generations. It belongs to the goroutine of run.
type slot struct {
	ls         *Links
	number     int
	generation uint64
	backoff    Backoff
	log        *slog.Logger

	fingerprint string // of the key that was shown last

	failure   string // what was logged last
	failureAt time.Time

	serving sync.WaitGroup // links that are up or drain
}

func newSlot(ls *Links, n int) *slot {
	return &slot{ls: ls, number: n, log: ls.c.Log.With("slot", n)}
}

// run keeps one link up until ctx ends, and returns when the last of its links has ended.
func (s *slot) run(ctx context.Context) {
	defer s.serving.Wait()
	for ctx.Err() == nil {
		ws, bond, err := s.dial(ctx)
		if err == nil {
			err = s.use(ctx, ws, bond)
		} else if s.otherKey(err) {
			continue
		}
		if err == nil || ctx.Err() != nil {
			continue // the relay asked for a new link, or the agent stops
		}
		wait := s.backoff.Next(err)
		s.report(err, wait)
		sleep(ctx, wait)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// otherKey reports whether the relay has refused a key that was replaced, and the agent has the other one at hand: it was
// stopped in the middle of replacing it.
func (s *slot) otherKey(err error) bool {
	refusal, ok := errors.AsType[*tunnel.Refusal](err)
	who, can := s.ls.c.Identity.(Replaceable)
	if !ok || !can || refusal.Code != tunnel.RefusedKeyReplaced || !who.Replaced(time.Now(), "") {
		return false
	}
	s.log.Warn("the relay has this agent's next key on record already; it is used from now on")
	return true
}

// dial makes one attempt.
func (s *slot) dial(ctx context.Context) (*websocket.Conn, *tunnel.Bond, error) {
	who, err := s.ls.c.Identity.Claim(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("find out who this agent is: %w", err)
	}
	s.generation++
	if key, ok := who.Key.Public().(ed25519.PublicKey); ok {
		s.fingerprint = tunnel.Fingerprint(key)
	}
	who.Claim.Kind = tunnel.KindLink
	who.Claim.Instance, who.Claim.Slot, who.Claim.Generation = s.ls.instance, s.number, s.generation
	who.Claim.Name, who.Claim.Version = s.ls.c.Name, s.ls.c.Version
	ws, welcome, err := s.ls.c.Dialer.dial(ctx, who, s.ls.c.RelayKey)
	if err != nil {
		return nil, nil, err
	}
	s.log.Info("link up", "relay", s.ls.c.Dialer.relay.String(), "gateway", who.Claim.Gateway, "agent", welcome.Agent,
		"node", welcome.Node, "relay_version", welcome.Version, "generation", s.generation)
	s.failure = ""
	s.ls.note(Status{Slot: s.number, State: StateUp})
	return ws, welcome.Bond, nil
}

// use serves a link until a new one is needed. It returns nil if the relay drains it, which then goes on beside its
// successor; otherwise why it ended.
func (s *slot) use(ctx context.Context, ws *websocket.Conn, bond *tunnel.Bond) error {
	began := time.Now()
	away := make(chan string, 1)
	l := tunnel.New(ws, tunnel.AgentSide, tunnel.Options{
		Log: s.log, Serve: s.ls.c.Serve, Control: s.ls.c.Control,
		GoAway: func(reason string) {
			select {
			case away <- reason:
			default: // said before
			}
		},
	})
	ended := make(chan error, 1)
	moved := make(chan struct{})
	s.serving.Go(func() { ended <- s.serve(ctx, l, bond, moved) })
	select {
	case err := <-ended:
		if time.Since(began) >= settled {
			s.backoff.Reset()
		}
		if err == nil {
			err = errors.New("the link was closed")
		}
		return fmt.Errorf("link lost after %s: %w", time.Since(began).Round(time.Second), err)
	case reason := <-away:
		s.log.Info("the relay drains the link; a new one is dialed while its streams end", "reason", reason, "streams", l.Streams())
		close(moved)
		if time.Since(began) < settled {
			// A relay that drains each link as soon as it is up must not make the agent spin.
			sleep(ctx, s.backoff.Next(nil))
		} else {
			s.backoff.Reset()
		}
		return nil
	}
}

// serve runs a link to its end. When ctx ends, or the slot has moved on, the link is drained first.
func (s *slot) serve(ctx context.Context, l *tunnel.Link, bond *tunnel.Bond, moved <-chan struct{}) error {
	var run sync.WaitGroup
	var err error
	// The link outlives ctx, so that its streams can end.
	run.Go(func() { err = l.Run(context.WithoutCancel(ctx)) })
	s.ls.add(l, bond)
	defer s.ls.remove(l)
	if s.ls.c.Up != nil {
		s.ls.c.Up(l)
	}
	reason := "the agent stops"
	select {
	case <-l.Done():
		run.Wait()
		return err
	case <-moved:
		reason = "a new link takes over"
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), s.ls.c.DrainTimeout,
		fmt.Errorf("the drain timeout of %s passed", s.ls.c.DrainTimeout))
	defer cancel()
	if err := l.Drain(drain, reason); err != nil {
		s.log.Warn("streams were cut off", "reason", reason, "error", err)
	}
	run.Wait()
	return err
}

// report logs a failure: at once if it is a new one, else every ten minutes.
func (s *slot) report(err error, wait time.Duration) {
	text := err.Error()
	st := Status{Slot: s.number, State: StateDown, Reason: text, NextTry: time.Now().Add(wait).UTC()}
	level, msg := slog.LevelWarn, "no link; trying again"
	refusal, refused := errors.AsType[*tunnel.Refusal](err)
	switch {
	case refused && refusal.Code == tunnel.RefusedPending:
		st.State, msg = StateWaiting, "waiting for approval by an admin of the relay; the agent then links by itself"
	case refused && refusal.Code == tunnel.RefusedClone:
		st.State, level = StateClone, slog.LevelError
	case permanent(err):
		st.State, level, msg = StateRefused, slog.LevelError, "no link; an admin has to act, then the agent links by itself"
	}
	s.ls.note(st)
	if text == s.failure && time.Since(s.failureAt) < repeatAfter {
		level = slog.LevelDebug
	} else {
		s.failure, s.failureAt = text, time.Now()
	}
	s.log.Log(context.Background(), level, msg, "error", err, "fingerprint", s.fingerprint, "next_try", wait.Round(time.Millisecond).String())
}
