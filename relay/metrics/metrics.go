// Package metrics tells Prometheus how the relay fares: what callers asked for and got, where the time went, and how links,
// store and certificate are. It counts calls by their events, as the access log records them; everything else it asks of its
// owner when it is scraped.
//
//	m := metrics.New(metrics.Sources{Version: v, Gateways: registry.Status, Active: proxy.Active})
//	m.Observe(event)                     // for each call
//	http.Handle("/metrics", m.Handler())
//
// Names follow Prometheus' conventions: base units, _total for counters. Durations are native histograms with classic buckets
// beside them, for collectors that know only those. Labels are bounded: gateways and connectors are published ones, codes
// are the relay's own, and nothing that a caller sends becomes a label.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport/relay/connector"
	"sallyport/relay/gateway"
)

// namespace begins the name of each metric.
const namespace = "sallyport_relay"

const (
	// maxConnectors bounds the connectors that have series of their own; the rest share those of "other". Each has a few
	// dozen series, and they stay until the relay restarts, also those of connectors that were removed.
	maxConnectors = 2000
	// bucketFactor is how much wider each bucket of a native histogram is than the one before: durations are known to 10 %.
	bucketFactor = 1.1
	// maxBuckets bounds those of one histogram; when it is passed, buckets are made wider.
	maxBuckets = 120
)

// Sources are what is asked when Prometheus scrapes. Each may be nil, and must not block for long.
type Sources struct {
	// Version is what the program calls itself.
	Version string
	// Gateways are the gateways with their agents and links.
	Gateways func() []gateway.Status
	// Active is how many calls are under way.
	Active func() int
	// Connections is how many connections of callers and agents are open.
	Connections func() int
	// Dropped is how many events of calls were lost since the start because a record could not keep up, by record.
	Dropped func() map[string]uint64
	// Ready says whether the relay takes calls.
	Ready func() bool
	// Expiry is when the relay's certificate ends; zero if it has none of its own.
	Expiry func() time.Time
}

// Metrics counts calls. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	requests *prometheus.CounterVec
	problems *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	broken   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	parts    *prometheus.HistogramVec
	waits    *prometheus.HistogramVec

	each  sync.Map // [2]string of gateway and connector -> *series
	count atomic.Int64
}

// series are those of one connector, found once.
type series struct {
	gateway, connector string

	in, out  prometheus.Counter
	broken   prometheus.Counter
	duration prometheus.Observer
	parts    [len(parts)]prometheus.Observer
	statuses sync.Map // status and origin -> prometheus.Counter
}

// parts are where the time of a call goes; see connector.Took.
var parts = [...]string{"relay", "link", "agent", "auth", "upstream", "answer"}

