// Package agent is the program inside: it keeps links to the relay, decides by its own allow-list what may be called,
// makes the calls and records them.
//
// This file is its table of contents. Where things are: config.go (agent.yaml), apis.go (what the configuration becomes),
// exchange.go (one call), reload.go (another configuration), ship.go and describe.go (the APIs' descriptions), join.go
// (membership), rotate.go (its key), status.go (what an admin sees), told.go (what an admin says); link/ (getting to the relay), policy/
// (the allow-list), upstream/ (the call), winauth/ (signing on), identity/, secret/, audit/ and state/ (what is on the
// disk). It reads no flags and no environment: cmd/sallyport-agent does.
//
//	a, err := agent.New(config, agent.Deps{State: dir, Identity: id, Secrets: store, Log: log})
//	err = a.Run(ctx) // until ctx ends, then drains
package agent

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/identity"
	"sallyport/agent/identity/entra"
	"sallyport/agent/link"
	"sallyport/agent/metrics"
	"sallyport/agent/secret"
	"sallyport/agent/state"
	"sallyport/agent/winauth/lockout"
	"sallyport/internal/eventlog"
	"sallyport/internal/syslog"
	"sallyport/tunnel"
)

// Deps is what an agent needs besides its configuration.
type Deps struct {
	// State is the agent's state directory; the audit record is kept there.
	State state.Dir
	// Identity is who this agent is; it has joined. Nil if the configuration has identity.entra.
	Identity *identity.Identity
	// Secrets has the secrets that the configuration names.
	Secrets *secret.Store
	// File is the path of the configuration, which is read again when it changes, and the place that relative paths in
	// it start from. Empty: the configuration is changed by Reload alone.
	File string
	// Again has the file read at once, changed or not (SIGHUP); nil: never.
	Again <-chan struct{}
	// Rereading is told when that begins, and what it returns when it has ended; nil: nobody is told.
	Rereading func() (done func())
	// Environment says which proxy the environment names; nil: none.
	Environment link.ProxyFunc
	// EventLog takes lines of the record, if the configuration wants them there; nil where there is none.
	EventLog eventlog.Sink
	// Name is what the admin calls this machine, Version the program's version; both for people only.
	Name, Version string
	// Log takes everything that an admin should know. Level is its level, if that can be changed while the agent runs.
	Log   *slog.Logger
	Level *slog.LevelVar
}

// An Agent is one installation that runs. Safe for concurrent use.
type Agent struct {
	config   Config  // the one it started with: relay, gateway and links do not change
	file     version // of the configuration's file, as it was then
	deps     Deps
	log      *slog.Logger
	audit    *audit.Log
	anchor   *anchor
	syslog   *syslog.Forwarder   // nil: the record goes to no collector
	eventLog *eventlog.Forwarder // nil: nor to Windows' event log
	links    *link.Links
	guard    *lockout.Guard // of callers' passwords
	ship     *shipper
	meter    *metrics.Metrics // nil: nobody asks for it

	status *status            // what 'sallyport-agent status' shows
	pulses chan chan<- string // who asks keepStatus for a sign of life

	entra    *entra.Identity // nil: its own key says who the agent is
	live     *identity.Live  // nil with entra
	agent    string          // the ID that the relay gave; empty with entra
	started  string          // the fingerprint of the key that it started with
	replaced chan string     // capacity 1: the key that the relay has on record

	told  atomic.Pointer[Told] // what an admin has told it while it runs; nil: nothing yet
	usual slog.Level           // of the log, where nothing else was told

	now      atomic.Pointer[snapshot]
	reloadMu sync.Mutex // one Reload at a time
	noticeMu sync.Mutex
	notices  []policyNotice // that wait for a link; guarded by noticeMu
	offerMu  sync.Mutex     // offers leave in the order of the snapshots
}

