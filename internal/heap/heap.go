// Package heap lets a long-running program's garbage gather as long as suits what it does: Go's default, as much garbage as
// there is in use, is much memory where thousands of links are idle, and many collections where little is in use and calls are
// many.
//
// It changes the collector's percentage, which is the process's, and nothing else, and not even that where the environment names
// one.
//
//	defer heap.Keep(32<<20, getenv("GOGC"))()
package heap

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// every is how often the percentage is looked at.
const every = time.Second

// Keep adapts the percentage until the function that it returns is called, which puts the default back. least is the garbage that
// may gather in any case, in bytes; named is the environment's GOGC: if it is not empty, Keep does nothing.
func Keep(least uint64, named string) (end func()) {
	if named != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { pacing(ctx, least) })
	return func() {
		cancel()
		running.Wait()
	}
}

func pacing(ctx context.Context, least uint64) {
	defer debug.SetGCPercent(100)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var p pace
	for {
		live, made := read()
		if percent, changed := p.next(live, made, least); changed {
			debug.SetGCPercent(percent)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// read gives the bytes that were in use after the last collection, and those that were ever made.
func read() (live, made uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64()
}

// A pace is what is known from the last look.
type pace struct {
	made    uint64 // bytes ever made
	percent int    // in force; 0: the default
}

// next gives the percentage for what is in use and for what was made since the last look: about a second's garbage may gather,
// but a quarter of what is in use at least, and no more than all of that. changed says that it is worth setting.
func (p *pace) next(live, made, least uint64) (percent int, changed bool) {
	second := made - p.made
	first := p.made == 0
	p.made = made
	if live == 0 || first {
		return 0, false
	}
	room := max(least, min(max(second, live/4), live))
	percent = int(min(room*100/live, 10_000))
	if d := percent - p.percent; p.percent != 0 && d*8 < p.percent && -d*8 < p.percent {
		return 0, false
	}
	p.percent = percent
	return percent, true
}
