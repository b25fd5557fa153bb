// Package syslog forwards events to a collector: RFC 5424 messages over TLS with octet counting (RFC 5425). The relay sends its
// logs with it, the agent its record. It listens nowhere and knows nothing of what the messages say.
//
// Who sends never waits: messages gather in a bounded queue, and those that find it full are dropped and counted. A connection
// that breaks is made again. Syslog knows no acknowledgements: what the network held when a connection broke may be lost, and
// what was being written is sent again, so that a collector can see a message twice.
//
//	f := syslog.New(syslog.Config{App: "sallyport-relay", To: "siem.example.com:6514", TLS: t, Log: log})
//	go f.Run(ctx)
//	f.Send(syslog.Calls(), line)
package syslog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxQueue bounds what waits for the collector, in bytes.
	maxQueue = 8 << 20
	// maxBatch is how much is written at once: at most so much is sent twice.
	maxBatch = 64 << 10
	// dialTimeout bounds connection and TLS handshake; writeTimeout how long a collector may take nothing.
	dialTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	// lastTimeout bounds the sending of the rest when the program stops.
	lastTimeout = 5 * time.Second
	// firstPause and lastPause are between attempts to connect; each is twice the one before, with jitter.
	firstPause = time.Second
	lastPause  = time.Minute
	// warnEvery limits how often the log speaks of dropped messages.
	warnEvery = time.Minute
)

// A Kind of message is its priority (RFC 5424 section 6.2.1) and its MSGID.
type Kind struct {
	priority int
	id       string
}

// Calls are messages about calls: local0, informational. Changes are about what admins did: log audit, notice.
func Calls() Kind   { return Kind{16*8 + 6, "access"} }
func Changes() Kind { return Kind{13*8 + 5, "admin"} }

// Record are the lines of an agent's record of calls: log audit, informational.
func Record() Kind { return Kind{13*8 + 6, "audit"} }

// TLS makes the configuration for a collector: files in PEM with the authorities that may have signed its certificate (empty:
// the system's), and with this program's own certificate and key, if it asks for one.
func TLS(ca, cert, key string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("syslog.ca: %w", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("syslog.ca: the file " + ca + " holds no certificate")
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("syslog.cert: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// Config of a Forwarder.
type Config struct {
	// App is the APP-NAME of messages: which program sends them.
	App string
	// To is the collector, host:port.
	To string
	// TLS verifies the collector; its ServerName is set from To if it is empty. Required.
	TLS *tls.Config
	// Host is the HOSTNAME of messages. Default: the machine's.
	Host string
	Log  *slog.Logger
}

// A Forwarder sends messages to one collector. It is safe for concurrent use.
type Forwarder struct {
	c    Config
	tail string // of the header, behind the timestamp: HOSTNAME, APP-NAME and PROCID
	wake chan struct{}

	connected atomic.Bool
	dropped   atomic.Uint64

	mu     sync.Mutex
	queue  [][]byte // guarded by mu: framed messages
	queued int      // guarded by mu: their bytes
}

// Status of a Forwarder at this moment.
type Status struct {
	To        string `json:"to"`
	Connected bool   `json:"connected"`
	// Queued is how many bytes wait; Dropped how many messages were lost since the start because the queue was full.
	Queued  int    `json:"queued"`
	Dropped uint64 `json:"dropped"`
}

// New makes a Forwarder; Run connects it.
func New(c Config) *Forwarder {
	if c.Host == "" {
		c.Host, _ = os.Hostname()
	}
	tail := fmt.Sprintf(" %s %s %d ", printable(c.Host), c.App, os.Getpid())
	return &Forwarder{c: c, tail: tail, wake: make(chan struct{}, 1)}
}

// printable makes a HOSTNAME: printable ASCII without spaces, at most 255 bytes (RFC 5424 section 6).
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), 255)]
}

// Send queues a message and returns at once. It reports false when the queue is full; the message is then dropped and counted.
// text is copied.
func (f *Forwarder) Send(k Kind, text []byte) bool {
	m := f.frame(k, time.Now(), text)
	f.mu.Lock()
	full := f.queued+len(m) > maxQueue
	if !full {
		f.queue = append(f.queue, m)
		f.queued += len(m)
	}
	f.mu.Unlock()
	if full {
		f.dropped.Add(1)
		return false
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return true
}

// frame is the message with its length before it (RFC 5425 section 4.3).
func (f *Forwarder) frame(k Kind, now time.Time, text []byte) []byte {
	head := make([]byte, 0, 64+len(f.tail))
	head = append(head, '<')
	head = strconv.AppendInt(head, int64(k.priority), 10)
	head = append(head, ">1 "...)
	head = now.UTC().AppendFormat(head, "2006-01-02T15:04:05.000000Z")
	head = append(head, f.tail...)
	head = append(head, k.id...)
	head = append(head, " - "...)
	m := make([]byte, 0, 8+len(head)+len(text))
	m = strconv.AppendInt(m, int64(len(head)+len(text)), 10)
	m = append(m, ' ')
	return append(append(m, head...), text...)
}

// Status tells how it goes.
func (f *Forwarder) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Status{To: f.c.To, Connected: f.connected.Load(), Queued: f.queued, Dropped: f.dropped.Load()}
}

