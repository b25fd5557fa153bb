// Package audit is the record inside: one JSON line for every call that came through the tunnel, allowed or not, and for
// every start, stop, join and change of the policy.
//
// It never holds a body, a credential or a query value. It does not decide and does not slow a call down: Record hands
// the event to a bounded queue that one goroutine writes. What the queue or the disk cannot take is counted, and the
// count is written as an event of its own, "gap", so that a hole in the record is itself on record.
//
// A call that is allowed has two lines: "call" with the verdict, which is recorded before the upstream is called, and "done"
// with what came of it. Where no call may be made that is not on record, Commit waits until the first is in the file.
//
// Each line carries a hash over itself and all lines before, and every minute the agent's key signs the last one: Verify
// finds what was changed since, and its format is in chain.go.
//
//	log, err := audit.Open(dir, audit.Options{Log: slog, Key: key})
//	go log.Run(ctx)             // ends after ctx, when everything queued is on the disk
//	log.Record(audit.Event{Kind: audit.Call, ...})
package audit

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/internal/backlog"
)

// formatVersion is the "v" of each line; those of version 1 have no chain. Readers skip fields that they do not know.
const formatVersion = 2

// A Kind says what an event is about.
type Kind string

// The kinds of Event.
const (
	Call   Kind = "call"   // one exchange, and what was decided about it
	Done   Kind = "done"   // what came of a call that was allowed
	Start  Kind = "start"  // the agent started, with the policy in force
	Stop   Kind = "stop"   // the agent stopped
	Join   Kind = "join"   // the agent became a member of a gateway
	Key    Kind = "key"    // the agent's key was replaced
	Policy Kind = "policy" // another configuration is in force
	Pause  Kind = "pause"  // calls of API are refused, "" for all; Detail is why
	Resume Kind = "resume" // they are taken again
	Gap    Kind = "gap"    // events were lost: Lost of them
	// Definition is that an API's description has left for the relay.
	Definition Kind = "definition"

	// What the chain says of itself: see the format in chain.go.
	Begin      Kind = "begin"      // a process or a file begins, after the record named Last
	Seal       Kind = "seal"       // everything up to here is signed
	Repair     Kind = "repair"     // a line that a crash cut off was removed
	Broken     Kind = "broken"     // the end of the record, whose last known seal is Last, was not as it was written
	Checkpoint Kind = "checkpoint" // File, whose last record is Last, is deleted by retention
)

// Verdicts of a call.
const (
	Allowed = "allowed"
	Refused = "refused"
)

// An Event is one line. Fields that do not belong to its kind are left out.
type Event struct {
	// Time is when it began; Record fills it in if it is zero.
	Time time.Time `json:"time"`
	Kind Kind      `json:"event"`

	// Request is the ID under which the relay's log has the same call.
	Request string `json:"request,omitempty"`
	API     string `json:"api,omitempty"`
	Method  string `json:"method,omitempty"`
	// Path is the request target without its query, as the caller sent it.
	Path string `json:"path,omitempty"`
	// Caller is who the relay said was calling.
	Caller string `json:"caller,omitempty"`
	// Principal is who the caller's token proved to the agent itself, where a rule asked for that.
	Principal string `json:"principal,omitempty"`
	// Verdict is Allowed or Refused; Rule is the rule that admitted the call.
	Verdict string `json:"verdict,omitempty"`
	Rule    string `json:"rule,omitempty"`
	// Status is the HTTP status of the answer; 0 if there was none.
	Status int `json:"status,omitempty"`
	// In and Out are the body's bytes from the caller and to the caller.
	In  int64 `json:"bytes_in,omitempty"`
	Out int64 `json:"bytes_out,omitempty"`
	// Millis is how long the call took.
	Millis float64 `json:"ms,omitempty"`
	// Auth is how the agent signed on to the upstream: kerberos, ntlm, negotiate/ntlm, ...
	Auth string `json:"auth,omitempty"`
	// Problem is the code of what went wrong, Detail what the caller was told about it.
	Problem string `json:"problem,omitempty"`
	Detail  string `json:"detail,omitempty"`
	// Flow are the IDs that the caller's platform gave the call (x-ms-workflow-run-id as "workflow-run-id", ...). They are
	// the caller's own word, bounded in number and length by whoever fills them in.
	Flow map[string]string `json:"flow,omitempty"`

	// Gateway, Agent, Relay and Version are who runs: Start, Join.
	Gateway string `json:"gateway,omitempty"`
	Agent   string `json:"agent,omitempty"`
	Relay   string `json:"relay,omitempty"`
	Version string `json:"version,omitempty"`
	// Key is the fingerprint of the agent's key: Start, Key.
	Key string `json:"key,omitempty"`
	// Hash names the policy in force, as the relay shows it too: Start, Policy. Or what has left: Definition.
	Hash string `json:"hash,omitempty"`
	// Was is the hash of the policy that was in force before: Policy.
	Was string `json:"was,omitempty"`
	// Lost is how many events are missing: Gap.
	Lost uint64 `json:"lost,omitempty"`

	// Public is the key that signed, in base64url: Seal.
	Public string `json:"public,omitempty"`
	// File is the name of the file that is deleted: Checkpoint.
	File string `json:"file,omitempty"`
	// Last and Head are the number and the hash of another record: the one before (Begin), the last one in File
	// (Checkpoint), the last one that was sealed (Broken). Without a Last, Head is the hash of a line of version 1.
	Last uint64 `json:"last,omitempty"`
	Head string `json:"head,omitempty"`
}

