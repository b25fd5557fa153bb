package eventlog

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxQueue bounds what waits for the event log, in lines.
	maxQueue = 4096
	// lastTimeout bounds the writing of the rest when the program stops.
	lastTimeout = 5 * time.Second
	// warnEvery limits how often the log speaks of lines that were dropped.
	warnEvery = time.Minute
)

// A Line is an event that is worded already.
type Line struct {
	ID    uint32
	Level slog.Level
	Text  string
}

// A Forwarder writes lines to a Sink. Who sends never waits: lines that find the queue full are dropped and counted. It is
// safe for concurrent use.
type Forwarder struct {
	sink    Sink
	log     *slog.Logger
	queue   chan Line
	dropped atomic.Uint64

	said  uint64 // dropped lines that the log has been told of; used by Run alone, as cause is
	cause error  // why the last one was not taken
}

// NewForwarder makes one; Run writes. log is told of lines that were lost.
func NewForwarder(sink Sink, log *slog.Logger) *Forwarder {
	return &Forwarder{sink: sink, log: log, queue: make(chan Line, maxQueue)}
}

// Send queues a line and returns at once.
func (f *Forwarder) Send(l Line) {
	select {
	case f.queue <- l:
	default:
		f.dropped.Add(1)
	}
}

// Dropped is how many lines were lost since the start: the queue was full, or the event log did not take them.
func (f *Forwarder) Dropped() uint64 { return f.dropped.Load() }

// Run writes until ctx ends, then what is queued, as far as that goes quickly: an event log that hangs does not hold it up.
func (f *Forwarder) Run(ctx context.Context) {
	done := make(chan struct{})
	go func() { // ends when the queue is empty or lastTimeout is over; where the event log hangs, with the process
		defer close(done)
		f.serve(ctx)
		f.finish()
	}()
	<-ctx.Done()
	late := time.NewTimer(lastTimeout + time.Second)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	}
}

// serve writes until ctx ends.
func (f *Forwarder) serve(ctx context.Context) {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	for {
		select {
		case l := <-f.queue:
			f.write(l)
		case <-tick.C:
			f.tell()
		case <-ctx.Done():
			return
		}
	}
}

// finish writes what is queued, and counts what it has no time for.
func (f *Forwarder) finish() {
	for end := time.Now().Add(lastTimeout); len(f.queue) > 0; {
		l := <-f.queue
		if time.Now().After(end) {
			f.dropped.Add(1)
			continue
		}
		f.write(l)
	}
	f.tell()
}

func (f *Forwarder) write(l Line) {
	if err := write(f.sink, l); err != nil {
		f.dropped.Add(1)
		f.cause = err
	}
}

// tell has the log know of lines that were dropped since it was told last.
func (f *Forwarder) tell() {
	if n := f.Dropped(); n > f.said {
		f.log.Warn("lines of the record are not in the event log; they stay on record", "lines", n-f.said, "cause", f.cause)
		f.said, f.cause = n, nil
	}
}

// write gives an event to the event log, in a form that it takes.
func write(sink Sink, l Line) error {
	text := strings.ReplaceAll(l.Text[:min(len(l.Text), textLimit)], "\x00", "?")
	switch {
	case l.Level >= slog.LevelError:
		return sink.Error(l.ID, text)
	case l.Level >= slog.LevelWarn:
		return sink.Warning(l.ID, text)
	}
	return sink.Info(l.ID, text)
}
