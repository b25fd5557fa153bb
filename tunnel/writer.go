package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// budget is what the writer puts into one message: with the WebSocket's own header (at most 14 bytes, RFC 6455
	// section 5.2) it is 64 kB, which is four whole TLS records.
	budget = MaxMessage - 14
	// tlsRecord is the most that TLS puts into one record (RFC 8446 section 5.1).
	tlsRecord = 16 << 10
	// piece is the largest payload of a frame that the writer makes.
	piece = budget - headerSize
	// quantum is how many body bytes one stream may put into a message before it is another's turn.
	quantum = 16 << 10
	// urgentData is the size up to which queued body bytes go before bulk.
	urgentData = 4 << 10
	// leastPart is the least of a head or of trailers that is worth a frame of its own.
	leastPart = 512
	// bulkShare is kept free in a message for bulk while there is any, so that many small streams cannot starve it.
	bulkShare = 16 << 10
)

// A ring is the streams that have something to send, first come first served. Each stream is in one ring at most.
type ring struct {
	items []*Stream
	head  int
}

func (r *ring) len() int { return len(r.items) - r.head }

func (r *ring) push(s *Stream) {
	if r.head > 0 && r.head == len(r.items) {
		r.items, r.head = r.items[:0], 0
	}
	r.items = append(r.items, s)
}

func (r *ring) pop() *Stream {
	s := r.items[r.head]
	r.items[r.head] = nil
	r.head++
	return s
}

// unpop gives back what pop has given, as the first again.
func (r *ring) unpop(s *Stream) {
	r.head--
	r.items[r.head] = s
}

// schedule puts s into its ring if it has something to send now, and has it written. It is for who must not wait for the
// network; the others submit. l.mu is held.
func (l *Link) schedule(s *Stream) {
	if l.enqueue(s) {
		l.wakeWriter()
	}
}

// A turn is the right, and the duty, to write the link's next message in the writer's place.
type turn byte

const (
	noTurn   turn = iota // the writer does it, or whoever has the turn
	soonTurn             // after others had a chance to add to the message
	nowTurn              // at once: there is enough for one, or nobody who could add to it
)

// submit is schedule for a goroutine that may wait for the network. If nobody is writing, it gets the turn, and calls
// takeTurn when it has given l.mu back: no writer has to be woken then, which is most of what a lone small exchange costs, and
// while who sends much writes, more comes that it will send next. l.mu is held.
func (l *Link) submit(s *Stream) turn {
	if !l.enqueue(s) {
		return noTurn
	}
	if l.lent || l.writing || l.owing || !l.mayWrite || l.err != nil {
		l.wakeWriter()
		return noTurn
	}
	l.lent = true
	if len(l.streams) > 1 && (len(s.heads) > 0 || s.out.size <= urgentData) {
		return soonTurn
	}
	return nowTurn
}

// batches are for the time of a turn; they change nothing else.
var batches = sync.Pool{New: func() any { return new(batch) }}

// turnPatience is how long who has the turn waits for the network. It is long enough for a message on any line that is not slow, and
// too short for anybody to notice.
const turnPatience = 100 * time.Millisecond

