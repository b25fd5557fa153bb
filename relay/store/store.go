// Package store keeps everything durable of the relay in NATS JetStream, which runs inside the relay's own process
// with its files in one folder: configuration in buckets of keys and values, written synchronously, and the access log
// in a stream that is written behind a bounded queue, so that no call ever waits for a disk.
//
// It knows bytes, keys and revisions. What the records mean is the business of relay/gateway and relay/connector,
// which keep a Mirror of their bucket in memory, so that the path of a request never reads the store either.
//
//	st, err := store.Open(ctx, store.Config{Dir: "/var/lib/sallyport-relay/store", Log: log})
//	bucket, err := st.Bucket(ctx, "gateways")
//	revision, err := bucket.Create(ctx, "plant1", record)  // on disk when it returns
//	st.Append(event)                                       // never waits
//	err = st.Close(ctx)
//
// A store that has lost something is an error of Open (ErrDamaged), never a relay that starts empty.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of this package that callers branch on.
var (
	// ErrDamaged says that the folder held something that cannot be read any more.
	ErrDamaged = errors.New("the store is damaged")
	// ErrInUse says that another process has the folder open.
	ErrInUse = errors.New("the store is in use by another process")
	// ErrNotFound says that a key has no value.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a key to be created has a value already.
	ErrExists = errors.New("exists already")
	// ErrConflict says that a value was changed by somebody else since it was read.
	ErrConflict = errors.New("changed by somebody else in the meantime")
)

const (
	// startTimeout bounds the start of the embedded server, recovery of its files included: the access log may have
	// gigabytes to index after a crash.
	startTimeout = 2 * time.Minute
	// writeTimeout bounds one synchronous write, for a disk that no longer answers.
	writeTimeout = 15 * time.Second
)

// Config says where the store is and how much of the access log it keeps.
type Config struct {
	// Dir is the folder of the store; it is created with mode 0700.
	Dir string
	// Log takes the store's own events and the embedded server's.
	Log *slog.Logger
	// LogMaxBytes is how much of the access log is kept. Default: 1 GiB.
	LogMaxBytes int64
	// LogMaxAge is how long the access log is kept. Default: 30 days.
	LogMaxAge time.Duration
}

// A Store is an open store. It is safe for use by several goroutines.
type Store struct {
	log     *slog.Logger
	lock    *os.File
	server  *server.Server
	conn    *nats.Conn
	js      jetstream.JetStream
	witness *witness
	access  *accessLog

	closing sync.Once
	closed  error
}

// Open starts the embedded server on the folder, checks that everything is there that was ever acknowledged, and
// returns when the store can be used. Close must be called.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.LogMaxBytes == 0 {
		c.LogMaxBytes = 1 << 30
	}
	if c.LogMaxAge == 0 {
		c.LogMaxAge = 30 * 24 * time.Hour
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the store's folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(c.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", c.Dir, err)
	}
	s := &Store{log: c.Log, lock: lock}
	if err := s.start(ctx, c); err != nil {
		_ = s.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("open the store in %s: %w", c.Dir, err)
	}
	return s, nil
}

// start brings up the server, the connection, the buckets that were there before and the access log, in this order.
func (s *Store) start(ctx context.Context, c Config) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if s.witness, err = openWitness(c.Dir); err != nil {
		return err
	}
	if s.server, err = startServer(filepath.Join(c.Dir, "jetstream"), s.log); err != nil {
		return err
	}
	if s.conn, err = nats.Connect("", nats.InProcessServer(s.server), nats.Name("sallyport-relay"),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.NoCallbacksAfterClientClose()); err != nil {
		return fmt.Errorf("connect to the embedded server: %w", err)
	}
	if s.js, err = jetstream.New(s.conn, jetstream.WithDefaultTimeout(writeTimeout)); err != nil {
		return fmt.Errorf("use JetStream of the embedded server: %w", err)
	}
	if err := s.checkBuckets(ctx); err != nil {
		return err
	}
	s.access, err = openAccessLog(ctx, s.js, c.LogMaxBytes, c.LogMaxAge, s.log)
	return err
}

// Append hands one event of the access log to the store and returns at once. It reports false when the queue is full;
// the event is then dropped and counted. The store keeps event; the caller must not change it afterwards.
func (s *Store) Append(event []byte) bool { return s.access.append(event) }

// Dropped is how many events of the access log were lost since the start: the queue was full or the disk failed.
func (s *Store) Dropped() uint64 { return s.access.dropped.Load() }

// Close writes what is queued for the access log, as long as ctx allows, and stops the embedded server. It is to be
// called last, after everything that writes. Further calls return the result of the first.
func (s *Store) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closed = s.close(ctx) })
	return s.closed
}

func (s *Store) close(ctx context.Context) error {
	var errs []error
	if s.access != nil {
		errs = append(errs, s.access.close(ctx))
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.server != nil {
		errs = append(errs, stopServer(ctx, s.server))
	}
	errs = append(errs, s.lock.Close()) // closing releases the lock
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}
