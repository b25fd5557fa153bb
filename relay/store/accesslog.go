package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// logQueue is how many events may wait for the disk: about a second of a busy relay.
	logQueue = 16384
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
	queue   chan []byte
	dropped atomic.Uint64

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
		store: st, queue: make(chan []byte, logQueue),
		stop: stop, halt: halt, done: make(chan struct{}),
	}
	go l.run(stopCtx, haltCtx) // close waits for it
	return l, nil
}

func (l *accessLog) append(event []byte) bool {
	if len(event) > maxEvent {
		l.dropped.Add(1)
		return false
	}
	select {
	case l.queue <- event:
		return true
	default:
		l.dropped.Add(1)
		return false
	}
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

// run takes batches off the queue until stop ends and the queue is empty, or halt ends.
func (l *accessLog) run(stop, halt context.Context) {
	defer close(l.done)
	var warned time.Time
	for halt.Err() == nil {
		batch, events := l.next(stop)
		if events == 0 {
			return
		}
		if err := l.write(halt, batch); err != nil {
			l.dropped.Add(uint64(events))
			if time.Since(warned) > logWarnEvery {
				warned = time.Now()
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

// next waits for an event and takes what arrives shortly after it. After stop it takes what is there; nothing left is
// zero events.
func (l *accessLog) next(stop context.Context) (batch []byte, events int) {
	select {
	case event := <-l.queue:
		batch, events = appendLine(batch, event), 1
	case <-stop.Done():
	}
	delay := time.NewTimer(logDelay)
	defer delay.Stop()
	for len(batch) < maxBatch-maxEvent {
		select {
		case event := <-l.queue:
			batch, events = appendLine(batch, event), events+1
			continue
		default:
		}
		if stop.Err() != nil {
			return batch, events
		}
		select {
		case event := <-l.queue:
			batch, events = appendLine(batch, event), events+1
		case <-delay.C:
			return batch, events
		case <-stop.Done():
		}
	}
	return batch, events
}

func appendLine(batch, event []byte) []byte { return append(append(batch, event...), '\n') }
