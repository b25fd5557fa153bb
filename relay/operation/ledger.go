// Package operation is the record of calls that outlive their callers: those that were answered 202 because they take
// long, and those whose repeats have to be known. It holds for each how far it has come and, encrypted, its answer; it
// makes the tokens under which they are found again, and the signed ones of webhook subscriptions.
//
// It makes no call and speaks no HTTP: relay/connector does both. It is no cache either: an answer is given for the token
// of its own call alone.
//
//	l, err := operation.Open(ctx, operation.Config{Objects: objects, Secret: secret})
//	run, err := l.Begin(ctx, connectorID, l.NewToken(), operation.Record{Request: id})  // on disk
//	run.Answer(200, header); run.Write(body); run.Keep(ctx)
//	found, err := l.Find(ctx, connectorID, token)                                       // after a restart too
//
// A record that says "running" and belongs to no Run of this process is of a call that a crash has cut off: Lost.
package operation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"sallyport/relay/store"
)

// Errors that callers branch on.
var (
	// ErrNotFound says that no record has this token, or none any more.
	ErrNotFound = errors.New("no such operation")
	// ErrKnown says that the token has a record already.
	ErrKnown = errors.New("the operation is known already")
	// ErrBusy says that a bound is reached.
	ErrBusy = errors.New("as many operations as there may be")
	// ErrTooLarge says that an answer is larger than what is kept.
	ErrTooLarge = errors.New("the answer is larger than what is kept")
	// ErrCancelled is the cause with which a call is cancelled on demand.
	ErrCancelled = errors.New("the operation was cancelled")
)

// MaxLimit bounds how long a deferred call may run. The store keeps a record longer than that, so that the record of a
// running call is there as long as the call.
const MaxLimit = 12 * time.Hour

// Objects is where records are kept; store.Objects is.
type Objects interface {
	Put(ctx context.Context, name string, r io.Reader) (int64, error)
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	Delete(ctx context.Context, name string) error
	List(ctx context.Context) ([]store.Object, error)
}

// Config of a Ledger. Zero numbers mean the default.
type Config struct {
	// Objects is required, and so is Secret: 32 bytes that are not in the store.
	Objects Objects
	Secret  []byte
	// Log takes what the store refuses; nil discards it.
	Log *slog.Logger
	// Keep is how long a finished record is kept. Default 24 h.
	Keep time.Duration
	// Answer is the largest answer that is kept, in bytes of its body. Default 32 MB.
	Answer int64
	// Share is how many bytes the answers of one connector may take together. Default 256 MB.
	Share int64
	// Running is how many deferred calls of one connector may be under way, Kept how many records of each kind it may
	// have. Default 64 and 10,000.
	Running, Kept int
}

// A State is how far a call has come.
type State string

// The states of a Record.
const (
	Running  State = "running"
	Answered State = "answered" // the answer is kept
	Unkept   State = "unkept"   // it was answered, but the answer is too large or could not be written
	Lost     State = "lost"     // it was running when the relay ended
)

// A Record is what is kept of a call, beside its answer's body.
type Record struct {
	State State `json:"state"`
	// Request is the call's request ID.
	Request string    `json:"request"`
	Started time.Time `json:"started"`
	// Body is the hash of the request's body, to tell a repeat from another request.
	Body []byte `json:"body,omitempty"`
	// Again says that nothing was done: a repeat may run.
	Again  bool        `json:"again,omitempty"`
	Status int         `json:"status,omitempty"`
	Header http.Header `json:"header,omitempty"`
}

// A Ledger holds the records. It is safe for concurrent use.
type Ledger struct {
	c Config

	mu      sync.Mutex
	shelves map[string]*shelf // guarded by mu: by connector
}