// New checks everything that can be checked without the network and prepares the agent. It reports every fault at once.
func New(c *Config, d Deps) (*Agent, error) {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if err := mayRun(c, d.Identity); err != nil {
		return nil, err
	}
	// What New is given is in force. Only what the file becomes from here on is a change, and so is a file that is gone.
	file, _ := look(d.File, version{})
	a := &Agent{file: file, config: *c, deps: d, log: d.Log, guard: lockout.New(), status: newStatus(), pulses: make(chan chan<- string), replaced: make(chan string, 1), ship: newShipper(), anchor: newAnchor()}
	snap, err := a.build(c, nil)
	dialer, dialErr := NewDialer(c, d)
	if err = errors.Join(err, dialErr); err != nil {
		return nil, err
	}
	a.now.Store(snap)
	if d.Level != nil {
		a.usual = d.Level.Level()
	}
	told, err := ReadTold(d.State) // before the first link: what is paused is never offered
	if err != nil {
		return nil, err
	}
	a.told.Store(told)
	who, relayKey, err := a.identify(c, dialer)
	if err != nil {
		return nil, err
	}
	key, err := a.recordKey()
	if err != nil {
		return nil, err
	}
	if err := a.openRecord(c, key, relayKey); err != nil {
		return nil, err
	}
	a.links = link.New(link.Config{
		Dialer: dialer, Identity: who, RelayKey: relayKey, Links: c.Links, Name: d.Name,
		Version: d.Version, DrainTimeout: c.DrainTimeout, MaxAge: c.MaxLinkAge, Log: d.Log,
		Serve: func(s *tunnel.Stream) { a.serve(s) },
		Up:    a.up, Control: a.control, Changed: a.status.touch,
	})
	a.meter = a.newMetrics()
	a.inForce(c, snap.hash)
	a.warn(c)
	return a, nil
}

// identify says who this agent is, and which key the relay has to prove.
func (a *Agent) identify(c *Config, dialer *link.Dialer) (who link.Identity, relayKey string, err error) {
	if c.Identity.Entra != nil {
		a.entra, err = newEntra(c, a.deps, dialer)
		return a.entra, c.Identity.Entra.RelayKey, err
	}
	id := a.deps.Identity
	if id.Relay != c.Relay {
		a.log.Info("the configuration names another URL than the join string did; the relay proves the pinned key there",
			"relay", c.Relay, "joined_at", id.Relay)
	}
	a.live, a.started, a.agent = identity.Follow(a.deps.State, id), id.Fingerprint(), id.Agent
	return a.live, id.RelayKey, nil
}

// recordKey gives the key that seals the record: the agent's own, or one for the record alone if a token says who it is.
func (a *Agent) recordKey() (func() crypto.Signer, error) {
	if a.live != nil {
		return a.live.Signer, nil
	}
	key, err := identity.RecordKey(a.deps.State)
	return func() crypto.Signer { return key }, err
}

// openRecord opens the record and what anchors it at the relay.
func (a *Agent) openRecord(c *Config, key func() crypto.Signer, relayKey string) (err error) {
	n := a.anchor
	n.gateway, n.agent, n.relay, n.key, n.log, n.send = c.Gateway, a.agent, relayKey, key, a.log, a.sendOver
	if n.receipts, err = audit.OpenReceipts(a.deps.State); err != nil {
		return err
	}
	if a.syslog, err = newSyslog(c, a.deps); err != nil {
		return err
	}
	if a.eventLog, err = newEventLog(c, a.deps); err != nil {
		return err
	}
	a.audit, err = audit.Open(a.deps.State, audit.Options{
		Log: a.log, Key: key, Refuse: c.Audit.OnFailure == auditRefuse, MaxAge: c.Audit.Keep, MaxBytes: int64(c.Audit.KeepSize) / recordFiles, Sealed: n.sealed, Written: a.written(),
	})
	if err == nil {
		n.seal = a.audit.Seal
	}
	return err
}

// mayRun says why this identity cannot serve this configuration.
func mayRun(c *Config, id *identity.Identity) error {
	switch {
	case c.Identity.Entra != nil:
		return nil
	case id == nil || !id.Joined:
		return fmt.Errorf("%w: the relay has not confirmed it; run 'sallyport-agent join' again with the same join string", identity.ErrNone)
	case id.Gateway != c.Gateway:
		return fmt.Errorf("the configuration names gateway %s, but this agent joined gateway %s; correct 'gateway', or join again",
			c.Gateway, id.Gateway)
	}
	return nil
}

// NewDialer gives the way to the relay that a configuration describes, and to all else in the cloud: its HTTPClient is what
// everything uses that asks there for tokens or keys.
func NewDialer(c *Config, d Deps) (*link.Dialer, error) {
	proxy, err := link.ProxyFor(c.Proxy, d.Environment)
	if err != nil {
		return nil, err
	}
	dc := link.DialConfig{Relay: c.Relay, Proxy: proxy, Version: d.Version, Log: d.Log}
	if dc.SignOn, err = d.proxySignOn(c); err != nil {
		return nil, fmt.Errorf("proxy_auth: %w", err)
	}
	if c.CA != "" {
		pem, err := os.ReadFile(d.path(c.CA))
		if err != nil {
			return nil, fmt.Errorf("read 'ca': %w", err)
		}
		if dc.Roots, err = link.Roots(pem); err != nil {
			return nil, fmt.Errorf("ca %s: %w", c.CA, err)
		}
	}
	return link.NewDialer(dc)
}

