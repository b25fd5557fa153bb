package bearer

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	// cacheLife is for how long a token that was found good is not verified again. A key that the issuer withdraws, or a
	// token that it would no longer sign, ends by so much later.
	cacheLife = time.Minute
	// maxCached bounds the table.
	maxCached = 4096
)

// A cache knows for a while which tokens were good. It keeps their hashes, never the tokens.
type cache struct {
	mu   sync.Mutex // guards good
	good map[[32]byte]cached
}

type cached struct {
	who   Caller
	until time.Time
}

func (c *cache) get(raw string, now time.Time) (Caller, bool) {
	sum := sha256.Sum256([]byte(raw))
	c.mu.Lock()
	defer c.mu.Unlock()
	one, ok := c.good[sum]
	return one.who, ok && now.Before(one.until)
}

func (c *cache) put(raw string, who Caller, now time.Time, leeway time.Duration) {
	until := now.Add(cacheLife)
	if end := who.Expires.Add(leeway); end.Before(until) {
		until = end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good == nil {
		c.good = map[[32]byte]cached{}
	}
	looked := 0
	for sum, old := range c.good { // in no order; a few at each time, so that what has ended goes
		if looked++; now.After(old.until) || len(c.good) >= maxCached {
			delete(c.good, sum)
		}
		if looked > 32 {
			break
		}
	}
	c.good[sha256.Sum256([]byte(raw))] = cached{who, until}
}
