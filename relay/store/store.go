// Package store keeps everything durable of the relay in NATS JetStream, which runs inside the relay's own process
// with its files in one folder: configuration in buckets of keys and values, written synchronously, the APIs'
// definitions as objects, the access log in a stream that is written behind a bounded queue, so that no call ever waits
// for a disk, and what admins did in another stream, written synchronously.
//
// It knows bytes, keys and revisions. What the records mean is the business of relay/gateway and relay/connector,
// which keep a Mirror of their bucket in memory, so that the path of a request never reads the store either.
//
//	st, err := store.Open(ctx, store.Config{Dir: "/var/lib/sallyport-relay/store", Log: log})
//	bucket, err := st.Bucket(ctx, "gateways")
//	revision, err := bucket.Create(ctx, "plant1", record)  // on disk when it returns
//	st.Append(event)                                       // never waits
//	err = st.Record(ctx, event)                            // on disk when it returns
//	err = st.Read(ctx, store.Calls, since, false, print)
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
	// serverDir is the embedded server's own folder inside the store's.
	serverDir = "jetstream"
	// startTimeout bounds the start of the embedded server, recovery of its files included: the access log may have
	// gigabytes to index after a crash.
	startTimeout = 2 * time.Minute
	// writeTimeout bounds one synchronous write, the wait for others of its bucket included, for a disk that no longer
	// answers.
	writeTimeout = 15 * time.Second
)

// Config says where the store is and how much of the access log it keeps.
type Config struct {
	// Dir is the folder of the store; it is created with mode 0700.
	Dir string
	// Log takes the store's own events and the embedded server's.
	Log *slog.Logger
	// Free tells how many bytes can still be written below a folder. Default: what the system says.
	Free func(dir string) (uint64, error)
	// LogMaxBytes is how much of the access log is kept. Default: 1 GiB.
	LogMaxBytes int64
	// LogMaxAge is how long the access log is kept. Default: 30 days.
	LogMaxAge time.Duration
	// ChangesMaxBytes and ChangesMaxAge are the same for what admins did. Default: 64 MiB, 400 days.
	ChangesMaxBytes int64
	ChangesMaxAge   time.Duration
}

// A Store is an open store. It is safe for use by several goroutines.
type Store struct {
	dir     string
	log     *slog.Logger
	free    func(dir string) (uint64, error)
	said    *serverLog
	lock    *os.File
	conn    *nats.Conn
	js      jetstream.JetStream
	witness *witness
	access  *accessLog
	// definitions are the APIs' descriptions, as the agents shipped them.
	definitions *Definitions

	mu        sync.Mutex // guards what follows
	server    *server.Server
	failed    error         // the write that failed since the server was started
	restarted chan struct{} // closed when the server is started again

	look   chan struct{} // capacity 1: the keeper should look
	stop   context.CancelFunc
	kept   chan struct{} // closed when the keeper and the witness have ended; nil until they run
	closed error

	closing sync.Once
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
	if c.ChangesMaxBytes == 0 {
		c.ChangesMaxBytes = 64 << 20
	}
	if c.ChangesMaxAge == 0 {
		c.ChangesMaxAge = 400 * 24 * time.Hour
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the store's folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(c.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", c.Dir, err)
	}
	if c.Free == nil {
		c.Free = freeSpace
	}
	s := &Store{
		dir: c.Dir, log: c.Log, free: c.Free, lock: lock,
		said:      &serverLog{log: c.Log.With("component", "store")},
		restarted: make(chan struct{}), look: make(chan struct{}, 1),
	}
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
	if s.witness, err = openWitness(c.Dir, s.log); err != nil {
		return err
	}
	if s.server, err = startServer(filepath.Join(c.Dir, serverDir), s.said); err != nil {
		return err
	}
	if s.conn, err = nats.Connect("", nats.InProcessServer(inProcess(s.inProcessConn)), nats.Name("sallyport-relay"),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.NoCallbacksAfterClientClose()); err != nil {
		return fmt.Errorf("connect to the embedded server: %w", err)
	}
	if s.js, err = jetstream.New(s.conn, jetstream.WithDefaultTimeout(writeTimeout)); err != nil {
		return fmt.Errorf("use JetStream of the embedded server: %w", err)
	}
	if err := s.checkBuckets(ctx); err != nil {
		return err
	}
	if s.definitions, err = openDefinitions(ctx, s.js); err != nil {
		return err
	}
	if err := s.openChanges(ctx, c.ChangesMaxBytes, c.ChangesMaxAge); err != nil {
		return err
	}
	if s.access, err = openAccessLog(ctx, s, c.LogMaxBytes, c.LogMaxAge); err != nil {
		return err
	}
	s.startKeeping()
	return nil
}

// startKeeping runs the keeper and the witness until close stops them.
func (s *Store) startKeeping() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.kept = stop, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.keep(ctx) })
	wg.Go(func() { s.witness.run(ctx) })
	go func() { // close waits for it
		wg.Wait()
		close(s.kept)
	}()
}

// Append hands one event of the access log, a line with its line feed, to the store and returns at once. It reports false when
// the queue is full; the event is then dropped and counted. The line is copied.
func (s *Store) Append(line []byte) bool { return s.access.append(line) }

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
	if s.kept != nil {
		s.stop()
		select {
		case <-s.kept:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("wait for the disk: %w", context.Cause(ctx)))
		}
	}
	if s.conn != nil {
		s.conn.Close()
	}
	s.mu.Lock()
	srv := s.server
	s.mu.Unlock()
	if srv != nil {
		errs = append(errs, stopServer(ctx, srv))
	}
	errs = append(errs, s.lock.Close()) // closing releases the lock
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}
