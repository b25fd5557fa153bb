// Package link is the agent's side of getting to the relay and staying there: dial through whatever proxy the company
// has, verify, sign on, keep a number of links up, back off, and move to a new link before an old one ends.
//
// It does not speak the protocol (tunnel does) and knows nothing of APIs: what comes through a link is handed to Serve.
// It never gives up and never ends the process because a relay refused.
//
//	d, err := link.NewDialer(link.DialConfig{Relay: "https://relay.example.com", Proxy: proxy, Log: log})
//	welcome, err := link.Join(ctx, d, id.JoinClaim(code), relayKey) // once
//	ls := link.New(link.Config{Dialer: d, Identity: id, RelayKey: relayKey, Serve: serve, ...})
//	err = ls.Run(ctx)                                       // until ctx ends; then drains
//
// The order of reading: link.go (the links), slot.go (one of them over time), backoff.go, dial.go (one attempt), proxy.go,
// diagnose.go (what came back instead).
package link

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/tunnel"
)

// An Identity makes the claim with which the agent signs on: its own key (agent/identity), or later an Entra token.
// Claim is called for every dial, so that a token is fresh.
type Identity interface {
	Claim(ctx context.Context) (tunnel.AgentIdentity, error)
}

// A Replaceable identity has a key that can be replaced. Replaced is called when the relay has refused the key because it has
// another one on record; it reports whether there is another one to try now.
type Replaceable interface {
	Replaced(now time.Time, relays string) bool
}

// Config says which links to keep. Zero values are the defaults.
type Config struct {
	// Dialer gets to the relay.
	Dialer *Dialer
	// Identity is who signs on; RelayKey is the fingerprint of the key that the relay has to prove.
	Identity Identity
	RelayKey string
	// Links is how many are kept up at once; default 2, so that one that breaks leaves another.
	Links int
	// Name is what the admin calls this machine, Version the program's version; both for people only.
	Name, Version string
	// DrainTimeout is how long streams may go on when the agent stops; default 30 s.
	DrainTimeout time.Duration
	// MaxAge is how old a link may become before a new one takes its place; default 12 h. The new one is up first.
	MaxAge time.Duration
	// Serve is called in a goroutine of its own for each stream; see tunnel.Options.
	Serve func(*tunnel.Stream)
	// Up is called when a link is up, before any other use of it; it must not block.
	Up func(*tunnel.Link)
	// Control is called for the relay's control messages; it must not block.
	Control func(kind string, body []byte)
	// Changed is called when Status has changed; it must not block.
	Changed func()
	// Log takes what happens to the links.
	Log *slog.Logger
}

const (
	defaultLinks = 2
	defaultDrain = 30 * time.Second
	// defaultAge is half a day: firewalls and balancers that bound a connection's life mostly do so at a day or more, and
	// TLS keys should not be older.
	defaultAge = 12 * time.Hour
	// respread is after what time, at most, a link looks for another relay node when there are several and one of them has two
	// links: the other one was restarted, which takes no longer, and its end must not find both links on the same.
	respread = 5 * time.Minute
)

// Links are the agent's links to its relay. Safe for concurrent use.
type Links struct {
	c        Config
	instance string
	respread time.Duration

	mu     sync.Mutex // guards what follows
	live   map[*tunnel.Link]*tunnel.Bond
	nodes  map[int]string // slot -> the relay node of its link, while that is not drained
	status []Status       // by slot
	// current are the links that the slots lead with, or led with last.
	current []*tunnel.Link

	reconnects, failures, lost atomic.Uint64
}

