//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport/test/fault"
)

// allFaults is every row of --faults, in the order of the report.
var allFaults = [...]string{"line", "stuck", "bulk", "fleet"}

// A faultReport is what came of --faults or --soak, in the form of --json.
type faultReport struct {
	Date   string             `json:"date"`
	Cores  int                `json:"cores"`
	Go     string             `json:"go"`
	TLS    bool               `json:"tls"`
	Faults map[string]float64 `json:"faults"`
	Ratios []ratio            `json:"ratios"`

	names []string
}

func (r *faultReport) add(name string, v float64) {
	r.names = append(r.names, name)
	r.Faults[name] = round(v)
}

func (r *faultReport) goal(name string, v, target float64, atMost bool) {
	v = round(v)
	r.Ratios = append(r.Ratios, ratio{name, v, target, atMost, atMost && v <= target || !atMost && v >= target})
}

func (r *faultReport) print(w io.Writer) error {
	fmt.Fprintf(w, "%d cores, %s\n\n", r.Cores, r.Go)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, name := range r.names {
		fmt.Fprintf(t, "%s\t%.2f\t\n", name, r.Faults[name])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return (&report{Ratios: r.Ratios}).printRatios(w)
}

// measureFaults measures the rows that were asked for, or soaks. Each row has programs of its own.
func measureFaults(ctx context.Context, o *options, progress io.Writer) (*faultReport, error) {
	r := &faultReport{
		Date: time.Now().UTC().Format(time.RFC3339), Cores: runtime.NumCPU(), Go: runtime.Version(), TLS: o.tls,
		Faults: map[string]float64{}, Ratios: []ratio{},
	}
	if o.soak > 0 {
		return r, soak(ctx, o, progress, r)
	}
	rows := map[string]func(context.Context, *options, io.Writer, *faultReport) error{
		"line": longLine, "stuck": stuckReader, "bulk": besideBulk, "fleet": fleet,
	}
	for _, name := range o.faults {
		if err := rows[name](ctx, o, progress, r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return r, nil
}

// faultStage starts Sallyport alone, with an agent of one link.
func faultStage(ctx context.Context, o *options, progress io.Writer, through func(string) (string, error)) (*stage, error) {
	alone := *o
	alone.ways = []string{"sallyport"}
	s := &stage{options: &alone, progress: progress, agentYAML: "links: 1\n", through: through}
	var err error
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	if err := s.raise(ctx); err != nil {
		s.close()
		return nil, err
	}
	s.began = time.Now()
	return s, nil
}

// The long line: 80 ms there and back, 100 Mbit/s each way.
var longFat = fault.Line{Delay: 40 * time.Millisecond, Rate: 12_500_000}

// longLine compares 100 MB over a link on a long fat line with one TCP transfer over the same.
func longLine(ctx context.Context, o *options, progress io.Writer, r *faultReport) error {
	var proxies []*fault.Proxy
	defer func() {
		for _, p := range proxies {
			_ = p.Close()
		}
	}()
	through := func(address string) (string, error) {
		p, err := fault.New(address)
		if err != nil {
			return "", err
		}
		proxies = append(proxies, p)
		return p.Addr(), nil
	}
	s, err := faultStage(ctx, o, progress, through)
	if err != nil {
		return err
	}
	defer s.close()
	address := s.upstream.Address
	if s.tls {
		address = s.upstream.Secured
	}
	if address, err = through(address); err != nil {
		return err
	}
	direct, err := s.at(address)
	if err != nil {
		return err
	}
	for _, p := range proxies {
		p.Set(fault.Both, longFat)
	}
	for name, w := range map[string]work{"down": down, "up": up} {
		s.say("100 MB %s at 80 ms and 100 Mbit/s", name)
		var rates [2][]float64
		for i, t := range []target{direct, s.ways[0].target} {
			rate, err := t.transfer(ctx, w, 1)
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
		r.add("line_"+name+"_direct_mbps", median(rates[0]))
		r.add("line_"+name+"_sallyport_mbps", median(rates[1]))
		r.goal("100 MB "+name+" at 80 ms and 100 Mbit/s, MB/s, against one TCP transfer", median(rates[1])/median(rates[0]), 0.8, false)
	}
	kB, err := s.ways[0].peak()
	r.add("line_peak_kb", float64(kB))
	return err
}

// pairs measures the same load without and with something beside it, several times in turn, and gives the median of the
// ratios of their p99 and the medians of both.
func (s *stage) pairs(ctx context.Context, t target, callers int, span time.Duration, with, without func() (stop func())) (relative, p99without, p99with float64, err error) {
	count := 5
	if s.quick {
		count, span = 3, span/4
	}
	var ratios, plain, beside []float64
	for i := range count {
		s.say("pair %d of %d", i+1, count)
		var p99 [2]float64
		for j, begin := range []func() func(){without, with} {
			stop := func() {}
			if begin != nil {
				stop = begin()
			}
			got, err := t.load(ctx, callers, span, func() (time.Duration, error) { return 0, nil })
			stop()
			if err != nil {
				return 0, 0, 0, err
			}
			p99[j] = float64(got.p99.Microseconds())
		}
		plain, beside = append(plain, p99[0]), append(beside, p99[1])
		ratios = append(ratios, p99[1]/p99[0])
	}
	return median(ratios), median(plain), median(beside), nil
}

// stuckReader: 100 callers on a link, and one that has asked for 100 MB and never reads.
func stuckReader(ctx context.Context, o *options, progress io.Writer, r *faultReport) error {
	s, err := faultStage(ctx, o, progress, nil)
	if err != nil {
		return err
	}
	defer s.close()
	t := s.ways[0].target
	var dialErr error
	with := func() func() {
		c, err := t.dial(ctx)
		if err == nil {
			_, err = c.conn.Write(t.request(down))
		}
		if err != nil {
			dialErr = err
			return func() {}
		}
		return func() { _ = c.conn.Close() }
	}
	ratio, without, beside, err := s.pairs(ctx, t, 100, 2*time.Second, with, nil)
	if err = errors.Join(err, dialErr); err != nil {
		return err
	}
	r.add("stuck_p99_without_us", without)
	r.add("stuck_p99_with_us", beside)
	r.goal("p99 of 100 callers beside one that never reads, against without", ratio, 1.1, true)
	return nil
}

// besideBulk: small calls on a link with four endless transfers on it, against the same transfers through another agent of
// the same relay.
func besideBulk(ctx context.Context, o *options, progress io.Writer, r *faultReport) error {
	s, err := faultStage(ctx, o, progress, nil)
	if err != nil {
		return err
	}
	defer s.close()
	t := s.ways[0].target
	other, err := s.secondAgent(ctx, t)
	if err != nil {
		return err
	}
	ratio, without, beside, err := s.pairs(ctx, t, 16, 3*time.Second,
		func() func() { return s.bulkOn(ctx, t) }, func() func() { return s.bulkOn(ctx, other) })
	if err != nil {
		return err
	}
	r.add("bulk_p99_elsewhere_us", without)
	r.add("bulk_p99_same_link_us", beside)
	r.goal("p99 of small calls beside four transfers on their link, against on another link", ratio, 1.5, true)
	return nil
}

// bulkOn lets four callers fetch large bodies until it is stopped.
func (s *stage) bulkOn(ctx context.Context, t target) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- each(4, func(int) error {
			for ctx.Err() == nil {
				_, _ = t.transfer(ctx, down, 1) // cut off at the end
			}
			return nil
		})
	}()
	time.Sleep(300 * time.Millisecond) // until they flow
	return func() { cancel(); <-done }
}

// secondAgent joins another agent to a gateway of its own and gives its API.
func (s *stage) secondAgent(ctx context.Context, t target) (target, error) {
	relay, agent, err := s.binaries(ctx)
	if err != nil {
		return t, err
	}
	var added struct{ Join string }
	if err := s.admin(ctx, relay, &added, "gateway", "add", "plant2"); err != nil {
		return t, err
	}
	text, err := os.ReadFile(s.path("agent.yaml"))
	if err != nil {
		return t, err
	}
	second := strings.NewReplacer("gateway: plant1", "gateway: plant2", filepath.Join(s.dir, "agent"), filepath.Join(s.dir, "agent2")).
		Replace(string(text))
	config := s.path("agent2.yaml")
	if err := os.WriteFile(config, []byte(second), 0o600); err != nil {
		return t, err
	}
	if _, err := command(ctx, added.Join+"\n", agent, "join", "--config", config); err != nil {
		return t, err
	}
	p, err := start(s.dir, "sallyport-agent2", nil, agent, "run", "--config", config)
	if err != nil {
		return t, err
	}
	s.processes = append(s.processes, p)
	name := "plant2/orders"
	if err := s.admin(ctx, relay, nil, "connector", "publish", name, "--auth", "none"); err != nil {
		return t, err
	}
	t.prefix, t.header = "/"+name, ""
	return t, t.await(ctx, small)
}

// named gives the program of the stage that has this name.
func (s *stage) named(name string) (*process, error) {
	i := slices.IndexFunc(s.processes, func(p *process) bool { return p.name == name })
	if i < 0 {
		return nil, fmt.Errorf("%s does not run", name)
	}
	return s.processes[i], nil
}
