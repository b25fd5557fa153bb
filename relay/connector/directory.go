package connector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/bearer"
	"sallyport/relay/store"
)

// The ways in which a connector's callers can prove who they are. Joined ones ("key+basic") are demanded together.
const (
	AuthKey    = "key"    // an API key of the connector's
	AuthBasic  = "basic"  // user name and password of one of the connector's users
	AuthOAuth2 = "oauth2" // an access token of the connector's issuer
	// AuthWindows passes Windows user name and password on, unread and unlogged, for the agent to sign on with.
	AuthWindows = "windows"
	AuthNone    = "none" // anybody, by explicit choice
)

// Values of Connector.OutcomeUnknown: the answer to a call that may or may not have been run.
const (
	OutcomeAuto     = "auto" // the default: 409 for callers that repeat by themselves (Power Platform), else as plain
	OutcomeConflict = "409"  // always 409
	OutcomePlain    = "504"  // what happened: 502 or 504
)

// Errors of the directory that callers branch on.
var (
	ErrUnknownConnector = errors.New("unknown connector")
	ErrUnknownKey       = errors.New("unknown key")
	ErrUnknownUser      = errors.New("unknown user")
	ErrExists           = errors.New("exists already")
)

// Connector is an API as the relay publishes it.
type Connector struct {
	ID      string `json:"id"`
	Gateway string `json:"gateway"`
	Name    string `json:"name"`
	// API is the name under which the gateway's agents offer it; by default the connector's name.
	API string `json:"api"`
	// Auth lists who may call: any one of these suffices.
	Auth []string `json:"auth"`
	// KeyHeader carries the key; by default X-API-Key. KeyQuery is a query parameter that may carry it as well.
	KeyHeader string `json:"keyHeader,omitempty"`
	KeyQuery  string `json:"keyQuery,omitempty"`
	// From are the networks from which the connector may be called; none: from anywhere.
	From []netip.Prefix `json:"from,omitempty"`
	// PasswordAlone admits callers with AuthWindows and nothing else, so that anybody who knows the URL can try passwords.
	PasswordAlone bool `json:"passwordAlone,omitempty"`
	// OAuth2 says which tokens count.
	OAuth2 bearer.Rule `json:"oauth2,omitzero"`
	// Hosts are host names that serve this connector alone, at their root.
	Hosts []string `json:"hosts,omitempty"`
	// CORSOrigins are the origins whose pages may call; "*" is any. Empty: CORS is off.
	CORSOrigins []string `json:"corsOrigins,omitempty"`
	// BodyLimit bounds each body, in bytes; Timeout bounds the wait for the response's head. 0: the relay's default.
	BodyLimit int64         `json:"bodyLimit,omitempty"`
	Timeout   time.Duration `json:"timeout,omitempty"`
	// Rate bounds how many calls begin, Concurrent how many are under way, on each relay node. Zero: the relay's bound alone.
	Rate           Rate   `json:"rate,omitzero"`
	Concurrent     int    `json:"concurrent,omitempty"`
	OutcomeUnknown string `json:"outcomeUnknown,omitempty"`
	// Async, Dedupe and Webhooks are for calls that outlive their callers. Webhooks are the operations whose answer's
	// Location is the address of a subscription (see pattern).
	Async    Async    `json:"async,omitzero"`
	Dedupe   Dedupe   `json:"dedupe,omitzero"`
	Webhooks []string `json:"webhooks,omitempty"`

	Created time.Time `json:"created"`
}

// path is the connector's key in the directory.
func (c *Connector) path() string { return c.Gateway + "/" + c.Name }

// entry is a connector as the store keeps it: one record with its keys, so that a change is one write.
type entry struct {
	Connector
	Keys  []Key  `json:"keys,omitempty"`
	Users []User `json:"users,omitempty"`
	// SharesSince voids the links to the definition that were made before.
	SharesSince time.Time `json:"sharesSince,omitzero"`
}

// Published is a connector as the path of a request sees it. It is never modified.
type Published struct {
	Connector
	keys      []Key
	users     []User
	directory *Directory
	judge     *bearer.Judge // of callers' tokens; nil unless AuthOAuth2 is a way to call

	repeats, hooks []pattern // Dedupe.For and Webhooks, parsed
	sharesSince    time.Time
}

// Judge judges tokens for this connector; nil if it takes none.
func (p *Published) Judge() *bearer.Judge { return p.judge }

// Allows reports whether auth is one of the ways to call this connector.
func (p *Published) Allows(auth string) bool { return slices.Contains(p.Auth, auth) }

// Takes reports whether auth is one of the ways to call the connector, or a part of one.
func (c *Connector) Takes(auth string) bool {
	return slices.ContainsFunc(c.Auth, func(way string) bool {
		return slices.Contains(strings.Split(way, "+"), auth)
	})
}

// A Directory holds the published connectors and their keys. Looking up takes no lock. It is safe for concurrent use.
type Directory struct {
	log     *slog.Logger
	entries *store.Mirror[entry]
	usage   *usage
	issuers bearer.Issuers

	table atomic.Pointer[table] // replaced, never changed
}