// takeTurn writes the next message, if t says so, and leaves what comes after it to the writer, as well as what the network does not
// take soon: who sends has a clock, and a caller who may leave, and neither ends a write on a line that has stopped.
func (l *Link) takeTurn(t turn) {
	if t == noTurn {
		return
	}
	if t == soonTurn {
		runtime.Gosched() // as in writeLoop
	}
	b := batches.Get().(*batch)
	l.mu.Lock()
	l.fill(b)
	l.mu.Unlock()
	var err error
	owes := false
	if len(b.frames) > 0 {
		owes, err = l.writeHastily(b)
	}
	b.reset()
	batches.Put(b)
	if err != nil {
		l.unwritten(err) // and keeps the turn: nobody writes any more
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent, l.owing = false, owes
	if l.nothingQueued() && l.webSocketPing.Load() == nil {
		l.checkIdle()
	} else {
		l.wakeWriter()
	}
}

// enqueue puts s into its ring if it has something to send now and is not there. l.mu is held.
func (l *Link) enqueue(s *Stream) bool {
	if s.scheduled || !s.sendable() {
		return false
	}
	s.scheduled = true
	if len(s.heads) > 0 || s.out.size <= urgentData {
		l.urgent.push(s)
	} else {
		l.bulk.push(s)
	}
	return true
}

// wakeWriter has what is queued written, by the writer that is there or by a new one. l.mu is held.
func (l *Link) wakeWriter() {
	if l.lent {
		return // takeTurn does it
	}
	if !l.writer {
		if l.mayWrite && l.err == nil { // Run waits for it: it does so after it has set err
			l.writer = true
			l.serving.Go(l.writeLoop)
		}
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// queueControl queues a frame that goes before all stream data. What exceeds the bound is dropped and ends the link at
// the next tick (overflow). l.mu is held.
func (l *Link) queueControl(typ frameType, flags byte, stream uint64, payload []byte) {
	if l.queued > maxQueued {
		return
	}
	var h [headerSize]byte
	frameHeader{typ, flags, len(payload), stream}.put(&h)
	f := append(append(make([]byte, 0, headerSize+len(payload)), h[:]...), payload...)
	l.control = append(l.control, f)
	l.queued += len(f)
	l.wakeWriter()
}

func (l *Link) overflow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queued > maxQueued
}

// A batch is one message being put together: what to write, and which chunks are free afterwards.
type batch struct {
	frames []batchFrame
	size   int
}

type batchFrame struct {
	header  [headerSize]byte
	raw     []byte // a whole encoded frame, instead of header and payload
	payload []byte
	spent   *chunk
}

func (b *batch) room() int { return budget - b.size }

func (b *batch) add(h frameHeader, payload []byte, spent *chunk) {
	h.length = len(payload)
	f := batchFrame{payload: payload, spent: spent}
	h.put(&f.header)
	b.frames = append(b.frames, f)
	b.size += headerSize + len(payload)
}

func (b *batch) reset() {
	for i := range b.frames {
		if c := b.frames[i].spent; c != nil {
			c.free()
		}
	}
	clear(b.frames)
	b.frames, b.size = b.frames[:0], 0
}

// beginWriting has what was queued before Run written, and from now on whatever is queued.
func (l *Link) beginWriting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mayWrite = true
	l.wakeWriter()
}

// rest lets the writer go, once it has nothing to write, if no stream was open since the last call.
func (l *Link) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = len(l.streams) > 0
}

// stay says whether the writer is to wait for more. It does while streams come and go, since a new goroutine for each message
// would cost more than to wake one; on an idle link it goes, and its stack with it.
func (l *Link) stay() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer = l.busy || len(l.streams) > 0 || len(l.wake) > 0
	return l.writer
}

// writeLoop takes everything that is queued and writes it as one message, again and again. It is the only writer; it ends
// with the link, or when it is not to stay.
func (l *Link) writeLoop() {
	var b batch
	defer b.reset()
	for {
		// Whoever is ready to run may have something to send too: one message for all of them costs one system call.
		runtime.Gosched()
		l.answerWebSocketPing()
		for l.take(&b) {
			if err := l.write(&b); err != nil {
				l.unwritten(err)
				<-l.done
				return
			}
			b.reset()
		}
		if !l.stay() {
			return
		}
		select {
		case <-l.done:
			return
		case <-l.wake:
		}
	}
}

// unwritten ends the link for what could not be written, unless this side has said its last word: the peer has yet to read
// it, and what comes from there meanwhile needs no answer. Streams above the GOAWAY were not run.
func (l *Link) unwritten(err error) {
	if !errors.Is(err, websocket.ErrCloseSent) {
		l.fail(fmt.Errorf("write to the peer: %w", err))
	}
}

