package store

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sallyport/internal/backlog"
)

const (
	// logQueue bounds the events that wait for the disk, in bytes: about a second of a busy relay.
	logQueue = 8 << 20
	// maxEvent bounds one event; the longest are those with a long request target.
	maxEvent = 32 << 10
	// maxBatch bounds one message of the stream.
	maxBatch = 256 << 10
	// logDelay is how long an event waits for others to share its message.
	logDelay = 50 * time.Millisecond
	// logWarnEvery limits how often the log speaks of dropped events.
	logWarnEvery = time.Minute
)

// An accessLog writes events to a stream. Each message of the stream holds some events, one a line, because the cost
// is by the message. The stream persists asynchronously: the events of the last seconds before a power failure are
// lost, those before a crash of the process are not.
type accessLog struct {
	store   *Store
	queue   *backlog.Backlog[byte] // whole lines
	dropped atomic.Uint64
	warned  time.Time // run's own: when the log last spoke of dropped events

	stop context.CancelFunc // asks run to write what is queued and return
	halt context.CancelFunc // makes run give up its present write
	done chan struct{}
}

func openAccessLog(ctx context.Context, st *Store, maxBytes int64, maxAge time.Duration) (*accessLog, error) {
	_, err := st.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        string(Calls),
		Subjects:    []string{Calls.subject()},
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxBytes:    maxBytes,
		MaxAge:      maxAge,
		PersistMode: jetstream.AsyncPersistMode,
	})
	if err != nil {
		return nil, fmt.Errorf("open the access log: %w", err)
	}
	stopCtx, stop := context.WithCancel(context.Background())
	haltCtx, halt := context.WithCancel(context.Background())
	l := &accessLog{
		store: st, queue: backlog.New[byte](logQueue),
		stop: stop, halt: halt, done: make(chan struct{}),
	}
	go l.run(stopCtx, haltCtx) // close waits for it
	return l, nil
}

// append queues a line.
func (l *accessLog) append(line []byte) bool {
	if len(line) > maxEvent || !l.queue.Add(line...) {
		l.dropped.Add(1)
		return false
	}
	return true
}

// close writes what is queued, as long as ctx allows.
func (l *accessLog) close(ctx context.Context) error {
	defer l.halt()
	l.stop()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		l.halt()
		<-l.done
		return fmt.Errorf("write the rest of the access log: %w", context.Cause(ctx))
	}
}

// run writes what is queued until stop ends and nothing is left, or halt ends.
func (l *accessLog) run(stop, halt context.Context) {
	defer close(l.done)
	var lines []byte
	for stopping := false; !stopping; {
		select {
		case <-l.queue.Waiting():
			l.queue.Gather(logDelay, stop.Done())
		case <-stop.Done():
		}
		stopping = stop.Err() != nil
		lines = l.queue.Take(lines)
		l.writeAll(halt, lines)
		if cap(lines) > logQueue/4 {
			lines = nil // a burst is over; its memory goes back
		}
	}
}

// writeAll writes lines in messages of a bounded size. Those that could not be written are counted.
func (l *accessLog) writeAll(ctx context.Context, lines []byte) {
	for len(lines) > 0 {
		batch := lines
		if len(batch) > maxBatch {
			batch = batch[:bytes.LastIndexByte(batch[:maxBatch], '\n')+1]
		}
		lines = lines[len(batch):]
		if err := l.write(ctx, batch); err != nil {
			l.dropped.Add(uint64(bytes.Count(batch, []byte{'\n'})))
			if time.Since(l.warned) > logWarnEvery {
				l.warned = time.Now()
				l.store.log.Error("events of the access log were lost", "dropped", l.dropped.Load(), "error", err)
			}
		}
	}
}

func (l *accessLog) write(ctx context.Context, batch []byte) error {
	if err := l.store.failure(); err != nil {
		return err
	}
	if err := l.store.room(logReserve); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := l.store.js.Publish(within, Calls.subject(), batch)
	if err != nil && ctx.Err() == nil {
		err = l.store.report(err)
	}
	return err
}
