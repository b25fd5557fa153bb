package tunnel

import (
	"io"
	"net/http"
	"time"
)

const (
	// initialWindow is the credit that each half of a stream starts with, in bytes (SPEC.md section 5).
	initialWindow = 64 << 10
	// growWithin: a window that is used up by half within so many round trips is too small for the line.
	growWithin = 4
	// guessedRTT is used until a round trip has been measured.
	guessedRTT = 20 * time.Millisecond
)

// consumed is called with s.mu held and gives it back: the application has taken n body bytes. It grants the peer new
// credit in steps of half a window, and doubles a window that limits the rate, as long as the link's memory allows.
func (s *Stream) consumed(n int) {
	s.unacked += n
	grant := 0
	if !s.ended && s.err == nil && s.unacked >= s.window/2 {
		now := time.Now()
		if now.Sub(s.lastGrant) < growWithin*s.link.roundTrip() && 2*s.window <= s.link.o.MaxWindow && s.link.grow(s.window) {
			s.unacked += s.window
			s.window *= 2
		}
		grant, s.unacked, s.lastGrant = s.unacked, 0, now
		s.avail += grant
	}
	s.giveBack()
	s.mu.Unlock()
	if grant > 0 {
		s.link.sendWindow(s, grant)
	}
}

func (l *Link) roundTrip() time.Duration {
	if rtt := l.RTT(); rtt > 0 {
		return rtt
	}
	return guessedRTT
}

// sendWindow queues a grant, unless the stream is gone.
func (l *Link) sendWindow(s *Stream, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams[s.id] == s && !s.remoteDone {
		l.queueControl(frameWindow, 0, s.id, appendU32(n))
	}
}

// fieldCost is about what a field of a head costs beside its bytes.
const fieldCost = 128

// holdHead reserves the link's memory for a head of n bytes, for as long as the stream lives. It is the reader's.
func (s *Stream) holdHead(n int, h http.Header) bool {
	if n < 2<<10 {
		n += fieldCost * len(h) // nearly every head: walking a map costs more than it would tell
	} else {
		for _, values := range h {
			n += fieldCost * len(values)
		}
	}
	if !s.link.hold(n) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		s.link.held.Add(-int64(n)) // it has ended meanwhile
		return true
	}
	s.headBytes += n
	return true
}

// giveBack returns the stream's share of the link's memory once it is out of the table and holds no bytes. s.mu is held.
func (s *Stream) giveBack() {
	if s.gone && s.in.size == 0 && !s.released {
		s.released = true
		s.link.held.Add(-int64(s.window + s.headBytes))
		s.link.grown.Add(int64(initialWindow - s.window))
	}
}

// receive reads n body bytes off the link into the stream. small is where few bytes are read to first.
func (s *Stream) receive(n int, r io.Reader, small []byte) error {
	s.mu.Lock()
	if n > s.avail && !s.ended && s.err == nil {
		s.mu.Unlock()
		return violation("%d body bytes on stream %d, which has a credit of %d", n, s.id, s.avail)
	}
	s.avail -= n
	s.mu.Unlock()
	if n <= len(small) {
		if _, err := io.ReadFull(r, small[:n]); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err == nil && !s.ended {
			s.in.append(small[:n])
			s.signalReady()
		}
		return nil
	}
	c := newChunk(n)
	if _, err := io.ReadFull(r, c.buf[:n]); err != nil {
		return err
	}
	c.w = n
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.ended {
		c.free()
		return nil
	}
	s.in.push(c)
	s.signalReady()
	return nil
}

// accept completes a stream that the peer has opened.
func (s *Stream) accept(req *Request, end bool) {
	s.request = req
	s.mu.Lock()
	if s.expect = req.Expect && !end; s.expect {
		s.avail = 0
	}
	s.mu.Unlock()
	if end {
		s.remoteEnd(nil)
	}
}

func (s *Stream) hasFinalHead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.final
}

// addResponse hands a response head over; false means that too many wait. The reader tells who waits for it: with the first
// bytes of its body where those are in the same message, which saves most exchanges one of two wake-ups.
func (s *Stream) addResponse(r *Response) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.responses) >= maxInformational {
		return false
	}
	s.final = r.Status >= 200 || r.Status == http.StatusSwitchingProtocols
	s.responses = append(s.responses, r)
	return true
}

// remoteEnd: the peer's half has come whole.
func (s *Stream) remoteEnd(trailer http.Header) {
	s.mu.Lock()
	if s.err == nil && !s.ended {
		s.ended, s.trailers = true, trailer
	}
	s.signalReady()
	s.mu.Unlock()
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	s.link.finish(s, false, true)
}

// stopSending: the peer wants no more of this side's body; what it sends itself still comes.
func (s *Stream) stopSending(why error) {
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	s.heads, s.endQueued = nil, false
	s.out.drop()
	if s.sendErr == nil {
		s.sendErr = why
	}
	l.finish(s, true, false)
	s.signalRoom()
}

// finish notes that halves are done and takes the stream out of the table when both are. l.mu is held.
func (l *Link) finish(s *Stream, local, remote bool) {
	s.localDone = s.localDone || local
	s.remoteDone = s.remoteDone || remote
	if s.localDone && s.remoteDone {
		l.remove(s)
	}
}

// remove takes s out of the table. l.mu is held.
func (l *Link) remove(s *Stream) {
	if l.streams[s.id] != s {
		return
	}
	delete(l.streams, s.id)
	if s.accepted {
		l.accepted--
	} else {
		l.opened--
	}
	l.partials -= len(s.partial)
	s.partial = nil
	s.mu.Lock()
	s.gone = true
	s.giveBack()
	s.mu.Unlock()
	l.checkIdle()
}

// kill ends both halves at once and wakes everyone who waits. What has come whole can still be read, unless it is to be
// forgotten.
func (s *Stream) kill(err error, forget bool) {
	l := s.link
	l.mu.Lock()
	if s.sendErr == nil {
		s.sendErr = err
	}
	s.heads, s.endQueued = nil, false
	s.out.drop()
	s.localDone, s.remoteDone = true, true
	l.remove(s)
	l.mu.Unlock()
	s.mu.Lock()
	if s.dead == nil {
		s.dead = err
	}
	if forget || !s.ended {
		if s.err == nil {
			s.err = err
		}
		s.in.drop()
		s.responses = nil
	}
	s.giveBack()
	cancel := s.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel(err)
	}
	s.signalRoom()
	s.signalReady()
}

// headDue says whether a head in several frames has taken too long. l.mu is held.
func (s *Stream) headDue(now time.Time) bool {
	return s.partialType != 0 && now.Sub(s.partialSince) > headTimeout
}
