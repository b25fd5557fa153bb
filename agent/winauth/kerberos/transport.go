package kerberos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
)

const (
	// connectTimeout is for reaching one KDC: on a company's network that takes milliseconds, a dead one swallows packets.
	connectTimeout = 3 * time.Second
	// answerTimeout is for the answer of a KDC while there is another to ask; a ticket for a user in 1,000 groups takes a
	// busy one more than three seconds. The last one may take what is left of exchangeTimeout.
	answerTimeout = 5 * time.Second
	// exchangeTimeout is for all KDCs of one exchange together.
	exchangeTimeout = 15 * time.Second
	// maxReply bounds an answer; a ticket of a user in 1,000 groups has 20 kB.
	maxReply = 1 << 20
)

// ask sends one message to the KDCs of a realm, one after the other, the one that answered last time first.
func (c *Client) ask(ctx context.Context, realm string, msg []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	addrs, err := c.conf.kdcs(ctx, realm)
	if err != nil {
		return nil, &UnreachableError{Realm: realm, Err: err}
	}
	failed := &UnreachableError{Realm: realm}
	for i, addr := range c.goodFirst(realm, addrs) {
		wait := answerTimeout
		if i == len(addrs)-1 {
			wait = exchangeTimeout
		}
		reply, err := c.askOne(ctx, addr, msg, wait)
		if err == nil {
			c.remember(realm, addr)
			return reply, nil
		}
		failed.Err = err
		failed.Tried = append(failed.Tried, addr+": "+err.Error())
		c.log.Debug("domain controller did not answer", "address", addr, "realm", realm, "error", err)
		if ctx.Err() != nil {
			failed.Err = errors.Join(err, ctx.Err())
			break
		}
	}
	return nil, failed
}

func (c *Client) goodFirst(realm string, addrs []string) []string {
	c.mu.Lock()
	good := c.good[realm]
	c.mu.Unlock()
	if i := slices.Index(addrs, good); i > 0 {
		addrs = append([]string{good}, slices.Delete(slices.Clone(addrs), i, i+1)...)
	}
	return addrs
}

func (c *Client) remember(realm, addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.good) < maxEntries { // realms come from referrals too
		c.good[realm] = addr
	}
}

// askOne is RFC 4120 section 7.2.2: four bytes of length, then the message.
func (c *Client) askOne(ctx context.Context, addr string, msg []byte, wait time.Duration) ([]byte, error) {
	conn, err := c.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	reply, err := roundTrip(conn, msg)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("no answer: %w", ctx.Err())
	}
	if err == nil && unavailable(reply) {
		return nil, errors.New("KDC says that its service is not available")
	}
	return reply, err
}

func (c *Client) connect(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return c.dial(ctx, "tcp", addr)
}

func roundTrip(conn net.Conn, msg []byte) ([]byte, error) {
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(msg)), uint32(len(msg)))
	if _, err := conn.Write(append(out, msg...)); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxReply {
		return nil, fmt.Errorf("receive: an answer of %d bytes", n)
	}
	reply := make([]byte, n)
	if _, err := io.ReadFull(conn, reply); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	return reply, nil
}

// unavailable tells a KDC that answers but cannot serve, so that the next one is asked.
func unavailable(reply []byte) bool {
	if !isKRBError(reply) {
		return false
	}
	e, ok := errors.AsType[*KDCError](parseKRBError(reply, StepLogon, "", time.Time{}))
	return ok && e.Code == errorcode.KDC_ERR_SVC_UNAVAILABLE
}
