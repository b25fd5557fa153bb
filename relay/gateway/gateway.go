// Package gateway knows which gateways exist, which agents belong to them and which links are live, and picks the link
// that a request travels on.
//
// The gateways, their agents and their join codes are records of the store, one record to a gateway, so that each
// change is one write: a code is used up in the same write that makes its agent a member. The links are this process's
// own. The package does not know connectors and carries no request; relay/connector does, on the link that Pick gives.
//
//	r, err := gateway.New(ctx, st, gateway.Config{URL: "https://relay.example.com", Dir: data, Log: log})
//	go r.Run(ctx)                                   // follows the store
//	mux.HandleFunc("GET /_/link", r.ServeLink)
//	join, err := r.AddGateway(ctx, "plant1", gateway.CodeUse{}) // join.Encode() is for the admin
//	link, err := r.Pick("plant1", "orders")
//	s, err := link.Open(request, true)
//	err = r.Drain(ctx)                              // before the store closes
package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/store"
	"sallyport/tunnel"
)

// Errors of this package that callers branch on.
var (
	ErrUnknownGateway = errors.New("unknown gateway")
	ErrUnknownAgent   = errors.New("unknown agent")
	ErrExists         = errors.New("exists already")
	ErrFull           = errors.New("there are as many as there can be")
	ErrCodeLife       = errors.New("a join code cannot live so long")
	ErrCodeUses       = errors.New("a join code cannot have so many uses")
	ErrEntra          = errors.New("it cannot be allowed")
	ErrNotPending     = errors.New("it does not wait for approval; 'sallyport-relay agent list' shows who does")
	ErrNoLink         = errors.New("no agent of this gateway is connected")
	ErrNotOffered     = errors.New("no connected agent of this gateway offers the API")
	// ErrPaused is an ErrNotOffered: an admin of the agents has paused the API.
	ErrPaused = fmt.Errorf("%w: it is paused", ErrNotOffered)
)

// Config of a Registry.
type Config struct {
	// URL is the relay's public URL, as agents dial it.
	URL string
	// Dir is the data folder; the relay's signing key is kept in it.
	Dir string
	// Node names this relay node. Default: the host name.
	Node string
	// Nodes is how many relay nodes there are behind the URL; agents spread their links over them. Default 1.
	Nodes int
	// Version is the relay program's version, for people only.
	Version string
	// Log takes what happens to gateways and links.
	Log *slog.Logger
	// Peer gives the address of the one who sent the request, behind trusted proxies too. Default: the connection's.
	Peer func(*http.Request) string
	// Link sets the bounds of each link; its Log, Serve, Control and GoAway are not used. Zero values are the defaults.
	Link tunnel.Options
	// CloneProbe is how long an agent's present link has to answer before a link of another process with the same key
	// takes its place. Default 3 s.
	CloneProbe time.Duration
	// Tokens verifies the tokens of agents that sign on with Entra; nil: the relay takes none. Tenant is the one that it
	// takes them from.
	Tokens TokenVerifier
	Tenant string
	// Event takes what admins should find among their events, and who did it ("agent:ID"); nil: nobody. It may block.
	Event func(ctx context.Context, actor, what string, on map[string]any)
	// KeyOverlap is how long an agent's old key is good after it was replaced. Default 10 min.
	KeyOverlap time.Duration
}

const (
	defaultCloneProbe = 3 * time.Second
	// replacedDrain is how long streams may go on over a link that a newer one has replaced. Its agent may have made the
	// new one early, while the old one is whole (a link that is not ends by its silence), and long downloads are on it.
	replacedDrain = time.Hour
)

// A Registry holds the gateways and the links. It is safe for concurrent use.
type Registry struct {
	c       Config
	key     ed25519.PrivateKey
	records *store.Mirror[Record]
	anchors store.Records[Anchors] // by agent
	// definitions go with their gateway.
	definitions *store.Definitions
	puller      *puller
	unproved    *doorkeeper

	// sites is replaced, never changed, so that Pick takes no lock.
	sites atomic.Pointer[map[string]*site]

	opened time.Time

	mu       sync.Mutex         // guards news, draining, retiring, and the links and clones of every site
	draining bool               // no new links
	retiring map[*Link]struct{} // replaced by newer ones; streams may still be on them
	news     chan struct{}      // closed and replaced when a link comes or offers something
	serving  sync.WaitGroup     // links being served and closed
}

// A site is a gateway and its live links.
type site struct {
	record atomic.Pointer[Record]
	links  atomic.Pointer[[]*Link] // replaced, never changed; under Registry.mu
	gone   map[string]departure    // by agent; members only; under Registry.mu
	clones map[string]Clone        // by agent; members only; under Registry.mu
	alarms map[string]time.Time    // when admins were told of the agent's record; members only; under Registry.mu

	awaiting atomic.Int64 // calls that wait for one of gone
}

func (s *site) all() []*Link { return *s.links.Load() }

