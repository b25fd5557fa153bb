package tunnel

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Side says which end of the link this is.
type Side int

// The relay opens odd streams, the agent even ones.
const (
	RelaySide Side = 1
	AgentSide Side = 2
)

// Options of a Link. The zero value of each field means the default.
type Options struct {
	// Log receives what happens to the link; nil discards it.
	Log *slog.Logger
	// Serve is called in a goroutine of its own for each stream that the peer opens. It must return soon after the
	// stream's Context ends. Nil refuses all streams.
	Serve func(*Stream)
	// Control is called for each control message, in the reader: it must not block. Nil ignores them.
	Control func(kind string, body []byte)
	// GoAway is called when the peer says that it takes no new streams, in the reader: it must not block.
	GoAway func(reason string)
	// MaxStreams is how many streams of the peer's are open at once; more are refused. Default 512.
	MaxStreams int
	// Memory bounds, in bytes, the heads and body bytes of the peer's that this side may have to hold for all streams of the
	// link. Default 64 MB. What waits to be sent is bounded by itself: 64 kB for each stream.
	Memory int
	// MaxWindow bounds, in bytes, one stream's share of it. Default 16 MB.
	MaxWindow int
	// StallTimeout ends a stream whose peer takes no bytes for so long while some wait. Default 75 s.
	StallTimeout time.Duration
}

const (
	defaultMaxStreams = 512
	defaultMemory     = 64 << 20
	defaultMaxWindow  = 16 << 20
	defaultStall      = 75 * time.Second

	// Liveness. None of these equals the idle timeouts common in proxies and balancers (30 and 60 s). A link whose ping
	// should have been answered a second ago is suspect: others are used first. One that was silent for 9 s is dead, and
	// ended at once: who waits for an answer on it should know, and its place is free for another.
	pingEvery    = 4 * time.Second
	suspectAfter = pingEvery + time.Second
	deadAfter    = 9 * time.Second

	writeTimeout = 18 * time.Second
	// closeTimeout is how long a close frame may take: the peer may be gone.
	closeTimeout = time.Second
	// leaveTimeout is how long the peer has to read what was said before the end, over a slow line too.
	leaveTimeout = 5 * time.Second
	// headTimeout is how long a head or control message in several frames may take to be complete.
	headTimeout = 10 * time.Second

	// maxQueued bounds the control frames that wait for a peer that does not read; maxControl one control message;
	// maxPartial what incomplete heads of all streams hold.
	maxQueued  = 4 << 20
	maxControl = 1 << 20
	maxPartial = 4 << 20
)

// Errors of streams and links. They are wrapped with what happened.
var (
	// ErrLinkLost: the link ended while the stream was under way. What the peer did with it is unknown.
	ErrLinkLost = errors.New("link lost")
	// ErrNotRun: the peer has certainly not run the request; it may be sent on another link.
	ErrNotRun = errors.New("not run")
	// ErrTimeout: the peer was silent for longer than the stream's timeout.
	ErrTimeout = errors.New("timed out")
)

// errClosed is the reason of a link that this side closed on purpose.
type errClosed struct{ reason string }

func (e errClosed) Error() string { return "closed: " + e.reason }

