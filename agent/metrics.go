package agent

import (
	"context"
	"time"

	"sallyport/agent/link"
	"sallyport/agent/metrics"
	"sallyport/agent/upstream"
	"sallyport/tunnel"
)

// newMetrics begins to count, if agent.yaml asks for it; nil if not.
func (a *Agent) newMetrics() *metrics.Metrics {
	if a.config.Metrics == nil {
		return nil
	}
	return metrics.New(metrics.Sources{
		Version: a.deps.Version, Links: a.linkMetrics, Config: a.status.config, Record: a.recordMetrics, Paused: a.pausedMetrics,
	})
}

// offerMetrics answers scrapes until ctx ends: to the end of a drain, which is worth watching.
func (a *Agent) offerMetrics(ctx context.Context) {
	if a.meter == nil {
		return
	}
	_ = a.meter.Serve(ctx, a.config.Metrics.Listen, a.log) // the address was checked with the configuration
}

// measure counts a call that has ended. One of a name that is not in agent.yaml counts under no name: names that the relay
// makes up would be labels without end.
func (a *Agent) measure(c *call, known bool) {
	if a.meter == nil {
		return
	}
	m := metrics.Call{
		API: c.API, Allowed: c.allowed, Status: c.Status, Problem: c.Problem, In: c.In, Out: c.Out,
		Took: time.Duration(c.Millis * float64(time.Millisecond)), SignOn: c.signOnBy, Waited: c.waited,
	}
	if !known {
		m.API = ""
	}
	switch c.signOn {
	case upstream.Accepted:
		m.SignedOn = metrics.Accepted
	case upstream.Refused:
		m.SignedOn = metrics.Failed
	}
	a.meter.Observe(m)
}

func (a *Agent) linkMetrics() (l metrics.Links) {
	for _, s := range a.links.Status() {
		state := s.State
		if state == link.StateWaiting {
			state = "waiting"
		}
		l.Each = append(l.Each, metrics.Link{Slot: s.Slot, State: state, RTT: time.Duration(s.RTT * float64(time.Millisecond))})
	}
	a.links.Each(func(one *tunnel.Link) { l.Streams += one.Streams() })
	n := a.links.Counts()
	l.Reconnects, l.Failures, l.Lost = n.Reconnects, n.Failures, n.Lost
	return l
}

func (s *status) config() metrics.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return metrics.Config{InForce: s.problem == "", Loaded: s.good, Failed: s.bad}
}

func (a *Agent) recordMetrics() metrics.Record {
	s := a.audit.Stats()
	r := metrics.Record{Queued: s.Queued, Failures: s.Failures, Dropped: map[string]uint64{"audit": s.Lost}}
	if a.syslog != nil {
		r.Dropped["syslog"] = a.syslog.Status().Dropped
	}
	if a.eventLog != nil {
		r.Dropped["event log"] = a.eventLog.Dropped()
	}
	return r
}

func (a *Agent) pausedMetrics() map[string]bool {
	told, apis := a.told.Load(), map[string]bool{}
	for _, name := range a.now.Load().names {
		apis[name] = told.paused(name)
	}
	return apis
}