// Bounds of a line: a caller must not be able to fill the disk with one request.
const (
	maxPath   = 2048
	maxDetail = 512
	maxWord   = 128
)

// bounded cuts what a caller can make long.
func (e Event) bounded() Event {
	e.Path, e.Detail = cut(e.Path, maxPath), cut(e.Detail, maxDetail)
	for _, s := range []*string{&e.Request, &e.API, &e.Method, &e.Caller, &e.Principal, &e.Rule} {
		*s = cut(*s, maxWord)
	}
	return e
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "[cut]"
}

// Options are a Log's settings; zero values are the defaults.
type Options struct {
	// MaxBytes is the size at which a file is set aside and a new one begun: 64 MiB.
	MaxBytes int64
	// MaxFiles is how many files that were set aside are kept: 15, so that the record takes 1 GiB at most.
	MaxFiles int
	// MaxAge is how long records are kept at least; those that are a tenth older are deleted, a file at a time. 0: as long as there
	// is room.
	MaxAge time.Duration
	// Queue is how many events may wait for the disk: 8,192.
	Queue int
	// Refuse is that calls wait for their verdict's line, by Commit, and are refused without; it changes what the log is told
	// alone.
	Refuse bool
	// Key gives the key that seals the record, whenever that is done; nil leaves it unsealed.
	Key func() crypto.Signer
	// Sealed is told of each seal when it is on the disk, and of the one that the record ends with when it is opened. It must
	// not block. Nil: nobody.
	Sealed func(Head)
	// Written is told of each line that is in the file, without its line feed; it must not block, nor keep it. Nil: nobody.
	Written func(line []byte)
	// Log is told when the disk refuses and when it takes again.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxFiles <= 0 {
		o.MaxFiles = 15
	}
	if o.Queue <= 0 {
		o.Queue = 8192
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Log is the record. Record is safe for concurrent use.
type Log struct {
	queue *backlog.Backlog[entry]
	seals chan chan<- error // of capacity 1 each
	lost  atomic.Uint64     // not on record as a gap yet
	total atomic.Uint64     // lost since the start
	fails atomic.Uint64     // writes that the disk refused
	calls string            // what becomes of calls while the disk refuses
	file  *rotated          // used by Run alone
	log   *slog.Logger
	buf   []entry // used by Run alone: room for the next entries
	fault fault   // used by Run alone
}

// An entry is an event on its way to the file.
type entry struct {
	Event
	written chan<- error // nil: nobody waits; else of capacity 1
}

// A fault is a time in which events are lost: one line in the log when it begins, one when it ends, however often a disk
// that is all but full changes its mind.
type fault struct {
	down   bool
	lost   uint64    // events since it began
	better time.Time // since when the disk takes all; zero while it does not
}

// calm is how long nothing must have been lost before a fault counts as over.
const calm = 10 * time.Second

// Record queues an event and never waits. Events recorded after Run has ended are not written.
func (l *Log) Record(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if !l.queue.Add(entry{Event: e}) {
		l.lose(1)
	}
}

// lose counts events that will not be on record.
func (l *Log) lose(n uint64) {
	l.lost.Add(n)
	l.total.Add(n)
}

// Stats are how the record fares: events that wait for the disk, and since the start those that were lost and the writes that
// the disk refused.
type Stats struct {
	Queued         int
	Lost, Failures uint64
}

// Stats gives them.
func (l *Log) Stats() Stats { return Stats{l.queue.Len(), l.total.Load(), l.fails.Load()} }

// ErrUnwritten is wrapped by Commit's error.
var ErrUnwritten = errors.New("the audit record could not be written")

// Commit records an event and waits until it is in the file: the operating system has it, so that it survives the end of
// this process. It may be a second until it survives a power cut, as with Record. Events that wait are written together, and
// at once. An error says that it is not certain to be there; ctx and commitTimeout bound the wait.
func (l *Log) Commit(ctx context.Context, e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	within, cancel := context.WithTimeoutCause(ctx, commitTimeout, errLate)
	defer cancel()
	written := make(chan error, 1)
	if err := l.queue.AddSoon(within, entry{e, written}); errors.Is(err, errLate) {
		return fmt.Errorf("%w: its queue has been full for %s", ErrUnwritten, commitTimeout)
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrUnwritten, err)
	}
	select {
	case err := <-written:
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnwritten, err)
		}
		return err
	case <-within.Done():
	}
	if err := context.Cause(within); !errors.Is(err, errLate) {
		return fmt.Errorf("%w: %w", ErrUnwritten, err)
	}
	return fmt.Errorf("%w: the disk has not taken it for %s", ErrUnwritten, commitTimeout)
}

