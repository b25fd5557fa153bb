package agent

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"sallyport/agent/audit"
	"sallyport/tunnel"
)

const (
	// receiptTimeout is how long the relay has to answer a head before the next one is sent.
	receiptTimeout = 30 * time.Second
	// lastReceipt bounds the wait for the last one when the agent stops.
	lastReceipt = 2 * time.Second
)

// An anchor has the relay sign how far the record is sealed, so that what was there cannot be rewritten unseen, not even by who
// owns this machine and the agent's key. An older relay does not answer, and that is all.
type anchor struct {
	gateway, agent, relay string // agent is empty with Entra
	key                   func() crypto.Signer
	receipts              *audit.Receipts
	log                   *slog.Logger
	send                  func(kind string, body any) bool // over one link; false: there is none
	seal                  func(context.Context) error

	heads chan audit.Head    // capacity 1: the newest one that was not sent
	said  chan answer        // capacity 1
	up    chan struct{}      // capacity 1: there is another link
	last  chan chan struct{} // asks to be told when nothing is left to send

	// What follows is run's alone.
	open    audit.Head // on its way; zero: none
	next    audit.Head // to be sent; zero: none
	begun   bool       // a link has come up
	refused string     // what was logged
	waiting chan struct{}
	works   atomic.Bool // the relay has answered
}

// An answer is what the relay says to a head.
type answer struct {
	kind string
	body []byte
}

func newAnchor() *anchor {
	return &anchor{
		heads: make(chan audit.Head, 1), said: make(chan answer, 1), up: make(chan struct{}, 1), last: make(chan chan struct{}),
	}
}

// sealed takes the newest head. It is called by one goroutine and does not block.
func (c *anchor) sealed(h audit.Head) {
	select {
	case <-c.heads: // older
	default:
	}
	c.heads <- h
}

// linked says that a link has come up.
func (c *anchor) linked() {
	select {
	case c.up <- struct{}{}:
	default:
	}
}

// answered takes what the relay says, in a link's reader. Only one head is on its way at a time.
func (c *anchor) answered(kind string, body []byte) {
	select {
	case c.said <- answer{kind, slices.Clone(body)}:
	default: // more than was asked for
	}
}

// run sends heads and keeps receipts until ctx ends.
func (c *anchor) run(ctx context.Context) {
	late := time.NewTicker(receiptTimeout)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case c.next = <-c.heads:
		case <-c.up:
			c.begin(ctx)
		case <-late.C: // no answer: of an older relay, or lost with its link
			if c.next.N == 0 {
				c.next = c.open
			}
			c.open = audit.Head{}
		case s := <-c.said:
			c.take(s)
		case c.waiting = <-c.last:
			select {
			case c.next = <-c.heads:
			default:
			}
		}
		if c.next.N > 0 && c.open.N == 0 && c.sendHead(c.next) {
			c.open, c.next = c.next, audit.Head{}
			late.Reset(receiptTimeout)
		}
		if c.waiting != nil && c.open.N == 0 && c.next.N == 0 {
			close(c.waiting)
			c.waiting = nil
		}
	}
}

// begin has the start of the agent signed as soon as there is a link, and not in a minute.
func (c *anchor) begin(ctx context.Context) {
	if c.begun {
		return
	}
	c.begun = true
	if err := c.seal(ctx); err != nil && ctx.Err() == nil {
		c.log.Warn("the start of the agent is not sealed yet", "error", err)
	}
}

func (c *anchor) sendHead(h audit.Head) bool {
	head, err := tunnel.SignAuditHead(c.key(), c.gateway, tunnel.AuditHead{N: h.N, Hash: h.Hash, Time: h.Time})
	if err != nil {
		c.complain(fmt.Errorf("sign the head of the record: %w", err))
		return false
	}
	return c.send(tunnel.ControlAuditHead, head)
}

// take judges an answer. What does not fit what was sent is ignored: the head is sent again.
func (c *anchor) take(s answer) {
	switch err := c.judge(s); {
	case err == nil:
		c.open, c.refused = audit.Head{}, ""
		c.works.Store(true)
	case errors.Is(err, errRefusedHead):
		c.open = audit.Head{}
		c.complain(err)
	default:
		c.complain(err)
	}
}

// errRefusedHead is wrapped by the relay's refusal of the head that was sent.
var errRefusedHead = errors.New("the relay refuses the head of this agent's record; its admins see that too")

func (c *anchor) judge(s answer) error {
	if s.kind == tunnel.ControlAuditRefused {
		var no tunnel.AuditRefusal
		if err := json.Unmarshal(s.body, &no); err != nil || no.N != c.open.N {
			return errors.New("the relay refuses a head that was not sent")
		}
		return fmt.Errorf("%w: %s", errRefusedHead, printable(no.Reason))
	}
	var r tunnel.AuditReceipt
	if err := json.Unmarshal(s.body, &r); err != nil {
		return errors.New("the relay has sent something else than a receipt")
	}
	if err := r.Check(c.relay); err != nil {
		return fmt.Errorf("the relay has sent a receipt that does not count: %w", err)
	}
	if c.open.N == 0 || r.N != c.open.N || r.Hash != c.open.Hash || r.Gateway != c.gateway || c.agent != "" && r.Agent != c.agent {
		return errors.New("the relay has sent a receipt for something else than this record's head")
	}
	return c.receipts.Add(r)
}

// complain logs a fault once, until all is well again.
func (c *anchor) complain(err error) {
	if err.Error() != c.refused {
		c.refused = err.Error()
		c.log.Error("the audit record has no receipt", "error", err)
	}
}

// finish seals what there is and waits a moment for its receipt, while there still are links. Where the relay gives none it
// waits for nothing.
func (a *Agent) finish(ctx context.Context) {
	if !a.anchor.works.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastReceipt)
	defer cancel()
	if err := a.audit.Seal(ctx); err != nil {
		a.log.Warn("the audit record is not sealed before the links end", "error", err)
		return
	}
	done := make(chan struct{})
	select {
	case a.anchor.last <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
		a.log.Warn("the relay has not signed the end of the audit record before the agent stopped; it is shown to it at the next start")
	}
}

// sendOver sends a control message over one link that is up.
func (a *Agent) sendOver(kind string, body any) (sent bool) {
	a.links.Each(func(l *tunnel.Link) {
		if !sent && l.Usable() {
			sent = l.SendControl(kind, body) == nil
		}
	})
	return sent
}
