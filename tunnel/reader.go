package tunnel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// readLoop reads frames until the link ends. It never waits for a stream: what a stream cannot take within its window
// is the peer's fault.
func (l *Link) readLoop() error {
	for {
		kind, r, err := l.ws.NextReader()
		if err != nil {
			return readError(err)
		}
		if kind != websocket.BinaryMessage {
			return violation("a text message")
		}
		if err := l.readMessage(heardReader{l, r}); err != nil {
			return err
		}
	}
}

func readError(err error) error {
	if ce, ok := errors.AsType[*websocket.CloseError](err); ok && ce.Code != websocket.CloseAbnormalClosure {
		return fmt.Errorf("the peer closed the link: %s", printable([]byte(ce.Text)))
	}
	if errors.Is(err, websocket.ErrReadLimit) {
		return violation("a message of more than %d bytes", MaxMessage)
	}
	return fmt.Errorf("read from the peer: %w", err)
}

// heardReader notes each sign of life, so that a large message on a slow line counts while it arrives.
type heardReader struct {
	l *Link
	r io.Reader
}

func (h heardReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 {
		h.l.heard.Store(int64(time.Since(h.l.began)))
	}
	return n, err
}

// A smallRead is where small payloads are read to. A link borrows one for the time of a message.
type smallRead [smallChunk]byte

// smallReads is where they come from; it changes nothing else.
var smallReads = sync.Pool{New: func() any { return new(smallRead) }}

func (l *Link) readMessage(r io.Reader) error {
	l.small = smallReads.Get().(*smallRead)
	defer func() {
		smallReads.Put(l.small)
		l.small = nil
		l.tellHead()
	}()
	var head [headerSize]byte
	for {
		switch _, err := io.ReadFull(r, head[:]); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return violation("a frame header is cut short")
		case err != nil:
			return readError(err)
		}
		h := parseFrameHeader(&head)
		if h.length > maxPayload {
			return violation("a frame of %d bytes", h.length)
		}
		if l.headed != nil && h.stream == l.headed.id && h.typ == frameData {
			l.headed = nil // it is told with the body
		} else {
			l.tellHead()
		}
		switch err := l.readFrame(h, r); {
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
			return violation("a frame is cut short")
		case err != nil:
			return err
		}
	}
}

// tellHead wakes who waits for the response head that has come last.
func (l *Link) tellHead() {
	if l.headed != nil {
		l.headed.signalReady()
		l.headed = nil
	}
}

func (l *Link) readFrame(h frameHeader, r io.Reader) error {
	if h.typ == frameData {
		return l.readData(h, r)
	}
	payload, spent, err := l.payload(h.length, r)
	if err != nil {
		return err
	}
	if spent != nil {
		defer spent.free()
	}
	switch h.typ {
	case frameOpen:
		return l.onOpen(h, payload)
	case frameHead:
		return l.onHead(h, payload)
	case frameTrailer:
		return l.onTrailer(h, payload)
	case frameWindow:
		return l.onWindow(h, payload)
	case frameReset:
		return l.onReset(h, payload)
	case frameControl:
		return l.aside(func() error { return l.onControl(h, payload) })
	case framePing:
		return l.onPing(payload)
	case framePong:
		return l.onPong(payload)
	case frameGoAway:
		return l.onGoAway(payload)
	}
	return nil // an unknown type, from a newer peer: skipped
}

// aside calls f in a goroutine of its own and waits for it. A stack that has grown hardly ever shrinks, and the reader has
// its own for as long as the link lives: what needs a deep one, and is rare, is not done on it.
func (l *Link) aside(f func() error) error {
	result := make(chan error, 1)
	l.serving.Go(func() { result <- f() })
	return <-result
}

// payload reads n bytes, into memory that is good until the next frame.
func (l *Link) payload(n int, r io.Reader) ([]byte, *chunk, error) {
	if n <= len(l.small) {
		_, err := io.ReadFull(r, l.small[:n])
		return l.small[:n], nil, err
	}
	c := newChunk(n)
	_, err := io.ReadFull(r, c.buf[:n])
	return c.buf[:n], c, err
}

// find gives the stream, nil for one that is finished; a stream that never was is the peer's fault.
func (l *Link) find(h frameHeader) (*Stream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.streams[h.stream]; s != nil {
		return s, nil
	}
	if h.stream == 0 || h.stream > l.lastPeer && !l.own(h.stream) || h.stream >= l.next && l.own(h.stream) {
		return nil, violation("frame %#x for stream %d, which is not open", byte(h.typ), h.stream)
	}
	return nil, nil
}

// own says whether id is one of the numbers with which this side opens streams.
func (l *Link) own(id uint64) bool { return id%2 == l.next%2 }