// errLate is that commitTimeout is over.
var errLate = errors.New("too late")

const (
	// commitTimeout bounds the wait of a call for its verdict's line: a disk that hangs is not to hold calls for good.
	commitTimeout = 5 * time.Second
	// batchEvents are written at once, and so refused together by a disk that is full. Of those that waited, room for so many
	// is kept.
	batchEvents = 256
	// gatherFor is how long an event waits for others to be written with it: a write for each call would cost more than
	// all else that the record does. A crash of this process loses so much, a power cut what syncEvery says.
	gatherFor = 20 * time.Millisecond
	// syncEvery bounds what a power cut can take: a sync for every call would be as slow as the disk.
	syncEvery = time.Second
)

// Run writes what is recorded until ctx ends, then what is still queued, and closes the file.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.queue.Waiting():
			l.queue.Gather(gatherFor, ctx.Done())
			l.drain()
		case <-tick.C:
			l.writeGap()
			l.failed(l.file.keep(time.Now()))
			l.recovered(calm)
		case sealed := <-l.seals:
			l.drain()
			err := l.file.seal()
			l.failed(err)
			sealed <- err
		case <-ctx.Done():
			return l.finish()
		}
	}
}

// Seal seals what has been recorded so far, now. It must be called while Run runs.
func (l *Log) Seal(ctx context.Context) error {
	sealed := make(chan error, 1)
	select {
	case l.seals <- sealed:
	case <-ctx.Done():
		return fmt.Errorf("seal the audit record: %w", context.Cause(ctx))
	}
	select {
	case err := <-sealed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("seal the audit record: %w", context.Cause(ctx))
	}
}

// drain writes what is queued.
func (l *Log) drain() {
	events := l.queue.Take(l.buf)
	for batch := range slices.Chunk(events, batchEvents) {
		l.write(batch)
	}
	clear(events) // they are not held on to
	l.buf = events
	if cap(events) > 4*batchEvents {
		l.buf = nil // a burst is over; its memory goes back
	}
}

// write writes a batch, and tells those who wait for it. What the disk refuses and nobody was told of is lost and counted.
func (l *Log) write(events []entry) {
	err := l.file.write(events)
	lost := uint64(0)
	for _, e := range events {
		if e.written != nil {
			e.written <- err
		} else {
			lost++
		}
	}
	if l.failed(err) {
		l.lose(lost)
		return
	}
	l.writeGap()
}

// writeGap puts on record how many events are missing up to here.
func (l *Log) writeGap() {
	lost := l.lost.Swap(0)
	if lost == 0 {
		return
	}
	if l.failed(l.file.write([]entry{{Event: Event{Time: time.Now(), Kind: Gap, Lost: lost}}})) {
		l.lost.Add(lost)
		return
	}
	if !l.fault.down { // the disk takes all, but not as fast as calls come
		l.log.Error("the audit record does not keep up; calls go on and are counted")
	}
	l.fault.down, l.fault.better = true, time.Now()
	l.fault.lost += lost
}

// failed notes whether the disk refuses, and says so when that begins.
func (l *Log) failed(err error) bool {
	if err == nil {
		if l.fault.better.IsZero() {
			l.fault.better = time.Now()
		}
		return false
	}
	l.fails.Add(1)
	if !l.fault.down {
		l.log.Error("the audit record cannot be written", "error", err, "calls", l.calls)
	}
	l.fault.down, l.fault.better = true, time.Time{}
	return true
}

// recovered says that a fault is over, if the disk has taken all for so long.
func (l *Log) recovered(calm time.Duration) {
	if f := l.fault; f.down && !f.better.IsZero() && time.Since(f.better) >= calm {
		l.log.Info("the audit record is written again", "lost", f.lost)
		l.fault = fault{}
	}
}

func (l *Log) finish() error {
	l.drain()
	l.writeGap()
	err := l.file.seal()
	l.failed(err)
	l.recovered(0)
	if l.fault.down {
		l.log.Error("events are missing at the end of the audit record", "lost", l.lost.Load()+l.fault.lost)
	}
	return errors.Join(err, l.file.end())
}
