package link

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"sallyport/tunnel"
)

const (
	// repeatAfter is how long the same failure is not logged again.
	repeatAfter = 10 * time.Minute
	// maxRedials is how often a balancer is tried again for another relay node than those that this agent has links to.
	maxRedials = 3
	// earlyRest is how long, at most, the agent waits before it replaces a link that the relay drains soon after it came up.
	earlyRest = time.Second
	// movedDrain is how long the streams of a link may go on after a newer one took its place. The link is whole: long
	// downloads and event streams should end by themselves, and a dead one ends by its silence.
	movedDrain = time.Hour
	// succession is how long a new link may take to answer for the first time.
	succession = 5 * time.Second
)

// A slot is one of the links that are kept up, through all its generations. It belongs to the goroutine of run.
type slot struct {
	ls         *Links
	number     int
	generation uint64
	backoff    Backoff
	log        *slog.Logger

	fingerprint string // of the key that was shown last
	linked      bool   // there has been a link
	doubled     bool   // another slot's link leads to the same one of several relay nodes

	cut cut // what is known of connections that are cut by their age

	failure   string // what was logged last
	failureAt time.Time

	serving sync.WaitGroup // links that are up or drain
}

// A held link is one that a slot has brought up.
type held struct {
	*tunnel.Link
	began time.Time
	bond  *tunnel.Bond
	away  chan string   // capacity 1: the relay takes no new streams here; why
	moved chan struct{} // closed when a newer link is up
	ended chan struct{} // closed when it is over, streams and all
	pause atomic.Int64  // nanoseconds: the relay asks to come back within so long, at random
}

func newSlot(ls *Links, n int) *slot {
	return &slot{ls: ls, number: n, log: ls.c.Log.With("slot", n)}
}