// New loads the gateways and the signing key, which is made at the first start.
func New(ctx context.Context, st *store.Store, c Config) (*Registry, error) {
	if c.Node == "" {
		c.Node, _ = os.Hostname() // two nodes on one machine have to be told
	}
	if c.CloneProbe == 0 {
		c.CloneProbe = defaultCloneProbe
	}
	if c.KeyOverlap == 0 {
		c.KeyOverlap = keyOverlap
	}
	if c.Peer == nil {
		c.Peer = func(q *http.Request) string {
			host, _, _ := net.SplitHostPort(q.RemoteAddr)
			return host
		}
	}
	r := &Registry{
		c: c, unproved: newDoorkeeper(c.Log), retiring: map[*Link]struct{}{}, opened: time.Now(), news: make(chan struct{}),
		definitions: st.Definitions(), puller: newPuller(),
	}
	r.sites.Store(&map[string]*site{})
	bucket, err := st.Bucket(ctx, "gateways")
	if err != nil {
		return nil, err
	}
	if r.records, err = store.NewMirror(ctx, bucket, c.Log, r.reconcile); err != nil {
		return nil, fmt.Errorf("load the gateways: %w", err)
	}
	if bucket, err = st.Bucket(ctx, "anchors"); err != nil {
		return nil, err
	}
	r.anchors = store.NewRecords[Anchors](bucket)
	if r.key, err = loadKey(c.Dir, len(r.records.All()) == 0); err != nil {
		return nil, fmt.Errorf("load the relay's signing key: %w", err)
	}
	return r, nil
}

// Run follows the store, ends links whose proof has ended, and takes over the definitions that agents offer, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); wg.Wait() }()
	wg.Go(func() { r.sweep(ctx) })
	wg.Go(func() { r.pull(ctx) })
	wg.Go(func() { r.forgetAnchors(ctx) })
	return r.records.Run(ctx)
}

// Broken is for how long the store could not be followed; 0 if it can.
func (r *Registry) Broken() time.Duration { return r.records.Broken() }

// Fingerprint of the relay's signing key, which agents pin.
func (r *Registry) Fingerprint() string {
	return tunnel.Fingerprint(r.key.Public().(ed25519.PublicKey))
}

// Secret gives 32 bytes for one purpose, derived from the signing key: the same as long as that is, and not in the store.
func (r *Registry) Secret(purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, r.key.Seed(), nil, "sallyport "+purpose, 32)
}

// reconcile takes over the gateways as the store has them now, and closes the links of those who are no longer
// members. Calls do not overlap.
func (r *Registry) reconcile(records map[string]Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.sites.Load()
	next := make(map[string]*site, len(records))
	for name, record := range records {
		s := old[name]
		if s == nil {
			s = &site{gone: map[string]departure{}, clones: map[string]Clone{}, alarms: map[string]time.Time{}}
			s.links.Store(&[]*Link{})
		}
		s.record.Store(&record)
		next[name] = s
		maps.DeleteFunc(s.gone, func(id string, _ departure) bool { a := record.agent(id); return a == nil || a.Revoked() })
		maps.DeleteFunc(s.clones, func(id string, _ Clone) bool { return record.agent(id) == nil })
		maps.DeleteFunc(s.alarms, func(id string, _ time.Time) bool { return record.agent(id) == nil })
		for _, l := range s.all() {
			if a := record.agent(l.Agent); a == nil {
				r.expel(l, "the agent was removed")
			} else if a.Revoked() {
				r.expel(l, "the agent was revoked")
			} else if p := l.proved.Load(); p.entra != nil && !record.admits(*p.entra) {
				r.expel(l, "no rule admits the application any more")
			} else {
				l.tellKeyReplaced(a)
			}
		}
	}
	for l := range r.retiring {
		record, known := records[l.Gateway]
		if a := record.agent(l.Agent); !known || a == nil || a.Revoked() {
			r.expel(l, "the agent is no longer a member")
		}
	}
	for name, s := range old {
		if next[name] == nil {
			for _, l := range s.all() {
				r.expel(l, "the gateway was removed")
			}
		}
	}
	r.sites.Store(&next)
}

// expel closes a link without waiting for it: the other side may not answer.
func (r *Registry) expel(l *Link, reason string) {
	r.c.Log.Info("link closed", "gateway", l.Gateway, "agent", l.Agent, "reason", reason)
	r.serving.Go(func() { l.Close(reason) })
}

// Drain takes no new links, tells all agents to go elsewhere, and waits until every stream has ended, or ctx has. The
// links are closed when it returns.
func (r *Registry) Drain(ctx context.Context) error {
	r.mu.Lock()
	r.draining = true
	links := slices.Collect(maps.Keys(r.retiring))
	for _, s := range *r.sites.Load() {
		links = append(links, s.all()...)
	}
	r.mu.Unlock()
	pause := pauseFor(len(links))
	errs := make([]error, len(links))
	var wg sync.WaitGroup
	for i, l := range links {
		wg.Go(func() {
			_ = l.SendControl(ControlPause, pause) // a link that has ended needs none
			if err := l.Drain(ctx, "the relay stops"); err != nil {
				errs[i] = fmt.Errorf("drain the link of agent %s: %w", l.Agent, err)
			}
		})
	}
	wg.Wait()
	r.serving.Wait()
	return errors.Join(errs...)
}
