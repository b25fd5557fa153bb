package connector

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	// freeFailures of one source are answered at once: people mistype, and a connection may hold an old key.
	freeFailures = 10
	// freeTotal is the same for one name (a user, the beginning of a key) whatever address it comes from.
	freeTotal = 100
	// guardWait is the first pause; each further failure doubles it, up to guardMost.
	guardWait = time.Second
	guardMost = time.Minute
	// guardForget is after how long without a failure a source is forgotten.
	guardForget = 10 * time.Minute
	// maxSources bounds the table.
	maxSources = 16384
)

// A guard slows down those who guess. It remembers sources of failures: addresses, and names that were tried. It never
// stands in the way of a right key or token: many callers share an address (Power Platform's above all), and a stranger
// must not shut them out.
type guard struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	sources map[string]*failures
}

type failures struct {
	count int
	last  time.Time
	until time.Time // no attempt is looked at before
}

// A source is what failures are counted under.
type source struct {
	key  string
	free int
}

// addressSource counts an IPv6 address as its /64, which is what one customer has.
func addressSource(remote string) source {
	if addr, err := netip.ParseAddr(remote); err == nil && addr.Is6() {
		if p, err := addr.WithZone("").Prefix(64); err == nil {
			remote = p.String()
		}
	}
	return source{"address " + remote, freeFailures}
}

// nameSource counts a name on one connector: "user alice", "key sp_Ab3".
func nameSource(connector, kind, name string) source {
	return source{connector + " " + kind + " " + clip(name, 64), freeTotal}
}

// wait is for how long the sources have to wait; 0: not at all.
func (g *guard) wait(now time.Time, sources ...source) (wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range sources {
		if f := g.sources[s.key]; f != nil {
			wait = max(wait, f.until.Sub(now))
		}
	}
	return wait
}

// fail counts one failure under each source, and says for how long they have to wait from now on.
func (g *guard) fail(now time.Time, connector string, sources ...source) (wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range sources {
		f := g.sources[s.key]
		if f == nil || now.Sub(f.last) > guardForget {
			f = &failures{}
			g.room(now)
			g.sources[s.key] = f
		}
		f.count++
		f.last = now
		if over := f.count - s.free; over > 0 {
			f.until = now.Add(min(guardWait<<min(over-1, 10), guardMost))
			wait = max(wait, f.until.Sub(now))
			if over == 1 {
				g.log.Warn("attempts to authenticate are slowed: too many have failed", "connector", connector, "source", s.key, "failures", f.count)
			}
		}
	}
	return wait
}

// room makes room for one more source. Who fills the table with addresses pushes others out of it, and gains no more
// than the free failures of each of those addresses.
func (g *guard) room(now time.Time) {
	if g.sources == nil {
		g.sources = map[string]*failures{}
	}
	if len(g.sources) < maxSources {
		return
	}
	looked := 0
	for key, f := range g.sources { // in no order
		if looked++; looked > 64 || now.Sub(f.last) > guardForget {
			delete(g.sources, key)
		}
		if len(g.sources) < maxSources {
			return
		}
	}
}
