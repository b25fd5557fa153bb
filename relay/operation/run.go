package operation

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// endWithin bounds the last write of a record, for a disk that no longer answers.
const endWithin = 30 * time.Second

// A Run is the record of a call while it runs. Its answer is written by one goroutine, which ends it with Keep, Replace,
// Release or Lose. The other methods are for everybody.
type Run struct {
	l                      *Ledger
	connector, name, token string
	done                   chan struct{} // closed when the call has ended

	mu       sync.Mutex // guards what follows
	rec      Record
	cancel   func(error)
	deferred bool
	deferral chan struct{} // closed by Defer

	// These belong to the writing goroutine.
	seal    *sealer
	pipe    *io.PipeWriter
	written chan error // the result of the write under way
	size    int64
	failed  error
}

// Token of the record.
func (r *Run) Token() string { return r.token }

// Done is closed when the call has ended and its record says how.
func (r *Run) Done() <-chan struct{} { return r.done }

// Record as it is now.
func (r *Run) Record() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec
}

// SetBody notes the hash of the request's body, once it has been read.
func (r *Run) SetBody(hash []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Body = bytes.Clone(hash)
}

// SetCancel says how the call is ended on demand.
func (r *Run) SetCancel(cancel func(error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel = cancel
}

func (r *Run) stop(cause error) {
	r.mu.Lock()
	cancel := r.cancel
	r.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
}

// Defer notes that the caller was answered 202, or fails with ErrBusy.
func (r *Run) Defer() error {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	running := 0
	for _, it := range r.l.of(r.connector).items {
		if it.run != nil && it.run != r && (it.kind == kindDeferred || it.run.Deferred()) {
			running++
		}
	}
	if running >= r.l.c.Running {
		return ErrBusy
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.deferred {
		r.deferred = true
		close(r.deferral)
	}
	return nil
}

// Deferrals is closed when the caller has been answered 202.
func (r *Run) Deferrals() <-chan struct{} { return r.deferral }

// Deferred says whether the call was answered 202.
func (r *Run) Deferred() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deferred
}

// Answer begins the answer; again says that nothing was done. What fails from here on is told by Keep.
func (r *Run) Answer(ctx context.Context, status int, header http.Header, again bool) {
	rec := r.Record()
	rec.State, rec.Status, rec.Header, rec.Again = Answered, status, header, again
	var in *io.PipeReader
	in, r.pipe = io.Pipe()
	r.written = make(chan error, 1)
	go func() { // finish waits for it
		_, err := r.l.c.Objects.Put(ctx, r.name, in)
		_ = in.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // who writes on is told
		r.written <- err
	}()
	r.seal, r.failed = newSealer(r.pipe, r.token, r.name, &rec)
}

// Write adds to the answer's body. It fails with ErrTooLarge when that becomes larger than what is kept.
func (r *Run) Write(p []byte) (int, error) {
	if r.failed == nil {
		if r.size += int64(len(p)); r.size > r.l.c.Answer {
			r.failed = ErrTooLarge
		} else if r.failed = r.l.grow(r, int64(len(p))); r.failed == nil {
			_, r.failed = r.seal.Write(p)
		}
	}
	if r.failed != nil {
		return 0, r.failed
	}
	return len(p), nil
}

// finish ends the write that Answer has begun, if there is one.
func (r *Run) finish(cause error) error {
	if r.pipe == nil {
		return cause
	}
	if cause == nil {
		cause = r.failed
	}
	if cause == nil {
		cause = r.seal.close()
	}
	_ = r.pipe.CloseWithError(cause) // nil: the end
	if err := <-r.written; cause == nil {
		cause = err
	}
	r.pipe = nil
	return cause
}

// Keep ends the answer. If it cannot be kept, the record says so, and err why.
func (r *Run) Keep(ctx context.Context) (err error) {
	size := r.size
	if err = r.finish(nil); err != nil {
		size = 0
		rec := r.Record()
		rec.State = Unkept
		if put := r.last(ctx, &rec, nil); put != nil {
			err = errors.Join(err, put) // the record goes on saying "running", which is as good as Lost
		}
	}
	r.end(size)
	return err
}

// Replace ends the call with another answer, in place of what was written so far. again says that nothing was done.
func (r *Run) Replace(ctx context.Context, status int, header http.Header, body []byte, again bool) error {
	_ = r.finish(io.ErrClosedPipe)
	rec := r.Record()
	rec.State, rec.Status, rec.Header, rec.Again = Answered, status, header, again
	err := r.last(ctx, &rec, body)
	r.end(int64(len(body)))
	return err
}

// Release ends the call and forgets it: a repeat is the first.
func (r *Run) Release(ctx context.Context) {
	_ = r.finish(io.ErrClosedPipe)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	r.l.remove(ctx, r.name)
	r.l.drop(r)
	close(r.done)
}

// Lose ends the call without a word about its outcome: the record is Lost.
func (r *Run) Lose() {
	_ = r.finish(io.ErrClosedPipe)
	r.end(0)
}

func (r *Run) end(size int64) {
	r.l.ended(r, size)
	close(r.done)
}

// last writes a whole record within its time, even if what ended the call has ended ctx.
func (r *Run) last(ctx context.Context, rec *Record, body []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	return r.put(ctx, rec, body)
}

func (r *Run) put(ctx context.Context, rec *Record, body []byte) error {
	var text bytes.Buffer
	s, err := newSealer(&text, r.token, r.name, rec)
	if err == nil {
		_, err = s.Write(body)
	}
	if err == nil {
		err = s.close()
	}
	if err != nil {
		return err
	}
	_, err = r.l.c.Objects.Put(ctx, r.name, &text)
	return err
}