// answerWebSocketPing answers pings of the WebSocket's own (RFC 6455 section 5.5.2), which something on the way may send.
// Those that come faster than the answers leave are answered once.
func (l *Link) answerWebSocketPing() {
	if text := l.webSocketPing.Swap(nil); text != nil {
		_ = l.ws.WriteControl(websocket.PongMessage, []byte(*text), time.Now().Add(closeTimeout))
	}
}

// write writes what is owed, and a message if there is one.
func (l *Link) write(b *batch) error {
	if err := l.conn.settle(); err != nil || len(b.frames) == 0 {
		return err
	}
	if err := l.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return l.conn.Together(b.size, func() error { return l.writeMessage(b) })
}

// writeHastily writes a message without waiting long for the network, and says whether something of it is owed then.
func (l *Link) writeHastily(b *batch) (owes bool, err error) {
	if err := l.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return false, err
	}
	return l.conn.hastily(b.size, func() error { return l.writeMessage(b) })
}

func (l *Link) writeMessage(b *batch) error {
	w, err := l.ws.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	for i := range b.frames {
		f := &b.frames[i]
		if f.raw != nil {
			_, err = w.Write(f.raw)
		} else if _, err = w.Write(f.header[:]); err == nil && len(f.payload) > 0 {
			_, err = w.Write(f.payload)
		}
		if err != nil {
			return err
		}
	}
	return w.Close()
}

// take fills b with the next message, and says whether there is one to write now.
func (l *Link) take(b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lent {
		return false
	}
	l.fill(b)
	l.writing = len(b.frames) > 0 || l.owing
	l.owing = false
	if !l.writing {
		l.checkIdle()
	}
	return l.writing
}

// fill puts into b what goes into the next message: control frames, then streams with little to send, then bulk, each stream
// in its turn. l.mu is held.
func (l *Link) fill(b *batch) {
	away := l.peerAway != ""
	if !away {
		l.takePong(b)
	}
	l.takeControl(b)
	now := time.Now()
	reserve := 0
	if l.bulk.len() > 0 {
		reserve = bulkShare
	}
	for n := l.urgent.len(); n > 0 && b.room() > reserve+headerSize; n-- {
		s := l.urgent.pop()
		l.serveTurn(s, b, now)
		if s.unopened() {
			// Numbers have to reach the peer in their order: no stream that was opened later may pass it.
			l.urgent.unpop(s)
			s.scheduled = true
			break
		}
	}
	if away && l.urgent.len() == 0 {
		l.takePong(b) // behind every OPEN: a peer that leaves takes it for the word that there are no more
	}
	for before := -1; before != b.size && b.room() > 2*headerSize; {
		before = b.size
		for n := l.bulk.len(); n > 0 && b.room() > 2*headerSize; n-- {
			l.serveTurn(l.bulk.pop(), b, now)
		}
	}
}

func (l *Link) takePong(b *batch) {
	if l.pong != nil && b.room() >= headerSize+len(l.pong) {
		b.add(frameHeader{typ: framePong}, l.pong, nil)
		l.pong = nil
	}
}

func (l *Link) takeControl(b *batch) {
	n := 0
	for _, f := range l.control {
		if len(f) > b.room() {
			break
		}
		b.frames = append(b.frames, batchFrame{raw: f})
		b.size += len(f)
		l.queued -= len(f)
		n++
	}
	clear(l.control[:n])
	if l.control = l.control[n:]; len(l.control) == 0 {
		l.control = nil
	}
}

// serveTurn lets one stream put its share into b and queues it again if it has more.
func (l *Link) serveTurn(s *Stream, b *batch, now time.Time) {
	s.scheduled = false
	if s.localDone {
		return // it was reset while it waited
	}
	share := quantum
	if l.bulk.len() == 0 {
		share = budget // nobody else has much to send
	}
	before := b.size
	s.take(b, share)
	if b.size != before {
		s.progress = now
	}
	if s.sendable() && !s.unopened() {
		s.scheduled = true
		l.bulk.push(s) // the writer takes again until nothing is left
	}
}

