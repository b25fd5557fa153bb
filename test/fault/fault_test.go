package fault

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// echo is a target that sends back what it reads, and ends when its peer does.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func start(t *testing.T) (*Proxy, *net.TCPConn) {
	t.Helper()
	p, err := New(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p, dial(t, p)
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// round sends b and reads as much back.
func round(t *testing.T, c net.Conn, b []byte) time.Duration {
	t.Helper()
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(b)
		sent <- err
	}()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("read back %d bytes: %v", len(b), err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b) {
		t.Fatalf("%d bytes came back changed", len(b))
	}
	return time.Since(began)
}

func some(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func TestBytesPassUnchanged(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	for _, l := range []Line{{}, {Delay: 20 * time.Millisecond}, {Rate: 20_000_000}, {Piece: 4000}, {Delay: time.Millisecond, Rate: 20_000_000, Piece: 999}} {
		p.Set(Both, l)
		round(t, c, some(1_000_000))
	}
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		t.Errorf("after the end came %d bytes and %v", len(rest), err)
	}
}

func TestDelayIsEachWay(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	p.Set(Up, Line{Delay: 100 * time.Millisecond})
	if took := round(t, c, []byte("x")); took < 100*time.Millisecond {
		t.Errorf("a round trip took %s, the way up alone is 100ms", took)
	}
	p.Set(Both, Line{Delay: 100 * time.Millisecond})
	if took := round(t, c, []byte("x")); took < 200*time.Millisecond {
		t.Errorf("a round trip took %s, it is 200ms", took)
	}
}

// A long line that is fast holds many bytes at once: delay alone does not slow it down.
func TestRate(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	p.Set(Up, Line{Rate: 1_000_000, Delay: 20 * time.Millisecond})
	if took := round(t, c, some(500_000)); took < 400*time.Millisecond {
		t.Errorf("500 kB took %s at 1 MB/s", took)
	}
}

func TestTrickle(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	p.Set(Up, Line{Rate: 1000, Piece: 10})
	if took := round(t, c, some(300)); took < 200*time.Millisecond {
		t.Errorf("300 bytes took %s at 1 kB/s", took)
	}
}

// Nothing passes a hole, no end either, and what was held back arrives afterwards.
func TestHole(t *testing.T) {
	t.Parallel()
	for _, way := range []Way{Up, Down} {
		p, c := start(t)
		round(t, c, []byte("before"))
		p.Set(way, Line{Hole: true})
		if _, err := c.Write([]byte("lost?")); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if n, err := c.Read(make([]byte, 9)); n != 0 || !timedOut(err) {
			t.Fatalf("through the hole came %d bytes and %v", n, err)
		}
		p.Heal()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if got, err := io.ReadAll(c); string(got) != "lost?" || err != nil {
			t.Errorf("after the hole came %q, %v", got, err)
		}
	}
}

// Who vanishes has vanished for good; who comes after passes.
func TestVanish(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	round(t, c, []byte("before"))
	p.Vanish(Both)
	p.Heal()
	_, _ = c.Write([]byte("lost"))
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := c.Read(make([]byte, 9)); n != 0 || !timedOut(err) {
		t.Errorf("%d bytes came, and %v", n, err)
	}
	round(t, dial(t, p), []byte("a new one"))
}

func timedOut(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

func TestCuts(t *testing.T) {
	t.Parallel()
	for how, want := range map[How]error{RST: syscall.ECONNRESET, FIN: io.EOF} {
		p, c := start(t)
		round(t, c, []byte("before"))
		p.Set(Both, Line{Hole: true}) // a cut is stronger
		p.Cut(how)
		if _, err := c.Read(make([]byte, 9)); !errors.Is(err, want) {
			t.Errorf("cut %d: read ended with %v, want %v", how, err, want)
		}
		p.Heal()
		round(t, dial(t, p), []byte("a new one"))
	}
}

func TestCutAfterSoManyBytes(t *testing.T) {
	t.Parallel()
	p, c := start(t)
	p.Set(Down, Line{CutAfter: 1000, Cut: FIN, Piece: 100})
	go func() { _, _ = c.Write(some(5000)) }()
	got, err := io.ReadAll(c)
	if len(got) < 1000 || len(got) > 1100 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes passed, and %v", len(got), err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	target := echo(t)
	p, err := New(target)
	if err != nil {
		t.Fatal(err)
	}
	conns := []*net.TCPConn{dial(t, p), dial(t, p), dial(t, p)}
	for _, c := range conns {
		round(t, c, some(1000))
	}
	if n := p.Open(); n != 3 || p.Dialed() != 3 {
		t.Errorf("%d of %d connections are open", n, p.Dialed())
	}
	p.Set(Both, Line{Hole: true})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

// The same seed gives the same schedule, and the lines are whole at the end.
func TestTormentIsReproducible(t *testing.T) {
	t.Parallel()
	schedule := func() (said []string) {
		p, c := start(t)
		quick := slices.Clone(Weather())
		for i := range quick {
			quick[i].Least, quick[i].Most = time.Millisecond, 5*time.Millisecond
		}
		ctx, cancel := context.WithCancel(t.Context())
		p.Torment(ctx, 7, quick, func(s string) {
			if said = append(said, s); len(said) == 40 {
				cancel()
			}
		})
		_ = c
		round(t, dial(t, p), some(1000))
		return said
	}
	first, second := schedule(), schedule()
	if !slices.Equal(first, second) {
		t.Errorf("one seed gave two schedules:\n%s\n\n%s", strings.Join(first, "\n"), strings.Join(second, "\n"))
	}
	if a, _ := Seed("12"); a != 12 {
		t.Errorf("seed 12 became %d", a)
	}
	if _, err := Seed("x"); err == nil {
		t.Error("x passed as a seed")
	}
}

// Each kind of weather leaves connections that are made after it whole.
func TestAfterEachSpell(t *testing.T) {
	t.Parallel()
	for _, spell := range Weather() {
		p, c := start(t)
		spell.Strike(p, mathrand.New(mathrand.NewPCG(1, 2)))
		_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = c.Write(some(100))
		_, _ = c.Read(make([]byte, 100))
		p.Heal()
		round(t, dial(t, p), some(10_000))
	}
}
