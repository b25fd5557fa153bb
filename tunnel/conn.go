package tunnel

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A Conn is the network connection underneath a link's TLS. TLS hands each of its records, 16 kB at most, to the network
// on its own, and reads them one by one; that is four system calls for a message, and four times the other side wakes up.
// A Conn lets the link send a message's records together, and reads ahead while much comes.
//
// Until a link uses it, it is the connection that it wraps and nothing else. Who makes the connection wraps it, before TLS;
// the link finds it by itself, through every connection that has a method NetConn as tls.Conn does. The relay's connections
// with callers are the same for large bodies.
type Conn struct {
	net.Conn

	mu     sync.Mutex // guards what follows; held across writes, so that their order stays
	held   *segment   // what has yet to leave; nil if nothing has
	corked bool       // it waits for uncork, otherwise for settle
	hasty  bool       // what the network does not take soon is held back
	err    error      // why what was held back did not leave: nothing may follow it
	now    *writeNow  // nil where a write has to wait

	patience time.Duration // how long who is hasty waits all the same

	// The reader's own.
	ahead bool     // read ahead where it pays
	busy  bool     // the last read filled what it was given: more is there
	got   *segment // nil unless it holds what was read ahead
}

const (
	// segmentSize holds a message with what TLS adds to each of its records.
	segmentSize = MaxMessage + 1<<10
	// mostRecord is the most that a record of TLS 1.3 takes (RFC 8446 section 5.2).
	mostRecord = tlsRecord + 256 + 5
)

// A segment is memory that a busy connection borrows; an idle one has none.
type segment struct {
	buf  [segmentSize]byte
	r, w int // buf[r:w] is what it holds
}

var segments = sync.Pool{New: func() any { return new(segment) }}

func newSegment() *segment {
	s := segments.Get().(*segment)
	s.r, s.w = 0, 0
	return s
}

// WrapConn makes a Conn of a network connection.
func WrapConn(c net.Conn) *Conn { return &Conn{Conn: c} }

// beneath is what the Conn wraps. It has no method NetConn, which would let others get by what embeds it.
func (c *Conn) beneath() net.Conn { return c.Conn }

func (c *Conn) itself() *Conn { return c }

// ConnUnder finds the Conn on which c is built; nil if there is none.
func ConnUnder(c net.Conn) *Conn {
	for c != nil {
		if found, ok := c.(interface{ itself() *Conn }); ok { // a Conn, or what embeds one
			return found.itself()
		}
		c = unwrap(c)
	}
	return nil
}

// unwrap gives the connection below c, nil if c says of none.
func unwrap(c net.Conn) net.Conn {
	switch c := c.(type) {
	case interface{ beneath() net.Conn }:
		return c.beneath()
	case interface{ NetConn() net.Conn }:
		return c.NetConn()
	}
	return nil
}

// Together calls write, which writes about n bytes, and hands the records that TLS makes of them to the network in one piece.
// A nil Conn only calls it.
func (c *Conn) Together(n int, write func() error) error {
	if c == nil || n <= tlsRecord {
		return write()
	}
	c.cork()
	err := write()
	return errors.Join(err, c.uncork())
}

// cork holds back what is written until uncork.
func (c *Conn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
	if c.held == nil {
		c.held = newSegment()
	}
}

// uncork writes what was held back.
func (c *Conn) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	return c.letGo()
}

// letGo writes what is held back, and forgets it unless the network has not taken it. c.mu is held.
func (c *Conn) letGo() error {
	if c.held == nil {
		return nil
	}
	err := c.release()
	if err != nil || c.held.w == 0 {
		segments.Put(c.held)
		c.held = nil
	}
	return err
}

// release writes what is held back, and goes on holding back. c.mu is held.
func (c *Conn) release() error {
	held := c.held.buf[:c.held.w]
	c.held.w = 0
	if len(held) == 0 || c.err != nil {
		return c.err
	}
	var n int
	n, c.err = c.put(held)
	if c.err == nil {
		c.held.w = copy(c.held.buf[:], held[n:])
	}
	return c.err
}

// put writes p; where it is hasty, what of it the network takes at once, or with a little patience. c.mu is held.
func (c *Conn) put(p []byte) (int, error) {
	if !c.hasty {
		return c.Conn.Write(p)
	}
	n, err := c.now.write(p)
	if err != nil || n == len(p) || c.patience == 0 {
		return n, err
	}
	// The kernel's queue is full, as it is most of the time while much is sent; to wake another goroutine for the rest costs more.
	now := time.Now()
	_ = c.Conn.SetWriteDeadline(now.Add(c.patience))
	more, err := c.Conn.Write(p[n:])
	_ = c.Conn.SetWriteDeadline(now.Add(writeTimeout)) // what was in force, and what settle has
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n + more, err
}

// hastily is Together for who must not wait for the network for long. What that does not take is kept, and owed: settle is to be
// called, and nothing hastily before. Where the system cannot do so, it waits.
func (c *Conn) hastily(n int, write func() error) (owes bool, err error) {
	if c == nil || c.now == nil {
		return false, c.Together(n, write)
	}
	c.setHasty(true)
	err = c.Together(n, write)
	return c.setHasty(false), err
}

// setHasty also says whether anything is owed.
func (c *Conn) setHasty(hasty bool) (owes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hasty = hasty
	return c.held != nil
}

// settle writes what is owed, within the deadline that is set. A nil Conn owes nothing.
func (c *Conn) settle() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.letGo()
}

func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if c.held == nil {
		n, err := c.put(p)
		if err != nil || n == len(p) {
			return n, err
		}
		c.held = newSegment()
		c.held.w = copy(c.held.buf[:], p[n:])
		return len(p), nil
	}
	if len(p) > segmentSize-c.held.w {
		c.hasty = false // no more can be owed than that
		if err := c.release(); err != nil {
			return 0, err
		}
	}
	if len(p) > segmentSize {
		return c.Conn.Write(p)
	}
	c.held.w += copy(c.held.buf[c.held.w:], p)
	return len(p), nil
}

// ReadAhead lets reads take more from the network than was asked for. The reader alone calls it.
func (c *Conn) ReadAhead() { c.ahead = true }

// AtHand says that a whole TLS record has been read ahead: to read it does not wait. The reader alone calls it.
func (c *Conn) AtHand() bool { return c != nil && c.got != nil && c.got.w-c.got.r >= mostRecord }

func (c *Conn) Read(p []byte) (int, error) {
	if c.got == nil {
		if !c.ahead || !c.busy || len(p) >= segmentSize {
			n, err := c.Conn.Read(p)
			c.busy = n == len(p)
			return n, err
		}
		s := newSegment()
		n, err := c.Conn.Read(s.buf[:])
		if n == 0 {
			segments.Put(s)
			return 0, err
		}
		// An error that came with bytes comes again with the next read.
		s.w, c.got, c.busy = n, s, n == segmentSize
	}
	s := c.got
	n := copy(p, s.buf[s.r:s.w])
	if s.r += n; s.r == s.w {
		segments.Put(s)
		c.got = nil
		c.busy = c.busy || n == len(p)
	}
	return n, nil
}