// unopened says that s is to be opened and that nothing of it has been taken yet. l.mu is held.
func (s *Stream) unopened() bool { return s.mine() && !s.started && !s.localDone && len(s.heads) > 0 }

// take moves what s may send now into b: heads, then body bytes within its credit and its share, then the end. l.mu is
// held.
func (s *Stream) take(b *batch, share int) {
	for len(s.heads) > 0 {
		h := s.heads[0]
		n := min(len(h.payload), b.room()-headerSize)
		if n < min(len(h.payload), leastPart) {
			return // goes on in the next message
		}
		s.started = true
		if n < len(h.payload) {
			b.add(frameHeader{typ: h.typ, flags: flagMore, stream: s.id}, h.payload[:n], nil)
			s.heads[0].payload = h.payload[n:]
			return
		}
		s.heads = s.heads[1:]
		b.add(frameHeader{typ: h.typ, flags: h.flags, stream: s.id}, h.payload, nil)
		if h.flags&flagEnd != 0 {
			s.link.finish(s, true, false)
			return
		}
	}
	s.takeData(b, share)
	if s.out.size == 0 && s.endQueued && !s.localDone && headerSize <= b.room() {
		s.takeEnd(b)
	}
}

func (s *Stream) takeData(b *batch, share int) {
	for s.out.size > 0 && s.credit > 0 && share > 0 && !s.localDone {
		c := s.out.chunks[0]
		n := int(min(int64(c.w-c.r), s.credit, int64(share), int64(b.room()-headerSize)))
		if n <= 0 {
			return
		}
		payload := c.buf[c.r : c.r+n]
		c.r += n
		s.out.size -= n
		s.credit -= int64(n)
		share -= n
		var spent *chunk
		if c.r == c.w {
			spent = s.out.pop()
		}
		h := frameHeader{typ: frameData, stream: s.id}
		last := s.out.size == 0 && s.endQueued && s.trailer == nil
		if last {
			h.flags = flagEnd
		}
		b.add(h, payload, spent)
		if last {
			s.link.finish(s, true, false)
		}
	}
	if s.out.size <= maxOut/2 {
		s.signalRoom()
	}
}

// takeEnd adds the frames that end the local half when no body byte is left: trailers, or an empty DATA.
func (s *Stream) takeEnd(b *batch) {
	if s.trailer == nil {
		b.add(frameHeader{typ: frameData, flags: flagEnd, stream: s.id}, nil, nil)
		s.link.finish(s, true, false)
		return
	}
	for {
		n := min(len(s.trailer), b.room()-headerSize)
		if n < min(len(s.trailer), leastPart) {
			return // goes on in the next message
		}
		flags := byte(0)
		if n < len(s.trailer) {
			flags = flagMore
		}
		b.add(frameHeader{typ: frameTrailer, flags: flags, stream: s.id}, s.trailer[:n], nil)
		if s.trailer = s.trailer[n:]; len(s.trailer) == 0 {
			s.link.finish(s, true, false)
			return
		}
	}
}

// queueHead queues an encoded head, in several frames if it is large. l.mu is held.
func (s *Stream) queueHead(typ frameType, head []byte, end bool) {
	for {
		n := min(len(head), piece)
		f := outHead{typ: typ, payload: head[:n]}
		head = head[n:]
		switch {
		case len(head) > 0:
			f.flags = flagMore
		case end:
			f.flags = flagEnd
		}
		s.heads = append(s.heads, f)
		if len(head) == 0 {
			return
		}
	}
}

// queueData queues body bytes. l.mu is held.
func (s *Stream) queueData(p []byte) {
	if s.out.size == 0 {
		s.progress = time.Now()
	}
	s.out.append(p)
}

// sendable says whether s has anything that may be sent now. l.mu is held.
func (s *Stream) sendable() bool {
	if s.localDone {
		return false
	}
	return len(s.heads) > 0 || (s.out.size > 0 && s.credit > 0) || (s.out.size == 0 && s.endQueued)
}

func appendU32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
