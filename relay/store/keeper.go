package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrFailed says that the store takes no changes now because a write has failed. It mends itself once there is room.
var ErrFailed = errors.New("the store cannot write")

const (
	// lookEvery is how often the keeper looks at the disk.
	lookEvery = 5 * time.Second
	// mendEvery is the least time between two attempts to open the embedded server anew.
	mendEvery = 30 * time.Second
	// mendTimeout bounds the end of the embedded server before it is started again.
	mendTimeout = time.Minute
	// mendTries is how often the buckets are checked before an attempt is given up.
	mendTries = 4
)

// Trouble says why the store takes no changes at this moment, with ErrNoSpace or ErrFailed; nil if it does. What is in
// memory goes on being served.
func (s *Store) Trouble() error {
	if err := s.failure(); err != nil {
		return err
	}
	return s.room(reserve)
}

// failure is the write that failed since the embedded server was started, if one did.
func (s *Store) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w; the relay opens it anew as soon as there is room, watch its log", ErrFailed, s.failed)
}

// report takes down that a write has failed, if that is the store's fault and not the writer's, and gives the error with
// what is known of the cause.
func (s *Store) report(err error) error {
	if !storesFault(err) {
		return err
	}
	err = s.explain(err)
	s.mu.Lock()
	first := s.failed == nil
	if first {
		s.failed = err
	}
	s.mu.Unlock()
	if !first {
		return err
	}
	s.log.Error("the store cannot write", "dir", s.dir, "cause", err)
	select {
	case s.look <- struct{}{}:
	default:
	}
	return err
}

// explain adds the cause to a write that was not answered: the embedded server, when its disk fails, logs an error and
// leaves the writer waiting.
func (s *Store) explain(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	said := ""
	if last := s.said.last(); last != "" {
		said = "; its last error: " + last
	}
	err = fmt.Errorf("the embedded server did not take it within %s%s: %w", writeTimeout, said, err)
	if full := s.room(reserve); full != nil {
		return fmt.Errorf("%w: %w", full, err)
	}
	return err
}

// storesFault tells a server that cannot write from a request that is wrong.
func storesFault(err error) bool {
	if api, ok := errors.AsType[jetstream.JetStreamError](err); ok && api.APIError() != nil {
		return api.APIError().Code >= 500
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// keep looks after the store until ctx ends: it tells the log when the disk is full and when it no longer is, and mends a
// store that has failed.
func (s *Store) keep(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var full error
	var mended time.Time
	for {
		select {
		case <-tick.C:
		case <-s.look:
		case <-ctx.Done():
			return
		}
		before := full
		full = s.room(reserve)
		switch {
		case full != nil && before == nil:
			s.log.Error("the store takes no changes", "cause", full)
		case full == nil && before != nil:
			s.log.Info("the store has room again", "dir", s.dir)
		}
		if s.failure() != nil && full == nil && time.Since(mended) > mendEvery {
			mended = time.Now()
			s.mend(ctx)
		}
	}
}

// mend starts the embedded server again on the same files: after a failed write it takes no more, whatever room there is.
// Everything that was acknowledged must be there again.
func (s *Store) mend(ctx context.Context) {
	s.log.Warn("opening the store anew after a failed write", "dir", s.dir)
	err := s.restart(ctx)
	if err != nil {
		s.log.Error("the store could not be opened anew; if this goes on, restart the relay", "dir", s.dir, "cause", err)
		return
	}
	s.mu.Lock()
	s.failed = nil
	close(s.restarted)
	s.restarted = make(chan struct{})
	s.mu.Unlock()
	s.log.Info("the store works again", "dir", s.dir)
}

func (s *Store) restart(ctx context.Context) error {
	s.mu.Lock()
	old := s.server
	s.server = nil
	s.mu.Unlock()
	if old != nil {
		within, cancel := context.WithTimeout(ctx, mendTimeout)
		defer cancel()
		if err := stopServer(within, old); err != nil {
			return err
		}
	}
	srv, err := startServer(filepath.Join(s.dir, serverDir), s.said)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.server = srv
	s.mu.Unlock()
	// What was sent while the connection changed sides may never be answered, so each step is short and tried again.
	for range mendTries {
		if err = s.recheck(ctx); err == nil || ctx.Err() != nil || errors.Is(err, ErrDamaged) {
			break
		}
	}
	return err
}

// recheck compares the buckets with the witness as soon as the connection is with the new server.
func (s *Store) recheck(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := s.conn.FlushWithContext(within); err != nil {
		return fmt.Errorf("connect to the embedded server again: %w", err)
	}
	return s.checkBuckets(within)
}

// inProcessConn connects to the embedded server that runs now. It is for nats.InProcessServer, which calls it again for
// each reconnection.
func (s *Store) inProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil, errors.New("the embedded server is being started")
	}
	return s.server.InProcessConn()
}

// inProcess is a function as a nats.InProcessConnProvider.
type inProcess func() (net.Conn, error)

func (f inProcess) InProcessConn() (net.Conn, error) { return f() }

// anew is closed when the embedded server is started again: watches end with the server that they were made on.
func (s *Store) anew() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarted
}
