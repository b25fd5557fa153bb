//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Samples are what one way gave, by the names of JSON, one value for each round.
type samples map[string][]float64

func (s samples) add(name string, v float64) { s[name] = append(s[name], v) }

// measureWays measures every way in each round, so that whatever else the machine does hits all of them alike.
func (s *stage) measureWays(ctx context.Context) (*report, error) {
	got := make(map[string]samples)
	for _, w := range s.ways {
		got[w.name] = samples{}
	}
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	done := 0
	for round := range s.rounds {
		if s.late(round) {
			s.say("the machine is slow: no more rounds, to end within a minute")
			break
		}
		s.say("round %d of %d", round+1, s.rounds)
		// Every round begins with another way: none always follows the same one.
		for i := range s.ways {
			w := s.ways[(i+round)%len(s.ways)]
			if err := s.measure(ctx, w, got[w.name]); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", w.name, err, s.logs(w))
			}
		}
		done++
	}
	for _, w := range s.ways {
		kB, err := w.peak()
		if err != nil {
			return nil, err
		}
		got[w.name].add("peak_kb", float64(kB))
	}
	return newReport(s.options, done, got, wayRatios(got, done)), nil
}

// late says whether another round, as long as those before it, would end after the budget. One round there always is.
func (s *stage) late(rounds int) bool {
	if s.budget == 0 || rounds == 0 {
		return false
	}
	spent := time.Since(s.began)
	return spent+spent/time.Duration(rounds) > s.budget
}

// wait gives somebody time to attach a profiler.
func (s *stage) wait(ctx context.Context) error {
	if s.pause <= 0 {
		return nil
	}
	for _, p := range s.processes {
		s.say("process %d is %s", p.cmd.Process.Pid, p.name)
	}
	select {
	case <-time.After(s.pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *stage) measure(ctx context.Context, w *way, got samples) error {
	if err := s.calls(ctx, w.target, w.cpu, got); err != nil {
		return err
	}
	if s.bulk == 0 {
		return nil
	}
	for _, b := range []struct {
		name string
		work work
	}{{"down", down}, {"up", up}} {
		before, err := w.cpu()
		if err != nil {
			return err
		}
		rate, err := w.target.transfer(ctx, b.work, s.bulk)
		if err != nil {
			return err
		}
		after, err := w.cpu()
		if err != nil {
			return err
		}
		got.add(b.name+"_mbps", rate)
		got.add(b.name+"_cpu_us_per_mb", micros(after-before)/(float64(s.bulk)*bulkSize/1e6))
	}
	return nil
}

// calls measures small requests at each number of callers.
func (s *stage) calls(ctx context.Context, t target, meter func() (time.Duration, error), got samples) error {
	for _, callers := range slices.Sorted(maps.Keys(s.spans)) {
		sp, err := t.load(ctx, callers, s.spans[callers], meter)
		if err != nil {
			return fmt.Errorf("%d callers: %w", callers, err)
		}
		got.add(fmt.Sprintf("rps_%d", callers), float64(sp.requests)/sp.elapsed.Seconds())
		got.add(fmt.Sprintf("p50_%d_us", callers), micros(sp.p50))
		got.add(fmt.Sprintf("p99_%d_us", callers), micros(sp.p99))
		name := "cpu_us"
		if callers != 64 {
			name = fmt.Sprintf("cpu_%d_us", callers)
		}
		got.add(name, micros(sp.cpu)/float64(sp.requests))
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// --- an API that demands Windows authentication -----------------------------------------------------------------------

const (
	signOnCallers = 16
	signOnCalls   = 1000
)

// measureAuth measures the same API through the same programs, with and without NTLM in front of it.
func (s *stage) measureAuth(ctx context.Context) (*report, error) {
	w := s.ways[0]
	relay, _, err := s.binaries(ctx)
	if err != nil {
		return nil, err
	}
	withNTLM := *w
	withNTLM.name = "sallyport_ntlm"
	if withNTLM.target, err = s.publish(ctx, relay, w.target, "signed"); err != nil {
		return nil, err
	}
	handshakes, err := s.signOns(ctx, withNTLM.target)
	if err != nil {
		return nil, fmt.Errorf("sign on: %w\n%s", err, s.logs(w))
	}
	s.ways = append(s.ways, &withNTLM)
	r, err := s.measureWays(ctx)
	if err != nil {
		return nil, err
	}
	r.Ratios = append(r.Ratios, ratio{
		Name:  fmt.Sprintf("NTLM handshakes for %d requests over %d connections", signOnCalls, signOnCallers),
		Value: handshakes, Target: signOnCallers, AtMost: true, Reached: handshakes <= signOnCallers,
	})
	return r, nil
}

// signOns counts the handshakes that the upstream sees for calls over cold connections.
func (s *stage) signOns(ctx context.Context, t target) (float64, error) {
	if err := each(signOnCallers, func(int) error {
		c, err := t.dial(ctx)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		for request, i := t.request(small), 0; i < signOnCalls/signOnCallers; i++ {
			if _, err := c.call(request, small); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return 0, err
	}
	text, err := t.once(ctx, signed)
	if err != nil {
		return 0, err
	}
	var n float64
	_, err = fmt.Sscan(strings.TrimSpace(text), &n)
	return n, err
}