// Open reads which records there are.
func Open(ctx context.Context, c Config) (*Ledger, error) {
	if len(c.Secret) < 32 {
		return nil, errors.New("open the operations: the secret is too short")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.Keep, 24*time.Hour)
	setDefault(&c.Answer, 32_000_000)
	setDefault(&c.Share, 256_000_000)
	setDefault(&c.Running, 64)
	setDefault(&c.Kept, 10_000)
	l := &Ledger{c: c, shelves: map[string]*shelf{}}
	list, err := c.Objects.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the operations: %w", err)
	}
	for _, o := range list {
		if connector, kind, ok := splitName(o.Name); ok {
			l.of(connector).put(o.Name, &item{kind: kind, since: o.Made, size: o.Size})
		}
	}
	return l, nil
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Begin writes down that a call is about to run, or fails with ErrKnown or ErrBusy. again takes the place of a record
// that has ended.
func (l *Ledger) Begin(ctx context.Context, connector, token string, rec Record, again bool) (*Run, error) {
	name, ok := nameOf(connector, token)
	if !ok {
		return nil, ErrNotFound
	}
	rec.State, rec.Started = Running, time.Now().UTC()
	r := &Run{l: l, connector: connector, name: name, token: token, rec: rec, done: make(chan struct{}), deferral: make(chan struct{})}
	evicted, err := l.admit(r, again)
	for _, old := range evicted {
		l.remove(ctx, old)
	}
	if err != nil {
		return nil, err
	}
	if err := r.put(ctx, &rec, nil); err != nil {
		l.drop(r)
		if errors.Is(err, store.ErrFull) {
			err = errors.Join(ErrBusy, err)
		}
		return nil, fmt.Errorf("write down that a call begins: %w", err)
	}
	return r, nil
}

func (l *Ledger) remove(ctx context.Context, name string) {
	if err := l.c.Objects.Delete(ctx, name); err != nil {
		l.c.Log.Warn("a record of a call could not be removed; it goes by itself when its time has come", "error", err)
	}
}

// Stop ends all calls that run, because the relay stops.
func (l *Ledger) Stop(cause error) {
	l.mu.Lock()
	var runs []*Run
	for _, s := range l.shelves {
		for _, it := range s.items {
			if it.run != nil {
				runs = append(runs, it.run)
			}
		}
	}
	l.mu.Unlock()
	for _, r := range runs {
		r.stop(cause)
	}
}

// A Found is a record as it is now. If the call runs, Run is set; if its answer is kept, Body reads it and must be closed.
type Found struct {
	Record
	Run  *Run
	Body io.ReadCloser
}

// Find looks a record up, or fails with ErrNotFound.
func (l *Ledger) Find(ctx context.Context, connector, token string) (*Found, error) {
	name, ok := nameOf(connector, token)
	if !ok {
		return nil, ErrNotFound
	}
	l.mu.Lock()
	it := l.item(connector, name)
	var run *Run
	if it != nil {
		run = it.run
	}
	l.mu.Unlock()
	switch {
	case it == nil:
		return nil, ErrNotFound
	case run != nil:
		return &Found{Record: run.Record(), Run: run}, nil
	}
	return l.read(ctx, name, token)
}

func (l *Ledger) read(ctx context.Context, name, token string) (*Found, error) {
	r, err := l.c.Objects.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	rec, body, err := openRecord(r, token, name)
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("read the record of a call: %w", err)
	}
	f := &Found{Record: *rec}
	if rec.State == Answered {
		f.Body = body
		return f, nil
	}
	if rec.State == Running {
		f.State = Lost
	}
	return f, r.Close()
}

// Cancel ends a call that runs, and takes its answer away if there is one; ErrNotFound if there is nothing. The record of a
// repeat stays, because the call may have been run.
func (l *Ledger) Cancel(ctx context.Context, connector, token string) error {
	name, ok := nameOf(connector, token)
	if !ok {
		return ErrNotFound
	}
	l.mu.Lock()
	it := l.item(connector, name)
	var run *Run
	if it != nil {
		run = it.run
	}
	l.mu.Unlock()
	if it == nil {
		return ErrNotFound
	}
	if run != nil {
		run.stop(ErrCancelled)
		select {
		case <-run.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if it.kind == kindRepeat {
		return nil
	}
	l.mu.Lock()
	l.of(connector).drop(name)
	l.mu.Unlock()
	l.remove(ctx, name)
	return nil
}