func (l *Link) readData(h frameHeader, r io.Reader) error {
	s, err := l.find(h)
	if err != nil {
		return err
	}
	if s == nil {
		_, err := io.CopyN(io.Discard, r, int64(h.length))
		return err
	}
	if err := s.receive(h.length, r, l.small[:]); err != nil {
		return err
	}
	if h.flags&flagEnd != 0 {
		s.remoteEnd(nil)
	}
	return nil
}

func (l *Link) onOpen(h frameHeader, payload []byte) error {
	l.mu.Lock()
	s := l.streams[h.stream]
	switch {
	case l.err != nil: // nobody would end a stream that comes now
		defer l.mu.Unlock()
		return l.err
	case h.stream == 0 || l.own(h.stream):
		l.mu.Unlock()
		return violation("OPEN of stream %d", h.stream)
	case s == nil && h.stream <= l.lastPeer:
		// The rest of a head that was refused; or one that comes too late, from a peer that does not keep the order of numbers:
		// it must not wait for an answer for ever. Who knows it already passes over this.
		l.queueControl(frameReset, 0, h.stream, appendReset(Refused, "streams are opened in the order of their numbers"))
		l.mu.Unlock()
		return nil
	case s != nil && s.partialType != frameOpen:
		l.mu.Unlock()
		return violation("OPEN of stream %d, which is open", h.stream)
	case s == nil:
		l.lastPeer = h.stream
		if l.shut || l.full() || l.o.Serve == nil || !l.hold(initialWindow) {
			l.queueControl(frameReset, 0, h.stream, appendReset(Refused, l.whyRefused()))
			l.mu.Unlock()
			return nil // frames that follow for it are skipped
		}
		s = newStream(l)
		s.id, s.accepted = h.stream, true
		l.accepted++
		l.streams[s.id], l.busy = s, true
	}
	l.mu.Unlock()
	head, err := s.collect(h, payload)
	if err != nil || head == nil {
		return err
	}
	req, err := parseRequest(head)
	if err != nil {
		l.o.Log.Warn("stream refused", "stream", s.id, "cause", err)
		s.Reset(BadSequence, err.Error())
		return nil
	}
	if !s.holdHead(len(head), req.Header) {
		s.Reset(Refused, "the link's memory is in use")
		return nil
	}
	s.accept(req, h.flags&flagEnd != 0)
	l.running.Add(1)
	select {
	case l.work <- s:
	default:
		l.serving.Go(func() { l.serveMany(s) })
	}
	return nil
}

// full says that the peer may open no more streams. Serve calls may outlive their streams for a moment; a peer that opens
// and resets without end must not pile them up. l.mu is held.
func (l *Link) full() bool {
	return l.accepted >= l.o.MaxStreams || l.running.Load() >= 2*int64(l.o.MaxStreams)
}

// whyRefused is for the peer's log. l.mu is held.
func (l *Link) whyRefused() string {
	switch {
	case l.shut:
		return "draining"
	case l.full():
		return fmt.Sprintf("all %d streams are in use", l.o.MaxStreams)
	case l.o.Serve == nil:
		return "this side serves no streams"
	}
	return "the link's memory is in use"
}

// serveMany serves one stream after another until it is sent home or the link ends. A goroutine that has served has the
// stack that serving needs; a new one grows it anew, which costs more than anything else about a small exchange.
func (l *Link) serveMany(s *Stream) {
	for s != nil {
		l.serve(s)
		l.waiting.Add(1)
		select {
		case s = <-l.work:
		case <-l.done:
			s = nil
		}
		l.waiting.Add(-1)
	}
}

// serve runs Serve and leaves nothing of the stream behind.
func (l *Link) serve(s *Stream) {
	defer l.running.Add(-1)
	defer s.release()
	l.o.Serve(s)
}

// sendHome ends a quarter of the goroutines that wait for streams, so that a quiet link soon has none.
func (l *Link) sendHome() {
	for range l.waiting.Load()/4 + 1 {
		select {
		case l.work <- nil:
		default:
			return
		}
	}
}

func (l *Link) onHead(h frameHeader, payload []byte) error {
	s, err := l.find(h)
	if err != nil || s == nil {
		return err
	}
	if s.accepted || s.hasFinalHead() {
		return violation("HEAD on stream %d, which expects none", h.stream)
	}
	head, err := s.collect(h, payload)
	if err != nil || head == nil {
		return err
	}
	resp, err := parseResponse(head)
	if err != nil {
		l.o.Log.Warn("response refused", "stream", s.id, "cause", err)
		s.Reset(BadSequence, err.Error())
		return nil
	}
	if !s.holdHead(len(head), resp.Header) {
		s.Reset(Internal, "the link's memory is in use")
		return nil
	}
	if !s.addResponse(resp) {
		s.Reset(BadSequence, fmt.Sprintf("more than %d informational responses", maxInformational))
		return nil
	}
	if h.flags&flagEnd != 0 {
		s.remoteEnd(nil)
	} else {
		l.headed = s
	}
	return nil
}

