// Package fault is a TCP proxy that does to connections what bad networks do: delay, a limited rate, a trickle, a cut by
// FIN or RST, and a black hole in which bytes and ends vanish without a word, each way by itself.
//
// It is for system tests and benchmarks, and knows nothing of what passes through it. It works on streams, not packets: a
// black hole stops reading, so that the sender's buffers fill as they do when no packet is acknowledged, and what was held
// back arrives when the hole closes, as it would be sent again. It uses nothing of package testing.
//
//	p, err := fault.New("127.0.0.1:8443")       // dial p.Addr() instead
//	p.Set(fault.Both, fault.Line{Delay: 40 * time.Millisecond, Rate: 12_500_000})
//	p.Set(fault.Up, fault.Line{Hole: true})     // for connections that are open, and those to come
//	p.Cut(fault.RST)                            // all that are open
//	p.Torment(ctx, seed, fault.Weather(), log)  // at random, the same for the same seed
//	err = p.Close()
package fault

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// A Way is a direction through the proxy.
type Way int

// Up is from who dialed the proxy to its target, Down back.
const (
	Up Way = iota
	Down
	Both
)

// How a connection ends.
type How int

// RST resets both ends; FIN closes them in good order.
const (
	RST How = iota
	FIN
)

// A Line is the condition of one direction of every connection. The zero value lets everything pass.
type Line struct {
	// Delay is by how much later each byte arrives.
	Delay time.Duration
	// Rate is how many bytes a second pass; 0 is no limit. All connections have it each, not together.
	Rate int
	// Piece is how many bytes arrive at once, at most; with a low Rate a trickle. 0 leaves them as they come.
	Piece int
	// Hole lets nothing pass: no byte, no end, no reset.
	Hole bool
	// CutAfter, if not 0, cuts a connection by Cut once so many bytes have passed this way on it.
	CutAfter int64
	Cut      How
}

func (l Line) String() string {
	switch {
	case l.Hole:
		return "black hole"
	case l == Line{}:
		return "fair"
	}
	return fmt.Sprintf("delay %s, %d bytes/s, pieces of %d, cut after %d", l.Delay, l.Rate, l.Piece, l.CutAfter)
}

// dialTimeout is for the way to the target, which is on the same machine.
const dialTimeout = 10 * time.Second

// A Proxy passes connections on to one target. Safe for concurrent use.
type Proxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc

	mu      sync.Mutex // guards what follows
	lines   [2]Line
	changed chan struct{} // closed and replaced when lines change
	pairs   map[*pair]struct{}
	dialed  int
}

// New listens on a port of loopback. Close ends it.
func New(target string) (*Proxy, error) { return Listen("127.0.0.1:0", target) }

// Listen is New at a chosen address.
func Listen(address, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	p := &Proxy{target: target, listener: l, changed: make(chan struct{}), pairs: map[*pair]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.running.Go(p.accept)
	return p, nil
}

// Addr is the address to dial instead of the target's.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close resets all connections and waits until nothing of the proxy runs.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.listener.Close()
	p.Cut(RST)
	p.running.Wait()
	return err
}

// Set puts a direction, or both, into a condition, at once.
func (p *Proxy) Set(w Way, l Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for way := range p.lines {
		if w == Both || int(w) == way {
			p.lines[way] = l
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Heal lets everything pass again.
func (p *Proxy) Heal() { p.Set(Both, Line{}) }

// Cut ends every connection that is open now. A hole does not keep it from that.
func (p *Proxy) Cut(how How) {
	p.mu.Lock()
	pairs := make([]*pair, 0, len(p.pairs))
	for one := range p.pairs {
		pairs = append(pairs, one)
	}
	p.mu.Unlock()
	for _, one := range pairs {
		one.cut(how)
	}
}

// Vanish lets every connection that is open now fall into a black hole, for good; those to come are not concerned. It is a
// firewall that has forgotten them.
func (p *Proxy) Vanish(w Way) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for one := range p.pairs {
		for way := range one.lost {
			if w == Both || int(w) == way {
				one.lost[way] = true
			}
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Open is how many connections there are now, Dialed how many there ever were.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pairs)
}

// Dialed is how many connections were ever made through the proxy.
func (p *Proxy) Dialed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialed
}

// line is the condition of a direction, and what is closed when that changes.
func (p *Proxy) line(w Way) (Line, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[w], p.changed
}

// line is the same for one connection.
func (one *pair) line(w Way) (Line, <-chan struct{}) {
	one.p.mu.Lock()
	defer one.p.mu.Unlock()
	if one.lost[w] {
		return Line{Hole: true}, one.p.changed
	}
	return one.p.lines[w], one.p.changed
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.connect(conn.(*net.TCPConn)) })
	}
}

// connect passes one connection on until both directions have ended.
func (p *Proxy) connect(caller *net.TCPConn) {
	nd := net.Dialer{Timeout: dialTimeout}
	conn, err := nd.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		_ = caller.SetLinger(0)
		_ = caller.Close()
		return
	}
	one := newPair(p, caller, conn.(*net.TCPConn))
	p.mu.Lock()
	p.pairs[one] = struct{}{}
	p.dialed++
	p.mu.Unlock()
	one.run()
	p.mu.Lock()
	delete(p.pairs, one)
	p.mu.Unlock()
}
