package kerberos

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/types"
)

const (
	// maxEntries bounds each of the tables: tickets, failures, KDCs.
	maxEntries = 256
	// spare is how long before its end a ticket is no longer used, so that it does not end on the way or by a small
	// difference of the clocks.
	spare = 30 * time.Second
	// renewShare: a TGT is replaced in the last tenth of its life, at most renewMost before its end. If that fails for want
	// of a KDC, the old one serves on.
	renewShare = 10
	renewMost  = 30 * time.Minute
)

// How long a failure is remembered, so that a busy API does not turn it into a storm of questions to the KDC. A wrong
// password would lock the account: the same one is not tried again for badSecretHold; another one, or a changed keytab,
// is tried at once.
const (
	badSecretHold   = 15 * time.Minute
	unreachableHold = 2 * time.Second
	unknownHold     = 15 * time.Second
)

// Config is what a Client needs. Exactly one of Password, Keytab and CCache is set.
type Config struct {
	Conf      *Conf
	Principal Principal
	Password  func() (string, error)
	Keytab    string
	CCache    string
	// Dial opens connections to KDCs; nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock is time.Now if nil.
	Clock func() time.Time
	// Log gets debug lines; nil is silence.
	Log *slog.Logger
}

// A Client is one account with its tickets. Safe for concurrent use.
type Client struct {
	cfg   Config
	conf  *Conf
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	clock func() time.Time
	log   *slog.Logger
	salt  [16]byte

	logons   flights[*credential]
	services flights[*Ticket]

	mu      sync.Mutex // guards what follows
	tgt     *credential
	tickets map[string]*Ticket
	fails   map[string]failure
	bad     map[[32]byte]failure // by fingerprint of the secret
	good    map[string]string    // realm: the KDC that answered last
	last    time.Time            // of the last authenticator
}

type failure struct {
	err   error
	until time.Time
}

// A Ticket is for one service. It can begin any number of contexts, each with an authenticator of its own.
type Ticket struct {
	cred *credential
	spn  string
	got  time.Time
}

// Ends says when the ticket ends; Age says how long ago it was got.
func (t *Ticket) Ends() time.Time { return t.cred.end }

// New makes a Client. It asks no KDC.
func New(cfg Config) (*Client, error) {
	n := 0
	for _, set := range []bool{cfg.Password != nil, cfg.Keytab != "", cfg.CCache != ""} {
		if set {
			n++
		}
	}
	if n != 1 {
		return nil, errors.New("kerberos: exactly one of password, keytab and credential cache is needed")
	}
	if cfg.Conf == nil || cfg.Principal.Name == "" || cfg.Principal.Realm == "" {
		return nil, errors.New("kerberos: configuration, name and realm are needed")
	}
	c := &Client{
		cfg: cfg, conf: cfg.Conf, dial: cfg.Dial, clock: cfg.Clock, log: cfg.Log,
		tickets: make(map[string]*Ticket), fails: make(map[string]failure),
		bad: make(map[[32]byte]failure), good: make(map[string]string),
	}
	if c.dial == nil {
		c.dial = new(net.Dialer).DialContext
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	_, _ = rand.Read(c.salt[:]) // never fails
	return c, nil
}

// String names the account, never a secret.
func (c *Client) String() string { return c.cfg.Principal.String() }

// GoString is for %#v.
func (c *Client) GoString() string { return c.String() }

// Ticket gives a ticket for a service ("HTTP/erp.corp.example"), out of the cache or from the KDC.
func (c *Client) Ticket(ctx context.Context, spn string) (*Ticket, error) {
	key := strings.ToLower(spn)
	if t, err := c.kept(key); t != nil || err != nil {
		return t, err
	}
	return c.services.do(ctx, key, func(ctx context.Context) (*Ticket, error) {
		if t, err := c.kept(key); t != nil || err != nil {
			return t, err
		}
		t, err := c.fetch(ctx, spn)
		c.keep(ctx, key, t, err)
		return t, err
	})
}

// kept gives the ticket or the failure that is remembered.
func (c *Client) kept(key string) (*Ticket, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	if f, ok := c.fails[key]; ok {
		if now.Before(f.until) {
			return nil, f.err
		}
		delete(c.fails, key)
	}
	t, ok := c.tickets[key]
	if !ok {
		return nil, nil
	}
	if now.Add(spare).After(t.cred.end) {
		delete(c.tickets, key)
		return nil, nil
	}
	return t, nil
}

func (c *Client) keep(ctx context.Context, key string, t *Ticket, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		makeRoom(c.tickets, func(t *Ticket) time.Time { return t.cred.end })
		c.tickets[key] = t
		return
	}
	if hold := holdFor(err); hold > 0 && ctx.Err() == nil {
		makeRoom(c.fails, func(f failure) time.Time { return f.until })
		c.fails[key] = failure{err: err, until: c.clock().Add(hold)}
	}
}

func holdFor(err error) time.Duration {
	if _, ok := errors.AsType[*UnreachableError](err); ok {
		return unreachableHold
	}
	if k, ok := errors.AsType[*KDCError](err); ok && k.Step == StepService {
		return unknownHold
	}
	return 0
}

