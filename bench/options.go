//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// allWays is every way, in the order of the table.
var allWays = [...]string{"direct", "hop1", "hop2", "h2", "yamux", "sallyport"}

// mostCallers is what the agent's allow-list admits at once (apiYAML).
const mostCallers = 1024

// Options are the command line.
type options struct {
	json, quick, tls, auth, kerberos bool

	faults []string      // which rows under faults to measure instead of the ways
	fleet  int           // gateways of the row fleet, 512 links each
	soak   time.Duration // how long to call instead of measuring; 0: not

	bin  string   // where sallyport-relay and sallyport-agent lie; empty: they are built
	ways []string // which to measure

	rounds int
	spans  map[int]time.Duration // callers at once -> how long they are measured, in each round
	bulk   int                   // bodies each way, in each round; 0 leaves them out
	budget time.Duration         // no round is begun that would not end within it; 0 is no end
	pause  time.Duration         // before the first measurement, for somebody who attaches a profiler
}

func parseOptions(args []string, errors io.Writer) (*options, error) {
	o := &options{}
	var ways, callers, faults string
	var span time.Duration
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errors)
	f.BoolVar(&o.json, "json", false, "print one JSON object instead of a table")
	f.BoolVar(&o.quick, "quick", false, "end within a minute: fewer and shorter rounds, and not with 512 callers")
	f.BoolVar(&o.tls, "tls", false, "TLS on both sides: callers' connections, and the link or the leg between two hops")
	f.BoolVar(&o.auth, "auth", false, "Sallyport alone: an API that demands NTLM against the same without authentication")
	f.BoolVar(&o.kerberos, "kerberos", false, "Sallyport alone, in the Active Directory lab: APIs that demand Kerberos for each connection and for each request")
	f.StringVar(&o.bin, "bin", "", "the `directory` of sallyport-relay and sallyport-agent (default: build those of this tree)")
	f.StringVar(&ways, "ways", strings.Join(allWays[:], ","), "which ways to measure")
	f.IntVar(&o.rounds, "rounds", 0, "how many rounds (default 7, with --quick 3)")
	f.StringVar(&callers, "callers", "", "how many callers at once (default 1,64,512, with --quick 1,64)")
	f.DurationVar(&span, "span", 0, "how long each number of callers is measured in a round (default 1s to 2s)")
	f.IntVar(&o.bulk, "bulk", -1, "how many bodies of 100 MB each way in a round (default 2, with --quick 1)")
	f.DurationVar(&o.pause, "pause", 0, "wait before the first round, with the processes' numbers shown, to attach a profiler")
	f.StringVar(&faults, "faults", "", "measure Sallyport under faults and mass instead: all, or some `rows` of "+strings.Join(allFaults[:], ","))
	f.IntVar(&o.fleet, "gateways", 0, "how many gateways the row fleet has, with 512 links each (default 20, with --quick 1)")
	f.DurationVar(&o.soak, "soak", 0, "call for so long instead, and look whether memory and goroutines end where they began")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q; --help shows what there is", f.Arg(0))
	}
	if err := o.choose(faults); err != nil {
		return nil, err
	}
	o.ways = strings.Split(ways, ",")
	for _, w := range o.ways {
		if !slices.Contains(allWays[:], w) {
			return nil, fmt.Errorf("there is no way %q; there are %s", w, strings.Join(allWays[:], ", "))
		}
	}
	o.plan()
	return o, o.replan(callers, span)
}

// choose takes the rows under faults.
func (o *options) choose(rows string) error {
	if rows == "" {
		return nil
	}
	if o.faults = strings.Split(rows, ","); rows == "all" {
		o.faults = allFaults[:]
	}
	for _, row := range o.faults {
		if !slices.Contains(allFaults[:], row) {
			return fmt.Errorf("there is no row %q; there are %s", row, strings.Join(allFaults[:], ", "))
		}
	}
	return nil
}

// plan says how long what is measured. Rounds are short and many: what else the machine does then hits all ways alike.
func (o *options) plan() {
	rounds, bulk := 7, 2
	o.spans = map[int]time.Duration{1: time.Second, 64: 2 * time.Second, 512: 2 * time.Second}
	if o.quick {
		// On a busy machine even the short rounds would take longer than a minute, so there are fewer.
		rounds, bulk, o.budget = 3, 1, 50*time.Second
		o.spans = map[int]time.Duration{1: 500 * time.Millisecond, 64: 1200 * time.Millisecond}
	}
	if o.auth || o.kerberos {
		bulk = 0
	}
	if o.kerberos {
		delete(o.spans, 512) // more than the lab's Apache takes at once
	}
	if o.rounds <= 0 {
		o.rounds = rounds
	}
	if o.bulk < 0 {
		o.bulk = bulk
	}
}

// replan is for who looks at one thing, with a profiler as a rule.
func (o *options) replan(callers string, span time.Duration) error {
	if callers != "" {
		o.spans = make(map[int]time.Duration)
		for _, text := range strings.Split(callers, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > mostCallers {
				return fmt.Errorf("--callers %s: %q is not a number from 1 to %d", callers, text, mostCallers)
			}
			o.spans[n] = 2 * time.Second
		}
	}
	if span > 0 {
		for n := range o.spans {
			o.spans[n] = span
		}
	}
	return nil
}