// New makes the metrics of one relay.
func New(s Sources) *Metrics {
	labels := []string{"gateway", "connector"}
	histogram := func(name, help string, labels []string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: name, Help: help, NativeHistogramBucketFactor: bucketFactor, NativeHistogramMaxBucketNumber: maxBuckets,
			NativeHistogramMinResetDuration: time.Hour, Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 240},
		}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("requests_total", "Calls that have ended, by the status that the caller got and by who gave it (relay, agent, upstream).",
			"gateway", "connector", "code", "origin"),
		problems: counter("request_problems_total", "Calls that were answered with a problem, by its code.", "gateway", "connector", "problem"),
		bytes:    counter("request_bytes_total", "Bytes of bodies, from callers (in) and to callers (out).", "gateway", "connector", "direction"),
		broken:   counter("broken_answers_total", "Answers that broke off after their head.", labels...),
		duration: histogram("request_duration_seconds", "How long calls took, from their arrival to the end of the answer.", labels),
		parts: histogram("request_part_seconds", "Where the time went: relay (before the request left), link (there and back), "+
			"agent, auth (sign-on at the API), upstream (until the head of the answer), answer (its body).", []string{"gateway", "part"}),
		waits: histogram("request_wait_seconds", "How long calls waited for an agent that should be back soon; those that did not wait are not counted.", []string{"gateway"}),
	}
	m.registry.MustRegister(m.requests, m.problems, m.bytes, m.broken, m.duration, m.parts, m.waits, state{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Observe counts a call that has ended. It neither blocks nor keeps the event.
func (m *Metrics) Observe(e *connector.Event) {
	s := m.of(e.Gateway, e.Connector)
	s.status(m, e).Inc()
	s.in.Add(float64(e.In))
	s.out.Add(float64(e.Out))
	s.duration.Observe(e.Took.Total.Seconds())
	if e.Code != "" {
		m.problems.WithLabelValues(s.gateway, s.connector, e.Code).Inc()
	}
	if e.Broken {
		s.broken.Inc()
	}
	if e.Took.Wait > 0 {
		m.waits.WithLabelValues(s.gateway).Observe(e.Took.Wait.Seconds())
	}
	if e.Agent == "" {
		return // it did not get inside
	}
	took := [...]time.Duration{e.Took.Relay, e.Took.Link, e.Took.Agent, e.Took.Auth, e.Took.Upstream, e.Took.Answer}
	for i, d := range took {
		s.parts[i].Observe(d.Seconds())
	}
}

// of finds the series of a connector.
func (m *Metrics) of(gateway, connector string) *series {
	key := [2]string{gateway, connector}
	if s, ok := m.each.Load(key); ok {
		return s.(*series)
	}
	if m.count.Add(1) > maxConnectors {
		m.count.Add(-1)
		if key = [2]string{"other", "other"}; gateway != key[0] {
			return m.of(key[0], key[1])
		}
	}
	s := &series{
		gateway: key[0], connector: key[1], duration: m.duration.WithLabelValues(key[0], key[1]),
		in: m.bytes.WithLabelValues(key[0], key[1], "in"), out: m.bytes.WithLabelValues(key[0], key[1], "out"),
		broken: m.broken.WithLabelValues(key[0], key[1]),
	}
	for i, p := range parts {
		s.parts[i] = m.parts.WithLabelValues(key[0], p)
	}
	kept, loaded := m.each.LoadOrStore(key, s)
	if loaded {
		m.count.Add(-1)
	}
	return kept.(*series)
}

// status finds the counter of a status and of who gave it.
func (s *series) status(m *Metrics, e *connector.Event) prometheus.Counter {
	type key struct {
		status int
		origin string
	}
	origin := e.Origin
	if origin == "" {
		origin = "upstream"
	}
	k := key{e.Status, origin}
	if c, ok := s.statuses.Load(k); ok {
		return c.(prometheus.Counter)
	}
	c := m.requests.WithLabelValues(s.gateway, s.connector, strconv.Itoa(e.Status), origin)
	s.statuses.Store(k, c)
	return c
}

// state collects what is asked at the time of a scrape.
type state struct{ Sources }

// These are the metrics of state.
var (
	descBuild       = desc("build_info", "1, with the version of the program and of Go.", "version", "goversion")
	descReady       = desc("ready", "Whether the relay takes calls, as /_/readyz says.")
	descActive      = desc("requests_in_flight", "Calls under way.")
	descConnections = desc("connections", "Open connections of callers and agents.")
	descDropped     = desc("records_dropped_total", "Events that were lost because a record could not keep up.", "record")
	descExpiry      = desc("certificate_expiry_timestamp_seconds", "When the relay's certificate ends.")
	descAgents      = desc("agents", "Agents by gateway: linked, away, pending (wait for approval), revoked.", "gateway", "state")
	descLinks       = desc("links", "Links by gateway: up, draining, silent.", "gateway", "state")
	descStreams     = desc("streams", "Exchanges under way on a gateway's links.", "gateway")
	descRTT         = desc("link_rtt_seconds", "The longest round trip of a gateway's links.", "gateway")
	descWarnings    = desc("gateway_warnings", "Warnings of 'sallyport-relay status': agents that disagree.", "gateway")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descBuild, descReady, descActive, descConnections, descDropped, descExpiry, descAgents, descLinks, descStreams, descRTT, descWarnings,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descBuild, 1, s.Version, runtime.Version())
	if s.Ready != nil {
		gauge(descReady, number(s.Ready()))
	}
	if s.Active != nil {
		gauge(descActive, float64(s.Active()))
	}
	if s.Connections != nil {
		gauge(descConnections, float64(s.Connections()))
	}
	if s.Expiry != nil {
		if at := s.Expiry(); !at.IsZero() {
			gauge(descExpiry, float64(at.Unix()))
		}
	}
	if s.Dropped != nil {
		for record, n := range s.Dropped() {
			ch <- prometheus.MustNewConstMetric(descDropped, prometheus.CounterValue, float64(n), record)
		}
	}
	if s.Gateways != nil {
		for _, g := range s.Gateways() {
			collectGateway(g, gauge)
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func collectGateway(g gateway.Status, gauge func(*prometheus.Desc, float64, ...string)) {
	agents := map[string]int{"linked": 0, "away": 0, "pending": 0, "revoked": 0}
	links := map[string]int{"up": 0, "draining": 0, "silent": 0}
	streams, rtt := 0, time.Duration(0)
	for _, a := range g.Agents {
		switch {
		case !a.Revoked.IsZero():
			agents["revoked"]++
		case a.Pending:
			agents["pending"]++
		case len(a.Links) > 0:
			agents["linked"]++
		default:
			agents["away"]++
		}
		for _, l := range a.Links {
			links[l.State]++
			streams += l.Streams
			rtt = max(rtt, l.RTT)
		}
	}
	for s, n := range agents {
		gauge(descAgents, float64(n), g.Name, s)
	}
	for s, n := range links {
		gauge(descLinks, float64(n), g.Name, s)
	}
	gauge(descStreams, float64(streams), g.Name)
	gauge(descRTT, rtt.Seconds(), g.Name)
	gauge(descWarnings, float64(len(g.Warnings)), g.Name)
}