func (l *Link) onTrailer(h frameHeader, payload []byte) error {
	s, err := l.find(h)
	if err != nil || s == nil {
		return err
	}
	block, err := s.collect(h, payload)
	if err != nil || block == nil {
		return err
	}
	trailer, err := parseFields(string(block))
	if err != nil {
		s.Reset(BadSequence, err.Error())
		return nil
	}
	s.remoteEnd(trailer)
	return nil
}

// collect puts a head that comes in several frames together. It gives nil while the head is incomplete. The result is
// good until the next frame.
func (s *Stream) collect(h frameHeader, payload []byte) ([]byte, error) {
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.partialType == 0 && h.flags&flagMore == 0 {
		if payload == nil {
			payload = []byte{}
		}
		return payload, nil
	}
	if s.partialType != 0 && s.partialType != h.typ {
		return nil, violation("frame %#x in the middle of a head of stream %d", byte(h.typ), h.stream)
	}
	if l.streams[s.id] != s {
		return nil, nil // reset meanwhile
	}
	if s.partialType == 0 {
		s.partialType, s.partialSince = h.typ, time.Now()
	}
	if len(s.partial)+len(payload) > maxHead || l.partials+len(payload) > maxPartial {
		return nil, violation("a head of more than %d bytes, or too many at once", maxHead)
	}
	s.partial = append(s.partial, payload...)
	l.partials += len(payload)
	if h.flags&flagMore != 0 {
		return nil, nil
	}
	whole := s.partial
	l.partials -= len(whole)
	s.partial, s.partialType = nil, 0
	return whole, nil
}

func (l *Link) onWindow(h frameHeader, payload []byte) error {
	n, err := parseU32(payload)
	if err != nil {
		return err
	}
	s, err := l.find(h)
	if err != nil || s == nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.credit += int64(n); s.credit > maxCredit {
		return violation("a credit of %d bytes", s.credit)
	}
	if s.out.size > 0 && s.credit == int64(n) {
		s.progress = time.Now()
	}
	l.schedule(s)
	s.signalRoom()
	return nil
}

func (l *Link) onReset(h frameHeader, payload []byte) error {
	code, reason, err := parseReset(payload)
	if err != nil {
		return err
	}
	s, err := l.find(h)
	if err != nil || s == nil {
		return err
	}
	reset := &ResetError{Code: code, Reason: reason, Remote: true}
	if code == NoMore {
		s.stopSending(reset)
		return nil
	}
	s.kill(reset, false)
	return nil
}

func (l *Link) onControl(h frameHeader, payload []byte) error {
	if h.flags&flagMore != 0 || l.message != nil {
		if len(l.message)+len(payload) > maxControl {
			return violation("a control message of more than %d bytes", maxControl)
		}
		l.message = append(l.message, payload...)
		if h.flags&flagMore != 0 {
			return nil
		}
		payload, l.message = l.message, nil
	}
	var m struct {
		Kind string          `json:"kind"`
		Body json.RawMessage `json:"body"`
	}
	if err := json.Unmarshal(payload, &m); err != nil {
		return violation("a control message is not JSON: %v", err)
	}
	if m.Kind != controlCapabilities {
		if l.o.Control != nil {
			l.o.Control(m.Kind, m.Body)
		}
		return nil
	}
	var c capabilities
	if err := json.Unmarshal(m.Body, &c); err != nil {
		return violation("capabilities: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.MaxStreams > 0 {
		l.peerMax = c.MaxStreams
	}
	return nil
}

// onPing answers; pings that come faster than the answers leave are answered once.
func (l *Link) onPing(payload []byte) error {
	if _, err := parseU64(payload); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pong = append([]byte(nil), payload...)
	l.wakeWriter()
	return nil
}

func (l *Link) onPong(payload []byte) error {
	id, err := parseU64(payload)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if id > l.ping.answered && id <= l.ping.sent {
		l.ping.answered = id
		l.rtt.Store(max(int64(time.Since(l.began)-time.Duration(id)*time.Microsecond), 1))
	}
	if l.goAway && l.ping.answered >= l.parting {
		l.shut = true
		l.checkIdle()
	}
	return nil
}

// onGoAway: streams above the last one that the peer accepted were not run.
func (l *Link) onGoAway(payload []byte) error {
	last, reason, err := parseGoAway(payload)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if l.peerAway == "" {
		l.peerAway = "draining"
		if reason != "" {
			l.peerAway = reason
		}
	}
	var above []*Stream
	for id, s := range l.streams {
		if l.own(id) && id > last {
			above = append(above, s)
		}
	}
	l.mu.Unlock()
	for _, s := range above {
		s.kill(fmt.Errorf("%w: the peer is draining: %s", ErrNotRun, reason), false)
	}
	if l.o.GoAway != nil {
		l.o.GoAway(reason)
	}
	return nil
}
