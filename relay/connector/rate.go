package connector

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// maxRate bounds the calls of a Rate.
const maxRate = 1_000_000

// A Rate is how many calls may begin in a time. As many may come at once; from then on they come evenly. Zero: no bound.
type Rate struct {
	Calls int
	Per   time.Duration
}

// ParseRate reads "100/m": calls for each second (s), minute (m) or hour (h). An empty text is no bound.
func ParseRate(s string) (Rate, error) {
	if s == "" {
		return Rate{}, nil
	}
	calls, unit, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(calls)
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	if err != nil || n < 1 || n > maxRate || per == 0 {
		return Rate{}, fmt.Errorf("%.40q is no rate: write calls for each second, minute or hour, such as 5/s, 100/m or 1000/h", s)
	}
	return Rate{Calls: n, Per: per}, nil
}

func (r Rate) String() string {
	if r.Calls == 0 {
		return ""
	}
	unit := "h"
	switch r.Per {
	case time.Second:
		unit = "s"
	case time.Minute:
		unit = "m"
	}
	return strconv.Itoa(r.Calls) + "/" + unit
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}

// A gauge measures the calls of one connector or one key on this relay node.
type gauge struct {
	active atomic.Int64

	mu     sync.Mutex // guards what follows
	rate   Rate
	bucket *rate.Limiter
}

// wait says for how long a call that begins now has to wait; 0 lets it pass and counts it.
func (g *gauge) wait(want Rate, now time.Time) time.Duration {
	if want.Calls == 0 {
		return 0
	}
	g.mu.Lock()
	if g.rate != want {
		g.rate = want
		g.bucket = rate.NewLimiter(rate.Limit(float64(want.Calls)/want.Per.Seconds()), want.Calls)
	}
	bucket := g.bucket
	g.mu.Unlock()
	r := bucket.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// gauges are made for published connectors and their keys only, so there are never more than were made since the start.
type gauges struct{ byID sync.Map }

func (c *gauges) of(id string) *gauge {
	if n, ok := c.byID.Load(id); ok {
		return n.(*gauge)
	}
	n, _ := c.byID.LoadOrStore(id, new(gauge))
	return n.(*gauge)
}

// enter applies a connector's or a key's own limits. whose is for the caller; zero limits bound nothing.
func (c *call) enter(id, whose string, limit Rate, concurrent int) error {
	g := c.p.each.of(id)
	if concurrent > 0 {
		// Counted first: a call that is refused for this must not use up the rate.
		c.counters = append(c.counters, &g.active)
		if g.active.Add(1) > int64(concurrent) {
			return NewProblem("relay-busy", whose+" has as many requests under way as it may.").after(retryBusy)
		}
	}
	if wait := g.wait(limit, time.Now()); wait > 0 {
		return NewProblem("rate-exceeded", fmt.Sprintf("%s may make %s requests.", whose, limit)).after(wait)
	}
	return nil
}