// A Link is one live WebSocket between an agent and a relay node, after the handshake. One goroutine reads and never
// waits for a stream; one writes, and takes everything that is queued as one message. Where that one has nothing to do, a
// goroutine that sends writes in its place (turn). While no stream is open the writer is there only when there is
// something to write: an idle link is one goroutine. Safe for concurrent use.
type Link struct {
	ws    *websocket.Conn
	conn  *Conn // what ws is built on; nil if it was not wrapped
	o     Options
	began time.Time

	heard atomic.Int64 // when the last byte came, nanoseconds since began: the time of day can be set
	rtt   atomic.Int64 // nanoseconds, 0 before the first pong
	held  atomic.Int64 // bytes that heads and open windows may make this side hold
	grown atomic.Int64 // those of them that are beyond the windows' initial size

	running atomic.Int64 // Serve calls that have not returned

	webSocketPing atomic.Pointer[string] // a WebSocket ping to answer

	done    chan struct{} // closed when the link has failed or ended
	wake    chan struct{} // capacity 1: there is something to write
	work    chan *Stream  // to a goroutine that has served a stream and waits for another; nil sends it home
	waiting atomic.Int64  // how many of those there are
	serving sync.WaitGroup

	mu       sync.Mutex // guards everything below
	err      error      // why the link ended
	streams  map[uint64]*Stream
	next     uint64   // next stream to open
	lastPeer uint64   // last stream that the peer opened
	peerMax  int      // how many streams the peer takes
	opened   int      // streams that this side opened and that are not finished
	accepted int      // streams that the peer opened and that are not finished
	goAway   bool     // the peer was told that we take no new streams
	parting  uint64   // the ping behind that; with its answer nothing more is under way
	shut     bool     // it was answered: streams that come now are refused
	peerAway string   // why the peer takes none; "" while it does
	urgent   ring     // streams with heads or little data to send
	bulk     ring     // streams with much
	control  [][]byte // encoded frames that go first
	queued   int      // their bytes
	partials int      // bytes of incomplete heads
	pong     []byte   // payload of the pong to send, nil for none
	writing  bool     // the writer has a message
	lent     bool     // somebody has the turn instead
	owing    bool     // who had it has left something to the writer that the network did not take
	mayWrite bool     // Run has begun
	writer   bool     // the writer is there
	busy     bool     // a stream was open since the last ping: the writer stays
	leaving  string   // why this side closes, once everything was said
	ping     struct { // each is numbered by the microseconds since began
		sent, answered uint64
	}
	idle chan struct{} // closed and replaced when nothing is open or queued; for Drain

	message []byte     // the reader's own: a control message in several frames
	small   *smallRead // the reader's own: nil between two messages
	headed  *Stream    // the reader's own: its head has come, of which nobody was told yet; see addResponse
}

// New makes a Link of a WebSocket whose handshake is done. It does nothing before Run.
func New(ws *websocket.Conn, side Side, o Options) *Link {
	l := newBareLink(side, o)
	l.ws = ws
	boundUnsent(ws.NetConn())
	if l.conn = ConnUnder(ws.NetConn()); l.conn != nil {
		l.conn.ReadAhead()
		l.conn.now, l.conn.patience = newWriteNow(l.conn.Conn), turnPatience
	}
	ws.SetReadLimit(MaxMessage)
	// The answer to a close is fail's: the reader would wait for a writer that is stuck before it tells anybody.
	ws.SetCloseHandler(func(int, string) error { return nil })
	ws.SetPingHandler(func(text string) error {
		l.webSocketPing.Store(&text)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wakeWriter()
		return nil
	})
	return l
}

func newBareLink(side Side, o Options) *Link {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.MaxStreams = orDefault(o.MaxStreams, defaultMaxStreams)
	o.Memory = orDefault(o.Memory, defaultMemory)
	o.MaxWindow = orDefault(o.MaxWindow, defaultMaxWindow)
	o.StallTimeout = orDefault(o.StallTimeout, defaultStall)
	l := &Link{
		o: o, began: time.Now(),
		done: make(chan struct{}), wake: make(chan struct{}, 1), idle: make(chan struct{}), work: make(chan *Stream),
		streams: map[uint64]*Stream{}, next: uint64(side), peerMax: defaultMaxStreams,
	}
	if side == AgentSide {
		l.next = 2
	}
	return l
}

func orDefault[T int | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// Run reads and writes until the link ends, and returns why; nil if this side closed it. When it returns, all streams
// have ended and all Serve calls are done.
func (l *Link) Run(ctx context.Context) error {
	_ = l.SendControl(controlCapabilities, capabilities{MaxStreams: l.o.MaxStreams})
	stop := context.AfterFunc(ctx, func() { l.fail(errClosed{context.Cause(ctx).Error()}) })
	defer stop()
	l.beginWriting()
	stopTicks := l.beginTicks()
	l.fail(l.readLoop())
	stopTicks()
	l.serving.Wait() // nothing joins it any more: the link has failed
	if _, ok := errors.AsType[errClosed](l.Err()); ok {
		return nil
	}
	return l.Err()
}

// Err says why the link ended; nil while it has not.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Done is closed when the link has ended.
func (l *Link) Done() <-chan struct{} { return l.done }

// Usable says whether new streams may go here: something was heard within 9 s, and neither side is draining.
func (l *Link) Usable() bool {
	if time.Since(l.Heard()) > deadAfter {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil && !l.goAway && l.peerAway == ""
}

// Suspect says that a sign of life is overdue: new streams should go elsewhere, if there is another link.
func (l *Link) Suspect() bool { return time.Since(l.Heard()) > suspectAfter }

// Heard is when the last byte of the peer's came.
func (l *Link) Heard() time.Time { return l.began.Add(time.Duration(l.heard.Load())) }

// RTT is the last measured round trip; 0 before the first.
func (l *Link) RTT() time.Duration { return time.Duration(l.rtt.Load()) }

// Streams is the number of streams open now, both ways.
func (l *Link) Streams() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.streams)
}

