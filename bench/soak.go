//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// soakRest is how long the programs may rest before they are looked at: calls that were cut have ended by then, and Go's runtime
// has collected what it leaves lying while it is busy, which a program at rest does every two minutes. With --quick it is as
// short as it can be.
const (
	soakRest  = 150 * time.Second
	quickRest = 2 * time.Second
)

// soak calls for as long as was asked, with small calls, large bodies both ways, and callers that leave in the midst, and
// compares memory and goroutines with those of programs that have only warmed up. How many goroutines there are the
// programs say when they are made to quit, so that the comparison is between two runs.
func soak(ctx context.Context, o *options, progress io.Writer, r *faultReport) error {
	for i, span := range []time.Duration{min(o.soak/10, 20*time.Second), o.soak} {
		s, err := faultStage(ctx, o, progress, nil)
		if err != nil {
			return err
		}
		s.say("calling for %s", span)
		calls, err := s.mixed(ctx, span)
		if err == nil {
			err = s.rest(ctx)
		}
		if err == nil {
			err = s.look(r, [...]string{"soak_warm", "soak_end"}[i], calls)
		}
		s.close()
		if err != nil {
			return err
		}
	}
	for _, name := range []string{"relay", "agent"} {
		// Goroutines come and go with timers and idle connections.
		r.goal("goroutines of the "+name+" after the soak, against after a warm-up", r.Faults["soak_end_"+name+"_goroutines"]/r.Faults["soak_warm_"+name+"_goroutines"], 1.1, true)
		r.goal("memory of the "+name+" after the soak, against after a warm-up", r.Faults["soak_end_"+name+"_rss_kb"]/r.Faults["soak_warm_"+name+"_rss_kb"], 1.25, true)
	}
	return nil
}

// mixed calls in rounds of all kinds and gives the number of small calls.
func (s *stage) mixed(ctx context.Context, d time.Duration) (calls int, err error) {
	t := s.ways[0].target
	none := func() (time.Duration, error) { return 0, nil }
	for end := time.Now().Add(d); time.Now().Before(end); {
		got, err := t.load(ctx, 64, min(5*time.Second, max(time.Until(end), time.Second)), none)
		if err != nil {
			return calls, err
		}
		calls += got.requests
		for _, w := range []work{down, up} {
			if _, err := t.transfer(ctx, w, 1); err != nil {
				return calls, err
			}
		}
		for range 20 { // callers that leave
			c, err := t.dial(ctx)
			if err != nil {
				return calls, err
			}
			_, _ = c.conn.Write(t.request(down))
			_, _ = c.r.Peek(1)
			_ = c.conn.Close()
		}
	}
	return calls, nil
}

func (s *stage) rest(ctx context.Context) error {
	rest := soakRest
	if s.quick {
		rest = quickRest
	}
	s.say("resting for %s", rest)
	select {
	case <-time.After(rest):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// look notes what both programs hold, and makes them quit to count their goroutines.
func (s *stage) look(r *faultReport, prefix string, calls int) error {
	r.add(prefix+"_calls", float64(calls))
	for _, name := range []string{"relay", "agent"} {
		p, err := s.named("sallyport-" + name)
		if err != nil {
			return err
		}
		kB, err := p.resident()
		if err != nil {
			return err
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
		if err != nil {
			return err
		}
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.done
		dump, err := os.ReadFile(filepath.Join(s.dir, p.name+".log"))
		if err != nil {
			return err
		}
		r.add(prefix+"_"+name+"_rss_kb", float64(kB))
		r.add(prefix+"_"+name+"_files", float64(len(files)))
		r.add(prefix+"_"+name+"_goroutines", float64(strings.Count(string(dump), "\ngoroutine ")))
	}
	return nil
}

// resident is the memory that the program has resident now, in kB.
func (p *process) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", p.name, err)
	}
	_, rest, ok := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return 0, fmt.Errorf("read the memory of %s: no VmRSS", p.name)
	}
	return strconv.ParseInt(fields[0], 10, 64)
}