// run keeps one link up until ctx ends, and returns when the last of its links has ended. A link that is to be replaced
// serves on until the next one is up.
func (s *slot) run(ctx context.Context) {
	defer s.serving.Wait()
	var old *held
	for ctx.Err() == nil {
		ws, bond, err := s.dial(ctx)
		if err == nil {
			l := s.begin(ctx, ws, bond)
			if old != nil {
				before := old // which hold changes
				s.serving.Go(func() { s.succeed(ctx, before, l) })
			}
			old, err = s.hold(ctx, l, old)
		} else if s.otherKey(err) {
			continue
		} else {
			s.ls.failures.Add(1)
		}
		if err == nil || ctx.Err() != nil {
			continue // a new link is wanted, or the agent stops
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

// dial makes one attempt. Behind a balancer it may take more than one to get to a relay node that this agent has no link
// to; in the end any will do.
func (s *slot) dial(ctx context.Context) (*websocket.Conn, *tunnel.Bond, error) {
	for try := 0; ; try++ {
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
		who.Decline = func(node string, nodes int) bool {
			s.doubled = nodes > 1 && !s.ls.reserve(node, s.number)
			return s.doubled && try < maxRedials
		}
		ws, welcome, err := s.ls.c.Dialer.dial(ctx, who, s.ls.c.RelayKey)
		if errors.Is(err, tunnel.ErrOtherNode) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if s.linked {
			s.ls.reconnects.Add(1)
		}
		s.linked = true
		s.ls.leads(s.number, welcome.Node)
		s.log.Info("link up", "relay", s.ls.c.Dialer.relay.String(), "gateway", who.Claim.Gateway, "agent", welcome.Agent,
			"node", welcome.Node, "relay_version", welcome.Version, "generation", s.generation)
		s.failure = ""
		s.ls.note(Status{Slot: s.number, State: StateUp, Node: printable(welcome.Node, maxName), Version: printable(welcome.Version, maxName)})
		return ws, welcome.Bond, nil
	}
}

// begin starts to serve a link.
func (s *slot) begin(ctx context.Context, ws *websocket.Conn, bond *tunnel.Bond) *held {
	l := &held{began: time.Now(), bond: bond, away: make(chan string, 1), moved: make(chan struct{}), ended: make(chan struct{})}
	l.Link = tunnel.New(ws, tunnel.AgentSide, tunnel.Options{
		Log: s.log, Serve: s.ls.c.Serve,
		Control: func(kind string, body []byte) {
			if kind == controlPause {
				l.pause.Store(int64(parsePause(body)))
			} else if s.ls.c.Control != nil {
				s.ls.c.Control(kind, body)
			}
		},
		GoAway: func(reason string) {
			select {
			case l.away <- reason:
			default: // said before
			}
		},
	})
	s.ls.leadsBy(s.number, l.Link)
	s.serving.Go(func() {
		defer close(l.ended)
		s.serve(ctx, l)
	})
	return l
}

// hold waits until a new link is needed. It returns the present one if that serves on meanwhile, because the relay drains
// it or it has become old; otherwise why it ended. before is the link that this one has replaced, if there was one.
func (s *slot) hold(ctx context.Context, l, before *held) (old *held, err error) {
	age := time.NewTimer(s.lasts())
	defer age.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case <-l.Done():
			s.ls.lost.Add(1)
			s.ls.leads(s.number, "")
			if time.Since(l.began) >= settled {
				s.backoff.Reset()
			}
			lived := time.Since(l.began)
			s.backoff.Lived(lived)
			sleep(ctx, s.backoff.jitter(time.Duration(l.pause.Load())))
			err := fmt.Errorf("link lost after %s: %w", lived.Round(time.Second), l.Err())
			if age := s.cut.lost(lived, time.Now()); age > 0 {
				s.backoff.Reset() // nothing is wrong with the relay
				err = &DialError{
					Phase: "keep the link", Err: err, Mend: fmt.Sprintf("a proxy or firewall on the way cuts connections after about %s; "+
						"from now on links are replaced before that, but have the relay's host exempted", age.Round(time.Second)),
				}
			}
			return nil, err
		case reason := <-l.away:
			s.ls.leads(s.number, "")
			s.log.Info("the relay drains the link; a new one is dialed while its streams end", "reason", reason, "streams", l.Streams())
			s.rest(ctx, l)
			return l, nil
		case <-age.C:
			if before != nil && !before.over() {
				age.Reset(s.lasts()) // one that is being replaced at a time
				continue
			}
			s.log.Info("the link has become old; a new one takes its place", "streams", l.Streams())
			return l, nil
		}
	}
}

// lasts is how long the link is kept before another takes its place.
func (s *slot) lasts() time.Duration {
	d := s.cut.within(s.ls.rotation(), time.Now())
	if s.doubled {
		d = min(d, s.ls.respread-rand.N(s.ls.respread/2))
	}
	return d
}

func (l *held) over() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// rest waits before a link is dialed for one that the relay drains: as long as the relay has asked for, and a little more if
// it drains each link as soon as it is up, so that the agent does not spin. That is no failure: relays are restarted in good
// order too, several times if need be, and each time the agent should be back soon.
func (s *slot) rest(ctx context.Context, l *held) {
	s.backoff.Reset()
	wait := s.backoff.jitter(time.Duration(l.pause.Load()))
	if time.Since(l.began) < settled {
		wait += s.backoff.jitter(earlyRest)
	}
	sleep(ctx, wait)
}

// succeed lets old go once its successor is of use to the relay: it answers there. Until then the relay would have neither,
// because it learns of the new link a moment after the agent does.
func (s *slot) succeed(ctx context.Context, old, successor *held) {
	defer close(old.moved)
	within, cancel := context.WithTimeout(ctx, succession)
	defer cancel()
	if err := successor.Probe(within); err != nil && ctx.Err() == nil {
		s.log.Warn("the new link does not answer; the old one is drained all the same", "error", err)
	}
}

// serve runs a link to its end. When ctx ends, or the slot has moved on, the link is drained first.
func (s *slot) serve(ctx context.Context, l *held) {
	var run sync.WaitGroup
	// The link outlives ctx, so that its streams can end.
	run.Go(func() { _ = l.Run(context.WithoutCancel(ctx)) })
	defer run.Wait()
	s.ls.add(l.Link, l.bond)
	defer s.ls.remove(l.Link)
	if s.ls.c.Up != nil {
		s.ls.c.Up(l.Link)
	}
	select {
	case <-l.Done():
	case <-l.moved:
		s.drain(ctx, l, "a new link takes over", movedDrain)
	case <-ctx.Done():
		s.drain(ctx, l, "the agent stops", s.ls.c.DrainTimeout)
	}
}

// drain lets the streams of a link end, within limit or, once the agent is stopped, DrainTimeout, and closes it.
func (s *slot) drain(ctx context.Context, l *held, reason string, limit time.Duration) {
	late := fmt.Errorf("the drain timeout of %s passed", min(limit, s.ls.c.DrainTimeout))
	within, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	timer := time.AfterFunc(limit, func() { cancel(late) })
	defer timer.Stop()
	defer context.AfterFunc(ctx, func() { timer.Reset(min(limit, s.ls.c.DrainTimeout)) })()
	if err := l.Drain(within, reason); err != nil {
		s.log.Warn("streams were cut off", "reason", reason, "error", err)
	}
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