// Run serves until ctx ends; then the links drain and everything recorded is written. Its error is a fault of this
// machine: the relay's refusals and the network's faults are logged and tried again.
func (a *Agent) Run(ctx context.Context) error {
	// The record and the APIs outlive the links, which outlive ctx while they drain.
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	var recording, watching sync.WaitGroup
	var auditErr error
	forwarded := a.forward(late)
	recording.Go(func() { auditErr = a.audit.Run(late) })
	a.event(audit.Event{
		Kind: audit.Start, Gateway: a.config.Gateway, Agent: a.agent, Relay: a.config.Relay,
		Version: a.deps.Version, Hash: a.now.Load().hash, Key: a.started,
	})
	watching.Go(func() { a.watch(ctx) })
	watching.Go(func() { a.listen(ctx) })
	recording.Go(func() { a.keepStatus(late) })
	recording.Go(func() { a.keepKey(late) })
	recording.Go(func() { a.keepToken(late) })
	recording.Go(func() { a.anchor.run(late) })
	watching.Go(func() { a.describe(ctx) })
	recording.Go(func() { a.offerMetrics(late) })
	linked, unlink := context.WithCancel(late)
	watching.Go(func() {
		<-ctx.Done()
		a.finish(late)
		unlink()
	})
	err := a.links.Run(linked)
	unlink()
	watching.Wait()
	for _, api := range a.now.Load().apis {
		api.transport.Close()
	}
	a.event(audit.Event{Kind: audit.Stop})
	end()
	recording.Wait()
	forwarded()
	return errors.Join(err, auditErr)
}

// Identity says who the agent is, for logs.
func (a *Agent) Identity() slog.LogValuer {
	if a.entra != nil {
		return a.entra
	}
	return a.deps.Identity
}

// Up is the number of links that the relay can use now.
func (a *Agent) Up() int { return a.links.Up() }

// control takes the relay's control messages, in a link's reader.
func (a *Agent) control(kind string, body []byte) {
	switch kind {
	case cloneKind:
		a.cloneSeen(body)
	case tunnel.ControlKeyReplaced:
		a.keyReplaced(body)
	case tunnel.ControlAuditReceipt, tunnel.ControlAuditRefused:
		a.anchor.answered(kind, body)
	}
}

// event records what is not a call.
func (a *Agent) event(e audit.Event) {
	e.Time = time.Now()
	a.audit.Record(e)
}

func (a *Agent) warn(c *Config) {
	for _, w := range c.Warnings {
		a.log.Warn("configuration", "warning", w)
	}
}

// offerKind is the control message that tells the relay which APIs there are; offered is its body. Names and hashes of what
// is allowed, by which people can compare agents: the relay never learns an address or a rule.
const offerKind = "offer"

type offered struct {
	APIs   []offeredAPI `json:"apis"`
	Policy string       `json:"policy"`
}

type offeredAPI struct {
	Name   string `json:"name"`
	Policy string `json:"policy"`
	// Definition is the digest of what leaves of the API's description, once it is known; or "none".
	Definition string `json:"definition,omitempty"`
	// Paused says that all calls of it are refused for now.
	Paused bool `json:"paused,omitempty"`
	// CallerToken asks for the bearer token with which a caller has proved itself to the relay; without it, that stays there.
	CallerToken bool `json:"caller_token,omitempty"`
}

// offer tells one link what there is now. SendControl queues and does not wait.
func (a *Agent) offer(l *tunnel.Link) {
	a.offerMu.Lock()
	defer a.offerMu.Unlock()
	snap := a.now.Load()
	body := offered{APIs: make([]offeredAPI, 0, len(snap.names)), Policy: snap.hash}
	for _, name := range snap.names {
		body.APIs = append(body.APIs, offeredAPI{
			Name: name, Policy: snap.apis[name].policy.Hash(), Definition: a.ship.get(name).digest, CallerToken: snap.apis[name].wantsToken(),
			Paused: a.told.Load().paused(name),
		})
	}
	if err := l.SendControl(offerKind, body); err != nil {
		a.log.Debug("no offer sent", "error", err) // the link has ended; the next one gets it
	}
}
