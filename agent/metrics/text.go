package metrics

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// namespace begins the name of each metric.
const namespace = "sallyport_agent_"

// contentType is that of the text format, version 0.0.4:
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// A page is what a scrape gets. A family's samples follow it in one piece, as the format has it.
type page struct {
	bytes.Buffer
	name string // of the family
}

// The kinds of families.
const (
	counter = "counter"
	gauge   = "gauge"
)

func (p *page) family(kind, name, help string) {
	p.name = name
	p.WriteString("# HELP " + name + " " + strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help) + "\n# TYPE " + name + " " + kind + "\n")
}

// sample adds one of the family's; labels are names and values in turn.
func (p *page) sample(value float64, labels ...string) { p.line("", value, labels...) }

func (p *page) line(suffix string, value float64, labels ...string) {
	p.WriteString(p.name + suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		p.WriteByte("{,"[min(i, 1)])
		p.WriteString(labels[i] + `="` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		p.WriteByte('}')
	}
	p.WriteString(" " + number(value) + "\n")
}

// number is a value as the format has it.
func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Text is the page of metrics as they are now.
func (m *Metrics) Text() []byte {
	p := &page{}
	p.family(gauge, namespace+"build_info", "1, with the version of the program and of Go.")
	p.sample(1, "version", m.sources.Version, "goversion", runtime.Version())
	if m.sources.Links != nil {
		p.links(m.sources.Links())
	}
	p.calls(m.all())
	if m.sources.Paused != nil {
		p.paused(m.sources.Paused())
	}
	if m.sources.Config != nil {
		p.config(m.sources.Config())
	}
	if m.sources.Record != nil {
		p.record(m.sources.Record())
	}
	p.process(m.started)
	return p.Bytes()
}

func (p *page) links(l Links) {
	p.family(gauge, namespace+"links", "Links to the relay by state: up, dialing, down (tried again), waiting (for approval), refused, clone.")
	for _, state := range States() {
		n := 0
		for _, one := range l.Each {
			if one.State == state {
				n++
			}
		}
		p.sample(float64(n), "state", state)
	}
	p.family(gauge, namespace+"link_rtt_seconds", "The last measured round trip of a link that is up.")
	for _, one := range l.Each {
		if one.RTT > 0 {
			p.sample(one.RTT.Seconds(), "slot", strconv.Itoa(one.Slot))
		}
	}
	p.family(gauge, namespace+"streams", "Exchanges under way on all links.")
	p.sample(float64(l.Streams))
	p.family(counter, namespace+"link_reconnects_total", "Links that came up where one had been before, planned replacements too.")
	p.sample(float64(l.Reconnects))
	p.family(counter, namespace+"link_failures_total", "Attempts to link that failed.")
	p.sample(float64(l.Failures))
	p.family(counter, namespace+"link_losses_total", "Links that ended without having been drained.")
	p.sample(float64(l.Lost))
}

// named is the series of one API.
type named struct {
	api string
	*series
}

func (m *Metrics) all() (list []named) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, api := range slices.Sorted(maps.Keys(m.apis)) {
		list = append(list, named{api, m.apis[api]})
	}
	return list
}