// Draining says why the link takes no new streams; "" while it does.
func (l *Link) Draining() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.goAway && l.peerAway == "" {
		return "this side is draining"
	}
	return l.peerAway
}

// Leaving says that the peer takes no new streams, or took none before the link ended.
func (l *Link) Leaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peerAway != ""
}

// Probe asks the peer for a sign of life and returns nil when one came before ctx ended.
func (l *Link) Probe(ctx context.Context) error {
	start := time.Now()
	l.sendPing(start)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			if l.Heard().After(start) {
				return nil
			}
		case <-l.done:
			return l.lost()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Open starts an exchange with the peer. It does not wait for the peer, but it may write to the network, as long as the link's
// liveness lets it. end says that the request has no body. An error wraps ErrNotRun.
func (l *Link) Open(req *Request, end bool) (*Stream, error) {
	return l.begin(req, nil, end)
}

// OpenWithBody starts an exchange whose whole body is at hand, at most 64 kB; head and body leave together.
func (l *Link) OpenWithBody(req *Request, body []byte) (*Stream, error) {
	return l.begin(req, body, true)
}

func (l *Link) begin(req *Request, body []byte, end bool) (*Stream, error) {
	head := appendRequest(make([]byte, 0, 512), req)
	if len(head) > maxHead {
		return nil, fmt.Errorf("%w: a request head of %d bytes; at most %d are sent", ErrNotRun, len(head), maxHead)
	}
	s := newStream(l)
	if req.Expect {
		s.credit = 0
	}
	turn, err := l.add(s, head, body, end)
	if err != nil {
		return nil, err
	}
	l.takeTurn(turn)
	return s, nil
}

// add gives s its number and queues what it begins with.
func (l *Link) add(s *Stream, head, body []byte, end bool) (turn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.mayOpen(); err != nil {
		return noTurn, err
	}
	s.id = l.next
	l.next += 2
	l.opened++
	l.streams[s.id], l.busy = s, true
	s.queueHead(frameOpen, head, end && len(body) == 0)
	if len(body) > 0 {
		s.queueData(body)
		s.endQueued = true
	}
	return l.submit(s), nil
}

// mayOpen says why no stream can be opened now. l.mu is held.
func (l *Link) mayOpen() error {
	switch {
	case l.err != nil:
		return fmt.Errorf("%w: %w", ErrNotRun, l.err)
	case l.goAway:
		return fmt.Errorf("%w: this side is draining", ErrNotRun)
	case l.peerAway != "":
		return fmt.Errorf("%w: the peer is draining: %s", ErrNotRun, l.peerAway)
	case l.opened >= l.peerMax:
		return fmt.Errorf("%w: all %d streams of the link are in use", ErrNotRun, l.peerMax)
	case !l.hold(initialWindow):
		return fmt.Errorf("%w: the link's %d bytes of memory are in use", ErrNotRun, l.o.Memory)
	}
	return nil
}

// hold reserves n bytes of the link's memory for a window.
func (l *Link) hold(n int) bool {
	if l.held.Add(int64(n)) > int64(l.o.Memory) {
		l.held.Add(-int64(n))
		return false
	}
	return true
}

// grow reserves n more bytes for a window that is too small for its line. Growth has half of the memory: the other half is
// new streams', which a few slow readers must not be able to use up.
func (l *Link) grow(n int) bool {
	if l.grown.Add(int64(n)) > int64(l.o.Memory)/2 || !l.hold(n) {
		l.grown.Add(-int64(n))
		return false
	}
	return true
}

// SendControl queues a control message: kind, and body as JSON, at most 1 MB.
func (l *Link) SendControl(kind string, body any) error {
	raw, err := json.Marshal(controlMessage{Kind: kind, Body: body})
	if err != nil {
		return fmt.Errorf("control message %s: %w", kind, err)
	}
	if len(raw) > maxControl {
		return fmt.Errorf("control message %s has %d bytes; at most %d are sent", kind, len(raw), maxControl)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.lostLocked()
	}
	for {
		n := min(len(raw), piece)
		flags := byte(0)
		if n < len(raw) {
			flags = flagMore
		}
		l.queueControl(frameControl, flags, 0, raw[:n])
		if raw = raw[n:]; len(raw) == 0 {
			return nil
		}
	}
}

type controlMessage struct {
	Kind string `json:"kind"`
	Body any    `json:"body"`
}

// controlCapabilities is the first control message of each side; unknown members are ignored.
const controlCapabilities = "capabilities"

type capabilities struct {
	MaxStreams int `json:"max_streams"`
}

// GoAway tells the peer that this side takes no new streams, and why. Streams under way go on, and so do those that the peer
// opens before it has read this: their bodies may be on the way already, and could not be sent again elsewhere.
func (l *Link) GoAway(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.goAway || l.err != nil {
		return
	}
	l.goAway = true
	l.queueControl(frameGoAway, 0, 0, appendGoAway(allUnderWay, reason))
	l.queuePing(time.Now())
	l.parting = l.ping.sent
}

// Drain calls GoAway, waits until all streams have ended and everything is written, and closes the link. When ctx ends
// before that, the streams that are left are reset as Leaving, the link is closed all the same, and the cause is returned.
func (l *Link) Drain(ctx context.Context, reason string) error {
	l.GoAway(reason)
	err := l.awaitQuiet(ctx)
	if err != nil {
		for _, s := range l.openStreams() {
			s.Reset(Leaving, reason)
		}
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		_ = l.awaitQuiet(late)
		cancel()
	}
	l.leave(reason)
	return err
}

// leave says that everything was said, and waits a moment for the peer to have read it: to close at once could reset the
// connection and take back what the peer has not read yet.
func (l *Link) leave(reason string) {
	l.mu.Lock()
	l.leaving = reason
	l.mu.Unlock()
	now := time.Now()
	_ = l.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, closeReason(errClosed{reason})), now.Add(closeTimeout))
	moment := time.NewTimer(leaveTimeout)
	defer moment.Stop()
	select {
	case <-l.done: // the peer has closed
	case <-moment.C:
	}
	l.Close(reason)
}

