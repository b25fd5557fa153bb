package link

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

const (
	// refusedRest is how long a password that a proxy has refused is not shown again. Domains that lock accounts count
	// wrong passwords over 10 to 30 minutes as a rule: with one try in each such time no account is locked.
	refusedRest = 30 * time.Minute
	// maxRefused bounds what is remembered; an agent knows one password or two.
	maxRefused = 64
)

// caution keeps a wrong password from being shown to a proxy as fast as links are dialed, which would lock the account: one
// that was refused rests, and one that was never accepted is shown by one dial at a time. The zero value is ready. Safe for
// concurrent use.
type caution struct {
	mu      sync.Mutex // guards what follows
	salt    []byte
	refused map[[32]byte]time.Time // until then; keys are salted digests, never passwords
	proved  map[[32]byte]bool
	turn    chan struct{} // capacity 1: held by who shows a password that is not proved
}

// A verdict is what became of a password that was shown.
type verdict int

const (
	untold  verdict = iota // the proxy never judged it
	proved                 // it was accepted
	refused                // it was refused
)

// A RestingError says that a password is not shown again yet.
type restingError struct {
	who   string
	until time.Time
}

func (e *restingError) Error() string {
	return fmt.Sprintf("the password of %s was refused; so as not to lock the account, the same one is not shown again before %s",
		e.who, e.until.Format("15:04:05 MST"))
}

// enter gives leave to show who's password to a proxy, when its turn has come. Who has leave reports the verdict once.
func (c *caution) enter(ctx context.Context, proxy, who, password string) (leave func(verdict), err error) {
	key, turn := c.key(proxy, who, password)
	waited := false
	for {
		c.mu.Lock()
		until, resting := c.refused[key]
		known := c.proved[key]
		c.mu.Unlock()
		switch {
		case resting && time.Now().Before(until):
			if waited {
				<-turn
			}
			return nil, &restingError{who, until}
		case known && !waited:
			return func(v verdict) { c.tell(key, v) }, nil
		case waited:
			return func(v verdict) { c.tell(key, v); <-turn }, nil
		}
		select {
		case turn <- struct{}{}:
			waited = true // and look again: the one before may have been refused
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another sign-on of %s: %w", who, context.Cause(ctx))
		}
	}
}

func (c *caution) key(proxy, who, password string) ([32]byte, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn == nil {
		c.salt, c.turn = make([]byte, 16), make(chan struct{}, 1)
		_, _ = rand.Read(c.salt) // never fails (crypto/rand)
		c.refused, c.proved = map[[32]byte]time.Time{}, map[[32]byte]bool{}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%x %q %q %q", c.salt, proxy, who, password)
	return [32]byte(h.Sum(nil)), c.turn
}

func (c *caution) tell(key [32]byte, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.refused) >= maxRefused || len(c.proved) >= maxRefused {
		clear(c.proved)
		for k, until := range c.refused {
			if time.Now().After(until) || len(c.refused) >= maxRefused {
				delete(c.refused, k)
			}
		}
	}
	switch v {
	case proved:
		c.proved[key] = true
		delete(c.refused, key)
	case refused:
		delete(c.proved, key)
		c.refused[key] = time.Now().Add(refusedRest)
	case untold:
	}
}
