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

	"sallyport/agent/winauth/keep"
)

const (
	// maxEntries bounds each of the tables: tickets of the account itself, bad secrets, KDCs.
	maxEntries = 256
	// maxUsers bounds the people, and maxDelegated the tickets in people's names, that are kept: the ticket of somebody in
	// 1,000 groups has 20 kB.
	maxUsers     = 1024
	maxDelegated = 2048
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
	// Delegate asks for forwardable tickets, without which the KDC gives none that TicketFor can pass on.
	Delegate bool
	// Realms are others than the account's own whose people User may be asked for.
	Realms []string
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

	tgts      *keep.Table[*credential] // one, by the key tgtKey
	services  *keep.Table[*Ticket]     // by SPN
	users     *keep.Table[*User]       // by the name that was asked for
	delegated *keep.Table[*Ticket]     // by user and SPN

	mu   sync.Mutex           // guards what follows
	bad  map[[32]byte]failure // by fingerprint of the secret
	good map[string]string    // realm: the KDC that answered last
	last time.Time            // of the last authenticator
}

type failure struct {
	err   error
	until time.Time
}

// A Ticket is for one service. It can begin any number of contexts, each with an authenticator of its own.
type Ticket struct {
	cred *credential
	spn  string
	key  string // in the table that keeps it
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
	c.tables()
	return c, nil
}

func (c *Client) tables() {
	life := func(t *Ticket) keep.Life { return keep.Life{Ends: t.cred.end.Add(-spare)} }
	c.tgts = keep.New(keep.Config[*credential]{
		Max: 1, Clock: c.clock, Hold: holdFor, RideOut: unreachable,
		Life: func(cr *credential) keep.Life { return keep.Life{Stale: cr.renewAt(), Ends: cr.end.Add(-spare)} },
	})
	c.services = keep.New(keep.Config[*Ticket]{Max: maxEntries, Clock: c.clock, Life: life, Hold: holdFor})
	c.delegated = keep.New(keep.Config[*Ticket]{Max: maxDelegated, Clock: c.clock, Life: life, Hold: holdFor})
	c.users = keep.New(keep.Config[*User]{
		Max: maxUsers, Clock: c.clock, Hold: holdFor, RideOut: unreachable,
		Life: func(u *User) keep.Life { return keep.Life{Stale: u.got.Add(userAge), Ends: u.cred.end.Add(-spare)} },
	})
}

// String names the account, never a secret.
func (c *Client) String() string { return c.cfg.Principal.String() }

// GoString is for %#v.
func (c *Client) GoString() string { return c.String() }

// Ticket gives a ticket for a service ("HTTP/erp.corp.example"), a kept one or the KDC's.
func (c *Client) Ticket(ctx context.Context, spn string) (*Ticket, error) {
	key := strings.ToLower(spn)
	return c.services.Get(ctx, key, func(ctx context.Context) (*Ticket, error) {
		cr, err := c.fetch(ctx, spn)
		if err != nil {
			return nil, err
		}
		return &Ticket{cred: cr, spn: spn, key: key, got: c.clock()}, nil
	})
}

// holdFor says how long a failure is remembered. That of a logon is judged by its secret.
func holdFor(err error) time.Duration {
	if unreachable(err) {
		return unreachableHold
	}
	if k, ok := errors.AsType[*KDCError](err); ok && k.Step != StepLogon || errors.Is(err, errDelegation) {
		return unknownHold
	}
	return 0
}

func unreachable(err error) bool {
	_, ok := errors.AsType[*UnreachableError](err)
	return ok
}

// Forget drops a ticket that a server has refused, so that the next one is fresh. It says whether that can help: only
// if the ticket is not fresh itself.
func (c *Client) Forget(t *Ticket) bool {
	const fresh = time.Minute
	if c.clock().Sub(t.got) < fresh {
		return false
	}
	same := func(kept *Ticket) bool { return kept == t }
	c.services.Drop(t.key, same)
	c.delegated.Drop(t.key, same)
	return true
}

// fetch gets a ticket for a service out of the credential cache, if there is one, or from the KDC.
func (c *Client) fetch(ctx context.Context, spn string) (*credential, error) {
	sname := types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: strings.Split(spn, "/")}
	if c.cfg.CCache != "" {
		if cr, err := c.fromCache(sname); err == nil {
			return cr, nil
		}
	}
	return withTGT(ctx, c, func(tgt *credential) (*credential, error) { return c.service(ctx, tgt, sname) })
}

// withTGT asks the KDC something, and once more with a new TGT if it no longer takes the one we have.
func withTGT[V any](ctx context.Context, c *Client, ask func(tgt *credential) (V, error)) (V, error) {
	for again := false; ; again = true {
		tgt, err := c.logon(ctx)
		if err != nil {
			var none V
			return none, err
		}
		v, err := ask(tgt)
		if err == nil || again || !staleTGT(err) {
			return v, err
		}
		c.tgts.Drop(tgtKey, func(kept *credential) bool { return kept == tgt })
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

// Logon makes sure that there is a TGT: the account's proof towards the KDC, without any service.
func (c *Client) Logon(ctx context.Context) error {
	_, err := c.logon(ctx)
	return err
}

// tgtKey is the only key of the table of TGTs.
const tgtKey = ""

// logon gives a TGT, the one that is kept or a new one. One that is due for renewal serves on while no KDC answers.
func (c *Client) logon(ctx context.Context) (*credential, error) {
	return c.tgts.Get(ctx, tgtKey, c.obtainTGT)
}

func (cr *credential) renewAt() time.Time {
	return cr.end.Add(-min(cr.end.Sub(cr.start)/renewShare, renewMost))
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
		keep.MakeRoom(c.bad, maxEntries, func(f failure) time.Time { return f.until })
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