// openStreams gives the streams that are open now.
func (l *Link) openStreams() []*Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	streams := make([]*Stream, 0, len(l.streams))
	for _, s := range l.streams {
		streams = append(streams, s)
	}
	return streams
}

// awaitQuiet waits until all streams have ended and everything is written.
func (l *Link) awaitQuiet(ctx context.Context) error {
	for {
		l.mu.Lock()
		idle, quiet := l.idle, l.quiet()
		l.mu.Unlock()
		if quiet {
			return nil
		}
		select {
		case <-idle:
		case <-l.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%d streams were still open: %w", l.Streams(), context.Cause(ctx))
		}
	}
}

// Close ends the link and all its streams now, and tells the peer why.
func (l *Link) Close(reason string) { l.fail(errClosed{reason}) }

// fail ends the link once. Streams whose head was never handed to the network were not run; the others are lost.
func (l *Link) fail(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	if _, bad := errors.AsType[*protocolError](err); l.leaving != "" && !bad {
		err = errClosed{l.leaving} // the other side's close, after all was said, is what was waited for
	}
	l.err = err
	lost, notRun := l.lostLocked(), fmt.Errorf("%w: %w", ErrNotRun, err)
	l.mu.Unlock()
	for _, s := range l.openStreams() { // no more come: err is set
		if s.mine() && !s.sent() {
			s.kill(notRun, false)
		} else {
			s.kill(lost, false)
		}
	}
	close(l.done)
	code := websocket.CloseNormalClosure
	if _, ok := errors.AsType[*protocolError](err); ok {
		code = websocket.CloseProtocolError
	}
	msg := websocket.FormatCloseMessage(code, closeReason(err))
	_ = l.ws.WriteControl(websocket.CloseMessage, msg, time.Now().Add(closeTimeout))
	_ = l.ws.Close()
}

