package connector

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/operation"
)

// A handover is the ResponseWriter of a call that can outlive its caller. It begins with the caller: the head of an
// answer that comes in time goes there, and so does what follows. Once detached it writes to the call's record alone.
// With a run from the start, everything goes to both.
type handover struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	inner  *call
	header http.Header // of the writing goroutine

	mu    sync.Mutex // guards what follows
	state handoverState
	run   *operation.Run
	gone  bool // the caller takes no more, but the record does

	// These belong to the writing goroutine.
	answered bool // the head of a final answer was written
	again    bool // that says that nothing was done
}

type handoverState int

const (
	waiting  handoverState = iota // no final head yet
	attached                      // the caller has the head
	detached                      // the caller was answered otherwise, or has gone
)

func (h *handover) Header() http.Header { return h.header }

// runsOnce says that a call must not go over another link unless it was certainly not run: it has a record.
func (c *call) runsOnce() bool {
	h, outlives := c.w.(*handover)
	if !outlives {
		return false
	}
	_, run := h.now()
	return run != nil
}

// now is the present state; toCaller says whether bytes go to the caller, run is the record to write.
func (h *handover) now() (toCaller bool, run *operation.Run) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state == attached && !h.gone, h.run
}

// detach lets the caller go, if no answer has begun. From then on the answer is the record's.
func (h *handover) detach(run *operation.Run) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != waiting {
		return false
	}
	h.state, h.run = detached, run
	return true
}

func (h *handover) isDetached() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state == detached
}

func (h *handover) isWaiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state == waiting
}

func (h *handover) WriteHeader(status int) {
	h.mu.Lock()
	if h.state == waiting {
		maps.Copy(h.w.Header(), h.header)
		if status >= 200 {
			h.state = attached
		}
		h.w.WriteHeader(status)
		if status < 200 {
			clear(h.w.Header())
		}
	}
	run := h.run
	h.mu.Unlock()
	if status < 200 || h.answered {
		return
	}
	h.answered, h.again = true, h.nothingDone(status)
	if run != nil {
		run.Answer(context.WithoutCancel(h.inner.r.Context()), status, keptHeader(h.header), h.again)
	}
}

// nothingDone says that a repeat of the call may run: the relay or the agent knows that it was not run, or the API itself
// has put it off.
func (h *handover) nothingDone(status int) bool {
	if h.inner.event.Code != "" {
		return h.inner.event.Executed == "no"
	}
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	}
	return false
}

// keptHeader is what of an answer's head goes into its record: not what is for one connection or one origin.
func keptHeader(h http.Header) http.Header {
	kept := http.Header{}
	for name, values := range h {
		if values == nil || hopByHop(name) || name == requestIDHeader || strings.HasPrefix(name, "Access-Control-") ||
			name == "Vary" && len(values) == 1 && values[0] == "Origin" {
			continue
		}
		kept[name] = values
	}
	return kept
}

func (h *handover) Write(p []byte) (int, error) {
	toCaller, run := h.now()
	if toCaller {
		if n, err := h.w.Write(p); err != nil {
			if run == nil {
				return n, err
			}
			h.lose()
			toCaller = false
		}
	}
	if run == nil {
		return len(p), nil
	}
	if _, err := run.Write(p); err != nil && !toCaller {
		return 0, err // nobody is left who takes it
	}
	return len(p), nil
}

func (h *handover) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = true
}

// FlushError, SetReadDeadline, SetWriteDeadline and EnableFullDuplex are what http.ResponseController looks for.
func (h *handover) FlushError() error {
	toCaller, run := h.now()
	if !toCaller {
		return nil
	}
	err := h.rc.Flush()
	if err != nil && run != nil {
		h.lose()
		return nil
	}
	return err
}

func (h *handover) SetReadDeadline(t time.Time) error {
	return h.withCaller(func() error { return h.rc.SetReadDeadline(t) })
}

func (h *handover) SetWriteDeadline(t time.Time) error {
	return h.withCaller(func() error { return h.rc.SetWriteDeadline(t) })
}

func (h *handover) EnableFullDuplex() error { return h.withCaller(h.rc.EnableFullDuplex) }

// withCaller does something to the caller's connection, which is another request's once the caller was let go.
func (h *handover) withCaller(do func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == detached {
		return nil
	}
	return do()
}

// A bodyTap reads the caller's body, notes its end and its hash, and is not touched beyond it: after the end the caller
// may be let go.
type bodyTap struct {
	io.ReadCloser
	length int64 // -1: not known
	read   atomic.Int64
	sum    hash.Hash
	ended  bool
	done   chan struct{}     // closed at the end
	onEnd  func(hash []byte) // may be nil
}

func newBodyTap(r *http.Request, onEnd func([]byte)) *bodyTap {
	t := &bodyTap{ReadCloser: r.Body, length: r.ContentLength, sum: sha256.New(), done: make(chan struct{}), onEnd: onEnd}
	if t.length == 0 {
		t.end()
	}
	return t
}

func (t *bodyTap) end() {
	t.ended = true
	if t.onEnd != nil {
		t.onEnd(t.sum.Sum(nil))
	}
	close(t.done)
}

// whole says that the body was read to its end.
func (t *bodyTap) whole() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

func (t *bodyTap) Read(p []byte) (int, error) {
	if t.ended {
		return 0, io.EOF
	}
	n, err := t.ReadCloser.Read(p)
	t.sum.Write(p[:n])
	read := t.read.Add(int64(n))
	if errors.Is(err, io.EOF) || err == nil && t.length >= 0 && read == t.length {
		t.end()
		err = io.EOF
	}
	return n, err
}

// Close leaves the caller's body to net/http.
func (t *bodyTap) Close() error { return nil }
