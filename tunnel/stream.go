package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// maxOut is how many body bytes of one stream wait to be written before Write waits.
	maxOut = 64 << 10
	// maxInformational bounds the 1xx answers that nobody has read yet.
	maxInformational = 16
	// maxCredit is far beyond any window: a peer that grants more is broken.
	maxCredit = 1 << 40
)

// A ResetError is why a stream ended early. errors.Is(err, ErrNotRun) holds when the peer refused it before running it.
type ResetError struct {
	Code   ResetCode
	Reason string // for logs; never shown to callers
	Remote bool   // the peer gave up, not this side
}

func (e *ResetError) Error() string {
	who := "this side"
	if e.Remote {
		who = "the peer"
	}
	return fmt.Sprintf("%s gave up the stream (%s): %s", who, e.Code, e.Reason)
}

// Is makes a refusal match ErrNotRun, and a timeout ErrTimeout.
func (e *ResetError) Is(target error) bool {
	return target == ErrNotRun && e.Code == Refused && e.Remote || target == ErrTimeout && e.Code == TimedOut
}

type outHead struct {
	typ     frameType
	flags   byte
	payload []byte
}

// A Stream is one exchange inside a link. One goroutine may read while another writes; Reset and Context may be called
// from anywhere.
type Stream struct {
	link     *Link
	id       uint64
	accepted bool // the peer opened it
	request  *Request

	room  chan struct{} // capacity 1: a waiting Write or WaitCredit should look again
	ready chan struct{} // capacity 1: a waiting Read or ReadResponse should look again

	// What follows is guarded by link.mu: the sending half, and whether the stream is in the table.
	heads        []outHead
	out          queue
	credit       int64 // body bytes that the peer will take
	endQueued    bool
	trailer      []byte // encoded trailers to send, nil for none
	finalHead    bool   // accepted: the final head has been queued
	started      bool   // a frame of it has been handed to the network
	scheduled    bool
	progress     time.Time // when body bytes last left or first waited
	writeTimeout time.Duration
	localDone    bool // nothing more will be sent
	remoteDone   bool // nothing more will come
	sendErr      error
	partial      []byte
	partialType  frameType
	partialSince time.Time

	mu          sync.Mutex // guards what follows: the receiving half
	responses   []*Response
	final       bool // opened: the final head has come
	in          queue
	avail       int // body bytes that the peer may still send
	window      int // what avail is raised to
	headBytes   int // what the heads of the peer's cost
	unacked     int // body bytes read since the last grant
	lastGrant   time.Time
	expect      bool // the window stays shut until AllowBody
	ended       bool
	gone        bool // no longer in the table
	released    bool // its share of the link's memory was given back
	trailers    http.Header
	err         error // why no more can be read
	dead        error // why the stream ended early
	readTimeout time.Duration
	ctx         context.Context
	cancel      context.CancelCauseFunc
}

func newStream(l *Link) *Stream {
	return &Stream{
		link: l, room: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		credit: initialWindow, window: initialWindow, avail: initialWindow, lastGrant: time.Now(),
	}
}

// ID is the stream's number on its link.
func (s *Stream) ID() uint64 { return s.id }

// Request is the head with which the peer opened the stream; nil on streams that this side opened.
func (s *Stream) Request() *Request { return s.request }

func (s *Stream) mine() bool { return !s.accepted }

func (s *Stream) sent() bool {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.started
}

// Context ends when the stream ends early or its link is lost, and when Serve has returned. Its cause says why.
func (s *Stream) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancelCause(context.Background())
		if s.dead != nil {
			s.cancel(s.dead)
		}
	}
	return s.ctx
}

// SetReadTimeout sets the longest silence that a Read waits through; 0 means none. Past it Read returns ErrTimeout.
func (s *Stream) SetReadTimeout(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readTimeout = d
}

// SetWriteTimeout sets the longest time that a Write waits without any progress; 0 means none (the link's stall
// timeout still applies). Past it Write returns ErrTimeout.
func (s *Stream) SetWriteTimeout(d time.Duration) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	s.writeTimeout = d
}

// --- receiving