// closeReason fits a close frame (RFC 6455 section 5.5: 125 bytes with the code).
func closeReason(err error) string {
	s := err.Error()
	if c, ok := errors.AsType[errClosed](err); ok {
		s = c.reason
	}
	if len(s) > 120 {
		s = s[:120]
	}
	return s
}

func (l *Link) lost() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lostLocked()
}

func (l *Link) lostLocked() error { return fmt.Errorf("%w: %w", ErrLinkLost, l.err) }

// beginTicks keeps the link alive until stop is called, which waits for a tick under way. It is a timer and no goroutine: each
// of those has a stack, and a relay has thousands of idle links.
func (l *Link) beginTicks() (stop func()) {
	lastPing := time.Now()
	l.sendPing(lastPing)
	var mu sync.Mutex // guards t and lastPing; held by a tick until it is done
	mu.Lock()
	defer mu.Unlock()
	var t *time.Timer
	t = time.AfterFunc(pingEvery, func() {
		mu.Lock()
		defer mu.Unlock()
		if l.Err() != nil {
			return
		}
		now := time.Now()
		if now.Sub(lastPing) >= pingEvery {
			lastPing = now
			l.rest()
			l.sendPing(now)
		}
		if next := l.tick(now, lastPing); next > 0 {
			t.Reset(next)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		t.Stop()
	}
}

// tick ends a link that is not alive, and what has waited too long on one that is. It says when to look again; 0 is never.
func (l *Link) tick(now, lastPing time.Time) time.Duration {
	dead := l.Heard().Add(deadAfter)
	if !now.Before(dead) {
		l.fail(fmt.Errorf("nothing heard from the peer for %s", now.Sub(l.Heard()).Round(time.Second)))
		return 0
	}
	if l.overflow() {
		l.fail(fmt.Errorf("the peer does not read: %d bytes of control frames wait for it", maxQueued))
		return 0
	}
	l.sweep(now)
	l.sendHome()
	// No oftener than that: a relay has thousands of idle links.
	return min(lastPing.Add(pingEvery).Sub(now), dead.Sub(now))
}

// sendPing asks for a sign of life, which the ping itself is to the peer: it is sent although earlier ones are not answered.
func (l *Link) sendPing(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queuePing(now)
}

// queuePing queues a ping. l.mu is held.
func (l *Link) queuePing(now time.Time) {
	l.ping.sent = max(l.ping.sent+1, uint64(now.Sub(l.began).Microseconds()))
	l.queueControl(framePing, 0, 0, binary.BigEndian.AppendUint64(nil, l.ping.sent))
}

// sweep resets streams that make no progress.
func (l *Link) sweep(now time.Time) {
	l.mu.Lock()
	var stalled, late []*Stream
	for _, s := range l.streams {
		switch {
		case s.out.size > 0 && now.Sub(s.progress) > l.o.StallTimeout:
			stalled = append(stalled, s)
		case s.headDue(now):
			late = append(late, s)
		}
	}
	l.mu.Unlock()
	for _, s := range stalled {
		s.Reset(Stalled, fmt.Sprintf("the peer took no bytes for %s", l.o.StallTimeout))
	}
	for _, s := range late {
		s.Reset(BadSequence, "a head was not completed in time")
	}
}

// checkIdle wakes Drain when there is nothing left to do. l.mu is held.
func (l *Link) checkIdle() {
	if l.quiet() {
		close(l.idle)
		l.idle = make(chan struct{})
	}
}

// quiet says that nothing is open or queued, and that no stream is under way to here. l.mu is held.
func (l *Link) quiet() bool {
	return l.shut && len(l.streams) == 0 && !l.writing && !l.lent && l.nothingQueued()
}

func (l *Link) nothingQueued() bool {
	return !l.owing && len(l.control) == 0 && l.pong == nil && l.urgent.len() == 0 && l.bulk.len() == 0
}
