// Package metrics tells Prometheus how the agent fares: what became of calls, how links, sign-ons, the record and the
// configuration are. It counts calls as they end; everything else it asks of its owner when it is scraped.
//
//	m := metrics.New(metrics.Sources{Version: v, Links: links.Status, ...})
//	m.Observe(metrics.Call{...})   // for each call
//	err := m.Serve(ctx, "127.0.0.1:9464", log) // until ctx ends
//
// It writes the text format itself (text.go) rather than by Prometheus' library, which would add a sixth to the agent's binary
// and eight modules to the list that a security team reads. The price is that histograms have classic buckets alone.
//
// Names follow Prometheus' conventions: base units, _total for counters. Labels are bounded: APIs are those of agent.yaml,
// problems and protocols are the agent's own words, and nothing that a caller or the relay sends becomes a label.
package metrics

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxAPIs bounds the APIs that have series of their own, also those that were removed from agent.yaml since the start;
	// the rest share those of "other".
	maxAPIs = 500
	// maxWords bounds the problems, and the protocols, of one API. They are the agent's own words; the bound is for the day
	// when one is not.
	maxWords = 64
	// other is what is past a bound.
	other = "other"
)

// A Link is one of the links that the agent keeps up, or tries to.
type Link struct {
	Slot  int
	State string // one of States
	// RTT is the last measured round trip of a link that is up; 0: not measured yet.
	RTT time.Duration
}

// States are the states of a link; each has its series always, so that a rule can ask for zero.
func States() []string { return []string{"dialing", "up", "down", "waiting", "refused", "clone"} }

// Links are the agent's links at one moment, and what became of them since the start.
type Links struct {
	Each    []Link
	Streams int // exchanges under way on all of them
	// Reconnects are links that came up where one had been before; Failures are attempts that failed; Lost are links that
	// ended without having been drained.
	Reconnects, Failures, Lost uint64
}

// Config is how it is with agent.yaml.
type Config struct {
	InForce        bool   // the file that is there is the one in force
	Loaded, Failed uint64 // since the start: changes that were put in force, and those that were not
}

// Record is how it is with the audit record.
type Record struct {
	Queued   int    // events that wait for the disk
	Failures uint64 // writes that the disk refused
	Dropped  map[string]uint64
}

// Sources are what is asked when Prometheus scrapes. Each may be nil, and must not block for long.
type Sources struct {
	// Version is what the program calls itself.
	Version string
	Links   func() Links
	Config  func() Config
	Record  func() Record
	// Paused says of each API in force whether its calls are paused.
	Paused func() map[string]bool
}

// A Call is a call that has ended.
type Call struct {
	// API is its name in agent.yaml; empty if the relay named one that is not there.
	API     string
	Allowed bool
	Status  int // 0: nothing was answered
	Problem string
	In, Out int64
	Took    time.Duration
	// Waited is how long it waited for its turn, within Took; 0: it did not.
	Waited time.Duration
	// SignOn is the protocol of a sign-on with Windows authentication that was made for this call, SignedOn what came of it.
	SignOn   string
	SignedOn Outcome
}

// Outcome is what came of a sign-on.
type Outcome string

// The outcomes.
const (
	None     Outcome = "" // none was made
	Accepted Outcome = "accepted"
	Failed   Outcome = "failed"
)

// Metrics counts calls. It is safe for concurrent use.
type Metrics struct {
	sources Sources
	started time.Time

	mu   sync.RWMutex
	apis map[string]*series // guarded by mu
}

// series are those of one API.
type series struct {
	calls    [2][len(classes)]atomic.Uint64 // refused, allowed
	in, out  atomic.Uint64
	duration histogram
	waits    histogram // of calls that had to wait

	mu       sync.Mutex
	problems map[string]uint64    // guarded by mu
	signOns  map[[2]string]uint64 // protocol and outcome; guarded by mu
}

// classes are the values of the label code; the first is for calls that were not answered.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// class is the place of a status in classes.
func class(status int) int {
	if status < 100 || status > 599 {
		return 0
	}
	return status / 100
}

// New makes the metrics of one agent.
func New(s Sources) *Metrics {
	return &Metrics{sources: s, started: time.Now(), apis: map[string]*series{}}
}

// Observe counts a call that has ended. It does not block.
func (m *Metrics) Observe(c Call) {
	s, verdict := m.of(c.API), 0
	if c.Allowed {
		verdict = 1
		s.duration.observe(c.Took.Seconds())
		if c.Waited > 0 {
			s.waits.observe(c.Waited.Seconds())
		}
	}
	s.calls[verdict][class(c.Status)].Add(1)
	s.in.Add(uint64(max(c.In, 0)))
	s.out.Add(uint64(max(c.Out, 0)))
	if c.Problem == "" && c.SignedOn == None {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Problem != "" {
		s.problems[bounded(s.problems, c.Problem)]++
	}
	if c.SignedOn != None {
		if c.SignOn == "" {
			c.SignOn = "unknown" // it failed before a protocol was agreed on
		}
		key := [2]string{c.SignOn, string(c.SignedOn)}
		if _, there := s.signOns[key]; !there && len(s.signOns) >= maxWords {
			key[0] = other
		}
		s.signOns[key]++
	}
}

// bounded gives the word itself, or other if there are too many.
func bounded(words map[string]uint64, word string) string {
	if _, there := words[word]; !there && len(words) >= maxWords {
		return other
	}
	return word
}

// of finds the series of an API.
func (m *Metrics) of(api string) *series {
	m.mu.RLock()
	s := m.apis[api]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.apis[api] == nil && len(m.apis) >= maxAPIs {
		api = other
	}
	if m.apis[api] == nil {
		m.apis[api] = &series{problems: map[string]uint64{}, signOns: map[[2]string]uint64{}}
	}
	return m.apis[api]
}

// bounds are the upper bounds of the histogram's buckets, in seconds; those of the relay's.
var bounds = [...]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 240}

// A histogram counts durations. A scrape while one is added may see it in a bucket and not yet in the sum.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64 // the last is for what is above
	micros  atomic.Uint64                  // the sum
}

func (h *histogram) observe(seconds float64) {
	n := 0
	for n < len(bounds) && seconds > bounds[n] {
		n++
	}
	h.buckets[n].Add(1)
	h.micros.Add(uint64(max(seconds, 0) * 1e6))
}