// ReadResponse gives the next response head: informational ones as they come, then the final one, once. It waits until
// ctx ends. An error wraps ErrNotRun if the peer has certainly not run the request.
func (s *Stream) ReadResponse(ctx context.Context) (*Response, error) {
	for {
		s.mu.Lock()
		if len(s.responses) > 0 {
			r := s.responses[0]
			s.responses = s.responses[1:]
			s.mu.Unlock()
			return r, nil
		}
		err, ended := s.err, s.ended
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if ended {
			return nil, &ResetError{Code: BadSequence, Reason: "the exchange ended without a response", Remote: true}
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Read reads body bytes of the peer's. It returns io.EOF at the body's end; the trailers are there then.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		s.mu.Lock()
		if n := s.in.read(p); n > 0 {
			s.consumed(n)
			return n, nil
		}
		if err := s.waitReadable(); err != nil {
			return 0, err
		}
	}
}

// WriteTo writes body bytes to w as they come, one Write for each piece, until the body's end. It saves a copy; w must
// not keep what it is given.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		s.mu.Lock()
		c := s.in.shift()
		if c == nil {
			if err := s.waitReadable(); err == io.EOF {
				return total, nil
			} else if err != nil {
				return total, err
			}
			continue
		}
		n := c.w - c.r
		s.mu.Unlock()
		_, err := w.Write(c.bytes())
		c.free()
		s.mu.Lock()
		s.consumed(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// waitReadable is called with s.mu held and gives it back. It returns nil when it is worth looking again.
func (s *Stream) waitReadable() error {
	err, ended, timeout := s.err, s.ended, s.readTimeout
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case ended:
		return io.EOF
	}
	return await(s.ready, timeout)
}

// await waits for a signal, at most for timeout if that is not 0.
func await(signal <-chan struct{}, timeout time.Duration) error {
	if timeout <= 0 {
		<-signal // the link's end signals every stream, so this ends
		return nil
	}
	select {
	case <-signal: // in the midst of a large body there often is one
		return nil
	default:
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-signal:
		return nil
	case <-t.C:
		return fmt.Errorf("%w: silent for %s", ErrTimeout, timeout)
	}
}

// Ended says whether the peer's half has come whole; Buffered how many bytes of it have not been read.
func (s *Stream) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Buffered is how many body bytes can be read without waiting.
func (s *Stream) Buffered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.size
}

// Trailer gives the peer's trailers; they are complete once Read has returned io.EOF.
func (s *Stream) Trailer() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailers
}

// AllowBody opens the window of a request that expects "100 Continue". Calls after the first do nothing.
func (s *Stream) AllowBody() {
	s.mu.Lock()
	shut := s.expect && !s.ended && s.err == nil
	s.expect = false
	if shut {
		s.avail, s.lastGrant = s.window, time.Now()
	}
	s.mu.Unlock()
	if shut {
		s.link.sendWindow(s, initialWindow)
	}
}

// --- sending

// SendResponse sends a response head: informational ones, then one final one. end says that neither body nor trailers
// follow. Like all that sends it does not wait for the peer, but may write to the network, as Open does.
func (s *Stream) SendResponse(r *Response, end bool) error {
	return s.answer(r, nil, end)
}

// Answer sends a final response whose whole body is at hand, at most 64 kB; head and body leave together.
func (s *Stream) Answer(r *Response, body []byte) error {
	return s.answer(r, body, true)
}

func (s *Stream) answer(r *Response, body []byte, end bool) error {
	head, err := appendResponse(make([]byte, 0, 512), r)
	if err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	if len(head) > maxHead {
		return fmt.Errorf("a response head of %d bytes; at most %d are sent", len(head), maxHead)
	}
	turn, err := s.queueAnswer(r.Status, head, body, end)
	s.link.takeTurn(turn)
	return err
}

func (s *Stream) queueAnswer(status int, head, body []byte, end bool) (turn, error) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	switch {
	case s.sendErr != nil:
		return noTurn, s.sendErr
	case !s.accepted || s.finalHead || s.localDone:
		return noTurn, errors.New("tunnel: SendResponse out of turn")
	}
	s.finalHead = status >= 200 || status == http.StatusSwitchingProtocols
	s.queueHead(frameHead, head, end && len(body) == 0)
	if len(body) > 0 {
		s.queueData(body)
		s.endQueued = true
	}
	return s.link.submit(s), nil
}

// Write sends body bytes. It copies p, and waits while as much as may be is queued already.
func (s *Stream) Write(p []byte) (int, error) {
	total := 0
	for {
		s.link.mu.Lock()
		if err := s.mayWrite(); err != nil {
			s.link.mu.Unlock()
			return total, err
		}
		turn := noTurn
		if n := min(len(p), maxOut-s.out.size); n > 0 {
			s.queueData(p[:n])
			turn = s.link.submit(s)
			total += n
			p = p[n:]
		}
		timeout := s.writeTimeout
		s.link.mu.Unlock()
		s.link.takeTurn(turn)
		if len(p) == 0 {
			return total, nil
		}
		if err := await(s.room, timeout); err != nil {
			return total, err
		}
	}
}

