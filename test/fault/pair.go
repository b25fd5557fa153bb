package fault

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// socketBuffer is small, so that what the kernels hold is little beside what the line itself holds.
	socketBuffer = 64 << 10
	// readSize is how much is taken from a socket at once.
	readSize = 16 << 10
	// leastHeld is what a line holds at least: a router's buffer. A slow or long one holds what is under way on it and
	// routerBuffer more; mostHeld is the bound of all.
	leastHeld    = 64 << 10
	mostHeld     = 8 << 20
	routerBuffer = 50 * time.Millisecond
)

// A pair is the two connections of one that passes through.
type pair struct {
	p            *Proxy
	caller, goal *net.TCPConn
	ctx          context.Context
	cancel       context.CancelFunc
	once         sync.Once
	lost         [2]bool // in a black hole for good; guarded by p.mu
}

func newPair(p *Proxy, caller, goal *net.TCPConn) *pair {
	for _, c := range []*net.TCPConn{caller, goal} {
		_ = c.SetReadBuffer(socketBuffer)
		_ = c.SetWriteBuffer(socketBuffer)
	}
	one := &pair{p: p, caller: caller, goal: goal}
	one.ctx, one.cancel = context.WithCancel(p.ctx)
	return one
}

// cut ends both connections at once.
func (one *pair) cut(how How) {
	one.once.Do(func() {
		one.cancel()
		for _, c := range []*net.TCPConn{one.caller, one.goal} {
			if how == RST {
				_ = c.SetLinger(0)
			}
			_ = c.Close()
		}
	})
}

func (one *pair) run() {
	defer context.AfterFunc(one.p.ctx, func() { one.cut(RST) })()
	var wg sync.WaitGroup
	for _, t := range []*transit{newTransit(one, Up, one.caller, one.goal), newTransit(one, Down, one.goal, one.caller)} {
		wg.Go(t.read)
		wg.Go(t.write)
	}
	wg.Wait()
	one.cut(FIN)
}

// A transit is one direction of a pair.
type transit struct {
	one  *pair
	way  Way
	from *net.TCPConn
	to   *net.TCPConn

	mu    sync.Mutex // guards what follows
	queue []parcel
	held  int
	more  chan struct{} // capacity 1: there is something for the writer
	room  chan struct{} // capacity 1: there is room for the reader

	// What follows is the writer's own.
	passed int64
	free   time.Time // when the line can take the next byte
}

// A parcel is bytes under way, or the end of the direction.
type parcel struct {
	sent time.Time
	data []byte
	end  error // io.EOF, or why it broke
}

func newTransit(one *pair, way Way, from, to *net.TCPConn) *transit {
	return &transit{one: one, way: way, from: from, to: to, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func notify(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// read takes from the socket what the line holds, until the end.
func (t *transit) read() {
	buf := make([]byte, readSize)
	for t.await(func(l Line, held int) bool { return !l.Hole && held < capacity(l) }) {
		n, err := t.from.Read(buf)
		now := time.Now()
		t.mu.Lock()
		if n > 0 {
			t.queue = append(t.queue, parcel{sent: now, data: append([]byte(nil), buf[:n]...)})
			t.held += n
		}
		if err != nil {
			t.queue = append(t.queue, parcel{sent: now, end: err})
		}
		t.mu.Unlock()
		notify(t.more)
		if err != nil {
			return
		}
	}
}

// capacity is how many bytes the line holds.
func capacity(l Line) int {
	n := mostHeld
	if l.Rate > 0 {
		n = int(float64(l.Rate) * (l.Delay + routerBuffer).Seconds())
	} else if l.Delay == 0 {
		n = leastHeld
	}
	return min(max(n, leastHeld), mostHeld)
}

// await waits until ok, and says whether the pair is still whole.
func (t *transit) await(ok func(l Line, held int) bool) bool {
	for {
		l, changed := t.one.line(t.way)
		t.mu.Lock()
		held := t.held
		t.mu.Unlock()
		if ok(l, held) {
			return t.one.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-t.room:
		case <-t.one.ctx.Done():
			return false
		}
	}
}

// write delivers parcels when they are due.
func (t *transit) write() {
	for {
		next, ok := t.take()
		if !ok {
			return
		}
		if next.end != nil {
			t.end(next.end)
			return
		}
		for len(next.data) > 0 {
			n, ok := t.due(next)
			if !ok {
				return
			}
			if _, err := t.to.Write(next.data[:n]); err != nil {
				t.end(err)
				return
			}
			next.data = next.data[n:]
			if !t.account(n) {
				return
			}
		}
	}
}

// take waits for the next parcel and leaves its bytes counted until they are delivered.
func (t *transit) take() (next parcel, ok bool) {
	for {
		t.mu.Lock()
		if len(t.queue) > 0 {
			next, t.queue = t.queue[0], t.queue[1:]
			t.mu.Unlock()
			return next, true
		}
		t.mu.Unlock()
		select {
		case <-t.more:
		case <-t.one.ctx.Done():
			return parcel{}, false
		}
	}
}

// due waits until bytes of the parcel may arrive and says how many.
func (t *transit) due(next parcel) (n int, ok bool) {
	for {
		l, changed := t.one.line(t.way)
		n = len(next.data)
		if l.Piece > 0 {
			n = min(n, l.Piece)
		}
		at := next.sent.Add(l.Delay)
		if l.Rate > 0 && t.free.After(at) {
			at = t.free
		}
		wait := time.Until(at)
		if !l.Hole && wait <= 0 {
			if l.Rate > 0 {
				// A late wake-up is made up for, so that the rate is kept; beyond that an idle line saves nothing up.
				if began := time.Now().Add(-routerBuffer); t.free.Before(began) {
					t.free = began
				}
				t.free = t.free.Add(time.Duration(float64(n) / float64(l.Rate) * float64(time.Second)))
			}
			return n, true
		}
		var timer <-chan time.Time
		if !l.Hole {
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-changed:
		case <-t.one.ctx.Done():
			return 0, false
		}
	}
}

// account notes what has passed and cuts where that is due.
func (t *transit) account(n int) bool {
	t.mu.Lock()
	t.held -= n
	t.mu.Unlock()
	notify(t.room)
	t.passed += int64(n)
	if l, _ := t.one.line(t.way); l.CutAfter > 0 && t.passed >= l.CutAfter {
		t.one.cut(l.Cut)
		return false
	}
	return true
}

// end passes the end of a direction on: a FIN as a FIN, anything else as a reset. A hole swallows it for as long as it is
// there.
func (t *transit) end(err error) {
	if !t.await(func(l Line, _ int) bool { return !l.Hole }) {
		return
	}
	if errors.Is(err, io.EOF) {
		_ = t.to.CloseWrite()
		return
	}
	t.one.cut(RST)
}
