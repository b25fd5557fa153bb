package link

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"sallyport/tunnel"
)

const (
	backoffBase = 500 * time.Millisecond
	// backoffCap keeps the wait after the relay is back short, and ten thousand agents below 500 dials a second.
	backoffCap = 45 * time.Second
	// permanentWait is between tries that an admin has to make succeed first: often enough to notice that he has.
	permanentWait = 5 * time.Minute
	// longestWait bounds what a relay may ask for when it refuses, longestPause when it goes away.
	longestWait  = time.Hour
	longestPause = 5 * time.Minute
	// settled is how long a link must have lived for its end to count as the first failure.
	settled = time.Minute
	// leastLife is how long a link must have lived for its end not to be waited after longer than lifetimes of it. A network that
	// cuts connections again and again is no reason to stay away when it lets them through again; a relay that ends links as
	// soon as they are up is.
	leastLife = time.Second
	lifetimes = 2
)

// A Backoff decides how long to wait before the next try: exponential with full jitter, so that agents that lost the
// same relay do not come back together. The zero value is ready. Not safe for concurrent use.
type Backoff struct {
	failures int
	most     time.Duration // bounds the next wait; 0: nothing but the cap does
	// random gives a number in [0, n); nil is math/rand/v2.
	random func(n int64) int64
}

// Next counts a failure and says how long to wait after it.
func (b *Backoff) Next(err error) time.Duration {
	b.failures++
	defer func() { b.most = 0 }()
	if asked := retryAfter(err); asked > 0 {
		// At least what was asked for, and then spread: everybody was asked the same.
		return asked + b.jitter(max(asked/4, backoffBase))
	}
	if permanent(err) {
		return permanentWait - permanentWait/10 + b.jitter(permanentWait/5)
	}
	limit := backoffCap
	if b.failures < 10 { // beyond, the shift passes the cap
		limit = min(backoffCap, backoffBase<<(b.failures-1))
	}
	if b.most > 0 {
		limit = min(limit, b.most)
	}
	return b.jitter(limit)
}

// Lived notes how long the link lived whose end is the next failure.
func (b *Backoff) Lived(d time.Duration) {
	if d >= leastLife {
		b.most = lifetimes * d
	}
}

// Reset forgets the failures.
func (b *Backoff) Reset() { b.failures = 0 }

func (b *Backoff) jitter(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	if b.random != nil {
		return time.Duration(b.random(int64(limit)))
	}
	return time.Duration(rand.Int64N(int64(limit)))
}

// permanent says whether trying again is useless before an admin has acted.
func permanent(err error) bool {
	if r, ok := errors.AsType[*tunnel.Refusal](err); ok {
		return r.Permanent
	}
	return errors.Is(err, tunnel.ErrRelayKey)
}

// retryAfter is what the relay, or what stands before it, asked for.
func retryAfter(err error) (d time.Duration) {
	if r, ok := errors.AsType[*tunnel.Refusal](err); ok {
		d = r.RetryAfter
	} else if e, ok := errors.AsType[*DialError](err); ok {
		d = e.RetryAfter
	}
	return min(max(d, 0), longestWait)
}

// controlPause is the kind of the control message with which a relay that goes away asks its agents not to come back all at
// once: each waits a random time, up to the one that is named.
const controlPause = "pause"

// parsePause reads it; what cannot be read asks for nothing.
func parsePause(body []byte) time.Duration {
	var p struct {
		Spread time.Duration `json:"spread_ns"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return 0
	}
	return min(max(p.Spread, 0), longestPause)
}