// Send sends the first n bytes of b's room, as Write does. Where they are many it does not copy them.
func (s *Stream) Send(b *Buffer, n int) error {
	for {
		turn, err := s.queueBuffer(b, n)
		switch {
		case err == nil:
			s.link.takeTurn(turn)
			return nil
		case err != errNoRoom:
			return err
		}
		s.link.mu.Lock()
		timeout := s.writeTimeout
		s.link.mu.Unlock()
		if err := await(s.room, timeout); err != nil {
			return err
		}
	}
}

// errNoRoom: as much as may be is queued already.
var errNoRoom = errors.New("tunnel: no room")

// queueBuffer queues what Send sends.
func (s *Stream) queueBuffer(b *Buffer, n int) (turn, error) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if err := s.mayWrite(); err != nil {
		return noTurn, err
	}
	if s.out.size+n > maxOut {
		return noTurn, errNoRoom
	}
	if s.out.size == 0 {
		s.progress = time.Now()
	}
	b.moveTo(&s.out, n)
	return s.link.submit(s), nil
}

// mayWrite says why no body byte may be queued. link.mu is held.
func (s *Stream) mayWrite() error {
	switch {
	case s.sendErr != nil:
		return s.sendErr
	case s.endQueued || s.localDone:
		return errors.New("tunnel: Write after the end")
	case s.accepted && !s.finalHead:
		return errors.New("tunnel: Write before the response head")
	}
	return nil
}

// CloseWrite ends this side's half, with trailers if there are any.
func (s *Stream) CloseWrite(trailer http.Header) error {
	var fields []byte
	if n := fieldsSize(trailer); n > maxHead {
		return fmt.Errorf("trailers of %d bytes; at most %d are sent", n, maxHead)
	} else if n > 0 {
		fields = appendFields(nil, trailer)
	}
	turn, err := s.queueEnd(fields)
	s.link.takeTurn(turn)
	return err
}

func (s *Stream) queueEnd(trailer []byte) (turn, error) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if err := s.mayWrite(); err != nil {
		return noTurn, err
	}
	s.trailer, s.endQueued = trailer, true
	return s.link.submit(s), nil
}

// WaitCredit waits until the peer takes body bytes, or returns why it never will. It is for a request that expects
// "100 Continue": the caller's body is not to be read before.
func (s *Stream) WaitCredit(ctx context.Context) error {
	for {
		s.link.mu.Lock()
		err, credit := s.sendErr, s.credit
		s.link.mu.Unlock()
		if err != nil {
			return err
		}
		if credit > 0 {
			return nil
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Reset gives the stream up and tells the peer why. On a stream whose both halves have ended it only forgets the bytes
// that nobody has read. Who opened a stream calls Reset when it is done with it, whatever happened, so that nothing stays
// behind; for streams that the peer opened the link does so when Serve returns.
func (s *Stream) Reset(code ResetCode, reason string) {
	l := s.link
	l.mu.Lock()
	if l.streams[s.id] == s && l.err == nil {
		if s.mine() && !s.started {
			s.heads = nil // the peer never hears of it
		} else {
			l.queueControl(frameReset, 0, s.id, appendReset(code, reason))
		}
	}
	l.mu.Unlock()
	s.kill(&ResetError{Code: code, Reason: reason}, true)
}

// release is called when Serve has returned: an answer that is queued whole may leave, anything else is given up.
func (s *Stream) release() {
	l := s.link
	l.mu.Lock()
	open := l.streams[s.id] == s
	whole := s.endQueued || s.localDone || endsWithHead(s.heads)
	if open && whole && !s.remoteDone {
		l.queueControl(frameReset, 0, s.id, appendReset(NoMore, ""))
		l.finish(s, false, true)
	}
	l.mu.Unlock()
	if open && !whole {
		s.Reset(Internal, "the exchange was left without an end")
	}
	s.mu.Lock()
	s.in.drop()
	s.ended = true
	s.giveBack()
	if s.dead == nil {
		s.dead = context.Canceled
	}
	cancel := s.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel(context.Canceled)
	}
}

func endsWithHead(heads []outHead) bool {
	return len(heads) > 0 && heads[len(heads)-1].flags&flagEnd != 0
}

// signalRoom wakes a Write or WaitCredit; signalReady a Read or ReadResponse.
func (s *Stream) signalRoom() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

func (s *Stream) signalReady() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}