type table struct {
	byPath map[string]map[string]*Published // gateway, then name
	byHost map[string]*Published
}

// NewDirectory loads the connectors.
func NewDirectory(ctx context.Context, st *store.Store, log *slog.Logger) (*Directory, error) {
	d := &Directory{log: log}
	d.table.Store(&table{})
	bucket, err := st.Bucket(ctx, "connectors")
	if err != nil {
		return nil, err
	}
	if d.usage, err = newUsage(ctx, st, log); err != nil {
		return nil, err
	}
	if d.entries, err = store.NewMirror(ctx, bucket, log, d.rebuild); err != nil {
		return nil, fmt.Errorf("load the connectors: %w", err)
	}
	return d, nil
}

// Run follows the store and writes down when keys were used, until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { d.usage.run(ctx) })
	wg.Go(func() { _ = d.usage.records.Run(ctx) }) // ends without an error, with ctx
	err := d.entries.Run(ctx)
	wg.Wait()
	return err
}

// Broken is for how long the store could not be followed; 0 if it can.
func (d *Directory) Broken() time.Duration { return d.entries.Broken() }

func (d *Directory) rebuild(entries map[string]entry) {
	t := &table{byPath: map[string]map[string]*Published{}, byHost: map[string]*Published{}}
	// In order, so that all relay nodes agree where two connectors claim one host.
	for _, path := range slices.Sorted(maps.Keys(entries)) {
		e := entries[path]
		p := &Published{
			Connector: e.Connector, keys: e.Keys, users: e.Users, directory: d,
			repeats: patterns(e.Dedupe.For), hooks: patterns(e.Webhooks), sharesSince: e.SharesSince,
		}
		if p.Takes(AuthOAuth2) {
			p.judge = bearer.NewJudge(p.OAuth2, &d.issuers)
		}
		if t.byPath[p.Gateway] == nil {
			t.byPath[p.Gateway] = map[string]*Published{}
		}
		t.byPath[p.Gateway][p.Name] = p
		for _, h := range p.Hosts {
			if t.byHost[h] == nil {
				t.byHost[h] = p
			}
		}
	}
	d.table.Store(t)
}

// ByPath returns the connector /{gateway}/{name}; nil if there is none.
func (d *Directory) ByPath(gateway, name string) *Published {
	return d.table.Load().byPath[gateway][name]
}

// ByHost returns the connector that has this host name, which may come with a port or in capitals; nil if there is none.
func (d *Directory) ByHost(host string) *Published {
	t := d.table.Load()
	if len(t.byHost) == 0 {
		return nil
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return t.byHost[strings.ToLower(host)]
}

// List returns all connectors, by gateway and name.
func (d *Directory) List() []Connector {
	entries := d.entries.All()
	out := make([]Connector, 0, len(entries))
	for _, path := range slices.Sorted(maps.Keys(entries)) {
		out = append(out, entries[path].Connector)
	}
	return out
}

// Publish makes a connector, or fails with ErrExists or a *Invalid. It returns what was published, defaults filled in.
func (d *Directory) Publish(ctx context.Context, c Connector) (Connector, error) {
	c, err := d.check(c)
	if err != nil {
		return c, err
	}
	c.ID, c.Created = newID(), time.Now().UTC()
	err = d.entries.Create(ctx, c.path(), entry{Connector: c})
	if errors.Is(err, store.ErrExists) {
		return c, isPublished(c)
	}
	if err != nil {
		return c, fmt.Errorf("publish connector %s: %w", c.path(), err)
	}
	return c, nil
}

// check fills defaults in, and finds what is wrong with the settings alone and beside the other connectors.
func (d *Directory) check(c Connector) (Connector, error) {
	c, err := c.normal()
	if err != nil {
		return c, err
	}
	for _, h := range c.Hosts {
		if other := d.ByHost(h); other != nil && other.path() != c.path() {
			return c, &Invalid{Problems: []string{fmt.Sprintf("host %s belongs to the connector %s", h, other.path())}}
		}
	}
	return c, nil
}

// Unpublish takes a connector away together with its keys.
func (d *Directory) Unpublish(ctx context.Context, gateway, name string) error {
	e, ok := d.entries.Get(gateway + "/" + name)
	if !ok {
		return unknownConnector(gateway, name)
	}
	if err := d.entries.Delete(ctx, e.path()); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return unknownConnector(gateway, name)
		}
		return fmt.Errorf("unpublish connector %s: %w", e.path(), err)
	}
	for _, k := range e.Keys {
		d.usage.forget(k.ID)
	}
	return nil
}

// Find is ByPath for an admin, whom the error tells what there is: ErrUnknownConnector.
func (d *Directory) Find(gateway, name string) (*Published, error) {
	if pub := d.ByPath(gateway, name); pub != nil {
		return pub, nil
	}
	return nil, unknownConnector(gateway, name)
}

func unknownConnector(gateway, name string) error {
	return fmt.Errorf("%w %s/%s; 'sallyport-relay connector list' shows the connectors", ErrUnknownConnector, gateway, name)
}