// Run keeps a connection to the collector until ctx ends, then sends what is queued, as far as that goes quickly.
func (f *Forwarder) Run(ctx context.Context) error {
	wait, failing := firstPause, false
	for ctx.Err() == nil {
		began := time.Now()
		err := f.session(ctx)
		f.connected.Store(false)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > lastPause { // it had worked
			wait, failing = firstPause, false
		}
		level := slog.LevelDebug
		if !failing {
			level = slog.LevelWarn
		}
		failing = true
		f.c.Log.Log(ctx, level, "the syslog collector cannot be reached; messages wait in memory", "to", f.c.To, "cause", err)
		pause := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, lastPause)
	}
	if left := f.Status(); left.Queued > 0 {
		f.c.Log.Warn("messages were not sent to the syslog collector before the program stopped", "to", f.c.To, "bytes", left.Queued)
	}
	return nil
}

// session connects and sends until the connection breaks or ctx ends.
func (f *Forwarder) session(ctx context.Context) error {
	conn, err := f.dial(ctx)
	if err != nil {
		return err
	}
	f.connected.Store(true)
	f.c.Log.Info("connected to the syslog collector", "to", f.c.To)
	// A collector says nothing; what can be read is that it has gone.
	gone := make(chan error, 1)
	go func() { // ends with the connection, which is closed below, and is waited for
		_, err := io.Copy(io.Discard, conn)
		if err == nil {
			err = errors.New("the collector closed the connection")
		}
		gone <- err
	}()
	left, err := f.serve(ctx, conn, gone)
	_ = conn.Close()
	if left {
		<-gone
	}
	return err
}

// serve sends until the connection breaks or ctx ends; left says that the end of the connection was not taken from gone.
func (f *Forwarder) serve(ctx context.Context, conn net.Conn, gone <-chan error) (left bool, err error) {
	var warned uint64
	warn := time.NewTicker(warnEvery)
	defer warn.Stop()
	// A collector that takes nothing must not hold up the end of the program.
	defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now().Add(lastTimeout)) })()
	for {
		select {
		case <-f.wake:
			for ctx.Err() == nil {
				more, err := f.send(conn, time.Now().Add(writeTimeout))
				if err != nil {
					return true, err
				}
				if !more {
					break
				}
			}
		case <-warn.C:
			if n := f.dropped.Load(); n > warned {
				f.c.Log.Warn("messages to the syslog collector were dropped: it takes them too slowly", "to", f.c.To, "dropped", n)
				warned = n
			}
		case err := <-gone:
			return false, err
		case <-ctx.Done():
			last := time.Now().Add(lastTimeout)
			for more := true; more && err == nil; {
				more, err = f.send(conn, last)
			}
			return true, err
		}
	}
}

func (f *Forwarder) dial(ctx context.Context) (net.Conn, error) {
	within, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: f.c.TLS}).DialContext(within, "tcp", f.c.To)
	if err != nil {
		return nil, fmt.Errorf("connect to the syslog collector %s: %w", f.c.To, err)
	}
	f.signal() // for what gathered meanwhile
	return conn, nil
}

func (f *Forwarder) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// send writes the first batch of what is queued, and says whether there may be more. What could not be written stays at the
// head of the queue.
func (f *Forwarder) send(conn net.Conn, deadline time.Time) (more bool, err error) {
	batch, n, size := f.peek()
	if n == 0 {
		return false, nil
	}
	_ = conn.SetWriteDeadline(deadline)
	if _, err := conn.Write(batch); err != nil {
		return false, fmt.Errorf("send to the syslog collector %s: %w", f.c.To, err)
	}
	f.drop(n, size)
	return true, nil
}

// peek gives the first messages as one piece; drop takes them off the queue when they have been sent.
func (f *Forwarder) peek() (batch []byte, n, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.queue {
		if n > 0 && len(batch)+len(m) > maxBatch {
			break
		}
		batch = append(batch, m...)
		n++
	}
	return batch, n, len(batch)
}

func (f *Forwarder) drop(n, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.queue[:n])
	if f.queue = f.queue[n:]; len(f.queue) == 0 {
		f.queue = nil
	}
	f.queued -= size
}