func (p *page) calls(list []named) {
	p.family(counter, namespace+"calls_total", "Calls that have ended, by the verdict of the allow-list and by the class of the status that left (none: nothing was answered).")
	for _, s := range list {
		for verdict, word := range []string{"refused", "allowed"} {
			for i, code := range classes {
				if n := s.calls[verdict][i].Load(); n > 0 {
					p.sample(float64(n), "api", s.api, "verdict", word, "code", code)
				}
			}
		}
	}
	p.family(counter, namespace+"call_problems_total", "Calls that were refused or failed, by the code of the problem.")
	for _, s := range list {
		s.writeProblems(p)
	}
	p.family("histogram", namespace+"call_duration_seconds", "How long allowed calls took on the agent, from their arrival to the end of the answer.")
	for _, s := range list {
		p.histogram(s.api, &s.duration)
	}
	p.family("histogram", namespace+"call_wait_seconds", "How long calls waited for their turn, because limits.concurrent of the API were running; those that did not wait are not counted.")
	for _, s := range list {
		p.histogram(s.api, &s.waits)
	}
	p.family(counter, namespace+"call_bytes_total", "Bytes of bodies, from callers (in) and to callers (out).")
	for _, s := range list {
		p.sample(float64(s.in.Load()), "api", s.api, "direction", "in")
		p.sample(float64(s.out.Load()), "api", s.api, "direction", "out")
	}
	p.family(counter, namespace+"authentications_total", "Sign-ons at APIs with Windows authentication, by protocol and outcome (accepted, failed); a connection that is signed on counts once.")
	for _, s := range list {
		s.writeSignOns(p)
	}
}

func (s named) writeProblems(p *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, code := range slices.Sorted(maps.Keys(s.problems)) {
		p.sample(float64(s.problems[code]), "api", s.api, "problem", code)
	}
}

func (s named) writeSignOns(p *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(s.signOns), func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	for _, k := range keys {
		p.sample(float64(s.signOns[k]), "api", s.api, "protocol", k[0], "outcome", k[1])
	}
}

// histogram writes one of the family's: buckets add up, and the last one is the count, so that both always agree.
func (p *page) histogram(api string, h *histogram) {
	sum := float64(h.micros.Load()) / 1e6
	count := uint64(0)
	for i := range h.buckets {
		count += h.buckets[i].Load()
		bound := math.Inf(1)
		if i < len(bounds) {
			bound = bounds[i]
		}
		p.line("_bucket", float64(count), "api", api, "le", number(bound))
	}
	p.line("_sum", sum, "api", api)
	p.line("_count", float64(count), "api", api)
}

func (p *page) paused(apis map[string]bool) {
	p.family(gauge, namespace+"paused", "Whether calls of the API are refused because an admin has paused it.")
	for _, api := range slices.Sorted(maps.Keys(apis)) {
		p.sample(truth(apis[api]), "api", api)
	}
}

func (p *page) config(c Config) {
	p.family(gauge, namespace+"config_in_force", "Whether agent.yaml as it is now is in force; 0: it is wrong, and what was in force before stays so.")
	p.sample(truth(c.InForce))
	p.family(counter, namespace+"config_reloads_total", "Changes of agent.yaml since the start, by outcome: loaded, or failed.")
	p.sample(float64(c.Loaded), "outcome", "loaded")
	p.sample(float64(c.Failed), "outcome", "failed")
}

func (p *page) record(r Record) {
	p.family(gauge, namespace+"audit_queue_events", "Events of the audit record that wait for the disk.")
	p.sample(float64(r.Queued))
	p.family(counter, namespace+"audit_write_failures_total", "Writes of the audit record that the disk refused.")
	p.sample(float64(r.Failures))
	p.family(counter, namespace+"records_dropped_total", "Events that were lost because a record (audit, or syslog to a collector) could not take them.")
	for _, record := range slices.Sorted(maps.Keys(r.Dropped)) {
		p.sample(float64(r.Dropped[record]), "record", record)
	}
}

// process writes what is the same for every program, under the names that Prometheus' own libraries give it.
func (p *page) process(started time.Time) {
	p.family(gauge, "process_start_time_seconds", "When the process began, in seconds since 1970.")
	p.sample(float64(started.UnixMilli()) / 1000)
	p.family(gauge, "go_goroutines", "Goroutines of the process.")
	p.sample(float64(runtime.NumGoroutine()))
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	p.family(gauge, "go_memstats_sys_bytes", "Memory that the process has from the system.")
	p.sample(float64(mem.Sys))
	p.family(gauge, "go_memstats_heap_inuse_bytes", "Memory of the heap that is in use.")
	p.sample(float64(mem.HeapInuse))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