// makeRoom drops the entry that ends first when a table is full.
func makeRoom[K comparable, V any](m map[K]V, ends func(V) time.Time) {
	if len(m) < maxEntries {
		return
	}
	var first K
	var when time.Time
	for k, v := range m {
		if e := ends(v); when.IsZero() || e.Before(when) {
			first, when = k, e
		}
	}
	delete(m, first)
}

// Forget drops a ticket that a server has refused, so that the next one is fresh. It says whether that can help: only
// if the ticket is not fresh itself.
func (c *Client) Forget(t *Ticket) bool {
	const fresh = time.Minute
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clock().Sub(t.got) < fresh {
		return false
	}
	if key := strings.ToLower(t.spn); c.tickets[key] == t {
		delete(c.tickets, key)
	}
	return true
}

// fetch gets a ticket for a service, with a new TGT if the KDC no longer takes the one we have.
func (c *Client) fetch(ctx context.Context, spn string) (*Ticket, error) {
	sname := types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: strings.Split(spn, "/")}
	if c.cfg.CCache != "" {
		if cr, err := c.fromCache(sname); err == nil {
			return &Ticket{cred: cr, spn: spn, got: c.clock()}, nil
		}
	}
	for again := false; ; again = true {
		tgt, err := c.logon(ctx)
		if err != nil {
			return nil, err
		}
		cr, err := c.service(ctx, tgt, sname)
		if err == nil {
			return &Ticket{cred: cr, spn: spn, got: c.clock()}, nil
		}
		if again || !staleTGT(err) {
			return nil, err
		}
		c.dropTGT(tgt)
	}
}

// staleTGT: the krbtgt key has changed, or the account has since the TGT was made.
func staleTGT(err error) bool {
	k, ok := errors.AsType[*KDCError](err)
	if !ok {
		return false
	}
	switch k.Code {
	case errorcode.KRB_AP_ERR_TKT_EXPIRED, errorcode.KDC_ERR_TGT_REVOKED, errorcode.KRB_AP_ERR_BAD_INTEGRITY,
		errorcode.KRB_AP_ERR_MODIFIED:
		return true
	}
	return false
}

func (c *Client) dropTGT(old *credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tgt == old {
		c.tgt = nil
	}
}

// Logon makes sure that there is a TGT: the account's proof towards the KDC, without any service.
func (c *Client) Logon(ctx context.Context) error {
	_, err := c.logon(ctx)
	return err
}

// logon gives a TGT, one that is kept or a new one.
func (c *Client) logon(ctx context.Context) (*credential, error) {
	c.mu.Lock()
	tgt := c.tgt
	c.mu.Unlock()
	now := c.clock()
	usable := tgt != nil && now.Add(spare).Before(tgt.end)
	if usable && now.Before(tgt.renewAt()) {
		return tgt, nil
	}
	got, err := c.logons.do(ctx, "", func(ctx context.Context) (*credential, error) { return c.newTGT(ctx, tgt) })
	if err == nil {
		return got, nil
	}
	if _, gone := errors.AsType[*UnreachableError](err); gone && usable {
		c.log.Debug("ticket-granting ticket not renewed yet", "principal", c.String(), "error", err)
		return tgt, nil
	}
	return nil, err
}

func (cr *credential) renewAt() time.Time {
	return cr.end.Add(-min(cr.end.Sub(cr.start)/renewShare, renewMost))
}

func (c *Client) newTGT(ctx context.Context, old *credential) (*credential, error) {
	c.mu.Lock()
	now := c.tgt
	c.mu.Unlock()
	if now != nil && now != old {
		return now, nil // someone else was quicker
	}
	tgt, err := c.obtainTGT(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.tgt = tgt
	c.mu.Unlock()
	return tgt, nil
}

func (c *Client) obtainTGT(ctx context.Context) (*credential, error) {
	if c.cfg.CCache != "" {
		realm := c.cfg.Principal.Realm
		return c.fromCache(krbtgt(realm))
	}
	m, err := c.load()
	if err != nil {
		return nil, err
	}
	if err := c.held(m.print); err != nil {
		return nil, err
	}
	tgt, err := c.proveAccount(ctx, m)
	c.judge(m.print, err)
	return tgt, err
}

// held gives the error with which this very secret failed a short while ago.
func (c *Client) held(print [32]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.bad[print]
	if !ok {
		return nil
	}
	if left := f.until.Sub(c.clock()); left > 0 {
		return fmt.Errorf("not tried again for %s with the same secret, so as not to lock the account: %w",
			left.Round(time.Second), f.err)
	}
	delete(c.bad, print)
	return nil
}

func (c *Client) judge(print [32]byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		clear(c.bad)
		return
	}
	if k, ok := errors.AsType[*KDCError](err); ok && k.Code == errorcode.KDC_ERR_PREAUTH_FAILED {
		makeRoom(c.bad, func(f failure) time.Time { return f.until })
		c.bad[print] = failure{err: err, until: c.clock().Add(badSecretHold)}
	}
}

// stamp gives the time for an authenticator, never the same twice: some servers tell a replay by it.
func (c *Client) stamp() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock().UTC().Truncate(time.Microsecond)
	if !now.After(c.last) && c.last.Sub(now) < time.Second {
		now = c.last.Add(time.Microsecond)
	}
	c.last = now
	return now
}