// New prepares the links; Run dials them.
func New(c Config) *Links {
	if c.Links <= 0 {
		c.Links = defaultLinks
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = defaultDrain
	}
	if c.MaxAge <= 0 {
		c.MaxAge = defaultAge
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ls := &Links{
		c: c, instance: newInstance(), respread: respread, live: map[*tunnel.Link]*tunnel.Bond{}, nodes: map[int]string{},
		status: make([]Status, c.Links), current: make([]*tunnel.Link, c.Links),
	}
	for n := range ls.status {
		ls.status[n] = Status{Slot: n, State: StateDialing, Since: time.Now().UTC()}
	}
	return ls
}

// newInstance names this process among all that ever used the same key.
func newInstance() string {
	var b [12]byte
	_, _ = cryptorand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Run keeps the links up until ctx ends, then drains them: the relay is told, streams may end within DrainTimeout. It
// returns when every link has ended. Its error is a fault of the configuration, never the network's or the relay's.
func (ls *Links) Run(ctx context.Context) error {
	if ls.c.Dialer == nil || ls.c.Identity == nil || ls.c.RelayKey == "" {
		return errors.New("links need a dialer, an identity and the relay's pinned key")
	}
	var wg sync.WaitGroup
	for n := range ls.c.Links {
		wg.Go(func() { newSlot(ls, n).run(ctx) })
	}
	wg.Wait()
	return nil
}

// Each calls f for every link that is up.
func (ls *Links) Each(f func(*tunnel.Link)) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for l := range ls.live {
		f(l)
	}
}

// Up is the number of links that the relay can use now.
func (ls *Links) Up() (n int) {
	ls.Each(func(l *tunnel.Link) {
		if l.Usable() {
			n++
		}
	})
	return n
}

// rotation is when a link that begins now is old: at the last quarter of MaxAge, at random, so that links that came up
// together do not go together.
func (ls *Links) rotation() time.Duration {
	return ls.c.MaxAge - rand.N(ls.c.MaxAge/4+1)
}

// leads notes which relay node the slot's link leads to; "" for none that new streams come from.
func (ls *Links) leads(slot int, node string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.nodes[slot] = node
}

// reserve notes the relay node for the slot unless another one has a link to it, or is about to: slots dial at once. A dial
// that fails after all leaves the note, until the next one.
func (ls *Links) reserve(node string, slot int) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for other, n := range ls.nodes {
		if other != slot && n == node {
			return false
		}
	}
	ls.nodes[slot] = node
	return true
}

// leadsBy notes the slot's link, for its round trip.
func (ls *Links) leadsBy(slot int, l *tunnel.Link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.current[slot] = l
}

func (ls *Links) add(l *tunnel.Link, b *tunnel.Bond) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.live[l] = b
}

func (ls *Links) remove(l *tunnel.Link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.live, l)
}

// Prove has the agent prove itself anew over every link that is up, with the key or token that its identity has now.
func (ls *Links) Prove(ctx context.Context) {
	who, err := ls.c.Identity.Claim(ctx)
	if err != nil {
		ls.c.Log.Warn("the agent could not prove itself anew", "error", err)
		return
	}
	ls.mu.Lock()
	live := maps.Clone(ls.live)
	ls.mu.Unlock()
	for l, b := range live {
		p, err := b.Prove(who)
		if err == nil {
			err = l.SendControl(tunnel.ControlProof, p)
		}
		if err != nil {
			ls.c.Log.Debug("no proof sent", "error", err) // the link has ended; the next one is proved in its handshake
		}
	}
}

// Rotate replaces the agent's key: one handshake that proves the present and the next one. It may be repeated with the same
// keys when it is not known whether it succeeded.
func Rotate(ctx context.Context, d *Dialer, who tunnel.AgentIdentity, relayKey string) error {
	who.Claim.Kind, who.Claim.Instance, who.Claim.Generation = tunnel.KindRotate, newInstance(), 1
	ws, _, err := d.dial(ctx, who, relayKey)
	if err != nil {
		return err
	}
	_ = ws.Close() // the verdict was the last word
	return nil
}

// Check asks the relay how it stands to the agent: one handshake that proves the agent's key. It makes no link and disturbs none
// of those that a running agent has; the welcome says which of them answer the relay. ErrCannotCheck is in the error of a relay
// that does not know the question.
func Check(ctx context.Context, d *Dialer, who tunnel.AgentIdentity, relayKey string) (tunnel.Welcome, error) {
	who.Claim.Kind, who.Claim.Instance, who.Claim.Generation = tunnel.KindCheck, newInstance(), 1
	ws, welcome, err := d.dial(ctx, who, relayKey)
	if refusal, ok := errors.AsType[*tunnel.Refusal](err); ok && refusal.Code == "bad-claim" {
		return tunnel.Welcome{}, ErrCannotCheck
	}
	if err != nil {
		return tunnel.Welcome{}, err
	}
	_ = ws.Close() // the verdict was the last word
	return welcome, nil
}

// ErrCannotCheck says that the relay is of a version that cannot be asked how it stands to an agent.
var ErrCannotCheck = errors.New("the relay is older than this agent, and cannot say")

// Join makes the agent a member: one handshake that proves the agent's key and the one-time code, which is not sent. The
// welcome names the agent. It may be repeated with the same key and code when it is not known whether it succeeded.
func Join(ctx context.Context, d *Dialer, who tunnel.AgentIdentity, relayKey string) (tunnel.Welcome, error) {
	who.Claim.Kind, who.Claim.Instance, who.Claim.Generation = tunnel.KindJoin, newInstance(), 1
	ws, welcome, err := d.dial(ctx, who, relayKey)
	if err != nil {
		return tunnel.Welcome{}, err
	}
	_ = ws.Close() // the verdict was the last word
	if welcome.Agent == "" {
		return tunnel.Welcome{}, fmt.Errorf("join at %s: the relay gave no agent ID; is it of another version?", d.relay)
	}
	return welcome, nil
}
