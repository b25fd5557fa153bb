//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is what came of a run, in the form of --json.
type report struct {
	Date   string                        `json:"date"`
	Cores  int                           `json:"cores"`
	Go     string                        `json:"go"`
	TLS    bool                          `json:"tls"`
	Auth   bool                          `json:"auth"`
	Rounds int                           `json:"rounds"`
	Ways   map[string]map[string]float64 `json:"ways"`
	Ratios []ratio                       `json:"ratios"`

	order []string
}

// A ratio is a number that is as good on a slow machine as on a fast one, and what it should be.
type ratio struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Target  float64 `json:"target"`
	AtMost  bool    `json:"at_most"` // else at least
	Reached bool    `json:"reached"`
}

func newReport(o *options, rounds int, got map[string]samples, ratios []ratio) *report {
	r := &report{
		Date: time.Now().UTC().Format(time.RFC3339), Cores: runtime.NumCPU(), Go: runtime.Version(),
		TLS: o.tls, Auth: o.auth, Rounds: rounds,
		Ways: make(map[string]map[string]float64), Ratios: ratios,
	}
	for _, name := range append(allWays[:], "sallyport_ntlm", boundWay, eachWay) {
		values, ok := got[name]
		if !ok {
			continue
		}
		r.order = append(r.order, name)
		r.Ways[name] = make(map[string]float64)
		for metric, v := range values {
			r.Ways[name][metric] = round(median(v))
		}
	}
	return r
}

// round leaves what a measurement can tell.
func round(v float64) float64 { return math.Round(v*100) / 100 }

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// A goal is one line of the list of what is to be reached.
type goal struct {
	name    string
	way     string
	against string
	target  float64
	atMost  bool
	value   func(of samples, direct samples, round int) float64
}

func metric(name string) func(samples, samples, int) float64 {
	return func(of, _ samples, round int) float64 { return of.at(name, round) }
}

// added is the latency that a way adds to calling directly.
func added(of, direct samples, round int) float64 {
	return of.at("p50_1_us", round) - direct.at("p50_1_us", round)
}

func (s samples) at(name string, round int) float64 {
	if v := s[name]; round < len(v) {
		return v[round]
	}
	return math.NaN()
}

func goals() []goal {
	return []goal{
		{"CPU per small request, 64 callers, against one hop", "sallyport", "hop1", 1.0, true, metric("cpu_us")},
		{"requests/s, 64 callers, against HTTP/2 over WebSocket", "sallyport", "h2", 1.7, false, metric("rps_64")},
		{"requests/s, 64 callers, against yamux over WebSocket", "sallyport", "yamux", 1.7, false, metric("rps_64")},
		{"p99, 64 callers, against two hops", "sallyport", "hop2", 0.8, true, metric("p99_64_us")},
		{"added latency, 1 caller, against two hops", "sallyport", "hop2", 0.9, true, added},
		{"100 MB down, MB/s, against two hops", "sallyport", "hop2", 0.9, false, metric("down_mbps")},
		{"100 MB up, MB/s, against two hops", "sallyport", "hop2", 0.9, false, metric("up_mbps")},
		{"CPU per small request with NTLM, 64 callers, against without", "sallyport_ntlm", "sallyport", 1.1, true, metric("cpu_us")},
		{"CPU per small request with Kerberos for each connection, 64 callers, against without", boundWay, "sallyport", 1.1, true, metric("cpu_us")},
	}
}

// wayRatios gives the median of each round's ratio: what disturbs a round disturbs both of its sides.
func wayRatios(got map[string]samples, rounds int) []ratio {
	ratios := []ratio{}
	for _, g := range goals() {
		var each []float64
		for i := range rounds {
			v := g.value(got[g.way], got["direct"], i) / g.value(got[g.against], got["direct"], i)
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				each = append(each, v)
			}
		}
		if len(each) == 0 {
			continue
		}
		v := round(median(each))
		ratios = append(ratios, ratio{g.name, v, g.target, g.atMost, g.atMost && v <= g.target || !g.atMost && v >= g.target})
	}
	return ratios
}

// columns are what the table shows, besides what only a long run has.
var columns = [...]struct{ metric, title string }{
	{"rps_1", "req/s 1"},
	{"p50_1_us", "p50 1"},
	{"p99_1_us", "p99 1"},
	{"rps_64", "req/s 64"},
	{"p50_64_us", "p50 64"},
	{"p99_64_us", "p99 64"},
	{"cpu_us", "cpu/req"},
	{"rps_512", "req/s 512"},
	{"p50_512_us", "p50 512"},
	{"p99_512_us", "p99 512"},
	{"down_mbps", "down MB/s"},
	{"up_mbps", "up MB/s"},
	{"peak_kb", "peak kB"},
}

func (r *report) print(w io.Writer) error {
	side := "plain"
	if r.TLS {
		side = "TLS on both sides"
	}
	fmt.Fprintf(w, "%s, %d cores, %s, medians of %d rounds; times in microseconds; cpu/req: of all between, 64 callers\n\n",
		side, r.Cores, r.Go, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"way"}
	for _, c := range columns {
		if r.has(c.metric) {
			head = append(head, c.title)
		}
	}
	fmt.Fprintln(t, strings.Join(head, "\t")+"\t")
	for _, name := range r.order {
		line := []string{name}
		for _, c := range columns {
			if r.has(c.metric) {
				line = append(line, fmt.Sprintf("%.0f", r.Ways[name][c.metric]))
			}
		}
		fmt.Fprintln(t, strings.Join(line, "\t")+"\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return r.printRatios(w)
}

func (r *report) has(metric string) bool {
	for _, values := range r.Ways {
		if _, ok := values[metric]; ok {
			return true
		}
	}
	return false
}

func (r *report) printRatios(w io.Writer) error {
	if len(r.Ratios) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nSallyport against them, median of each round's ratio:")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, x := range r.Ratios {
		bound, verdict := ">=", "not reached"
		if x.AtMost {
			bound = "<="
		}
		if x.Reached {
			verdict = "reached"
		}
		fmt.Fprintf(t, "  %s\t%.2f\t%s %.2f\t%s\n", x.Name, x.Value, bound, x.Target, verdict)
	}
	return t.Flush()
}
