package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gorilla/websocket"
)

// countingConn counts the system calls of a connection.
type countingConn struct {
	net.Conn
	reads, writes *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// A wire is how the two ends of a link are connected, and what it counts at the agent's end.
type wire struct {
	wrapped       bool
	counts        bool // and so is no socket that can be written to without waiting
	reads, writes atomic.Int64
}

type wrappingListener struct {
	net.Listener
	w *wire
}

func (l wrappingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && l.w.wrapped {
		c = WrapConn(c)
	}
	return c, err
}

// secureLinks runs both ends of a link over TLS until the test ends.
func secureLinks(t testing.TB, w *wire, agentOptions Options) (relay, agent *Link) {
	t.Helper()
	return secureLinksBy(t, w, func(addr string) string { return addr }, Options{}, agentOptions)
}

// secureLinksBy is secureLinks for an agent that dials another address, which leads to the relay's.
func secureLinksBy(t testing.TB, w *wire, way func(addr string) string, relayOptions, agentOptions Options) (relay, agent *Link) {
	t.Helper()
	got := make(chan *websocket.Conn, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ws, err := NewUpgrader().Upgrade(rw, r, nil)
		if err != nil {
			t.Error(err)
		}
		got <- ws
	}))
	srv.Listener = wrappingListener{srv.Listener, w}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	dialer := NewDialer()
	dialer.NetDialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var c net.Conn
		c, err := new(net.Dialer).DialContext(ctx, network, way(addr))
		if err != nil {
			return nil, err
		}
		if w.counts {
			c = countingConn{c, &w.reads, &w.writes}
		}
		if w.wrapped {
			c = WrapConn(c)
		}
		return tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "example.com"}), nil
	}
	aws, resp, err := dialer.Dial("wss"+strings.TrimPrefix(srv.URL, "https")+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return runLinks(t, <-got, aws, relayOptions, agentOptions)
}

// echo answers with what it is sent.
func echo(s *Stream) {
	_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
	_, _ = io.Copy(s, s)
	_ = s.CloseWrite(nil)
}

// Large bodies go both ways at once, beside small exchanges: every byte arrives in its place, and a message's records
// travel together.
func TestRecordsOfAMessageTravelTogether(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	calls := map[bool]int64{}
	for _, wrapped := range []bool{false, true} {
		w := &wire{wrapped: wrapped, counts: true}
		relay, agent := secureLinks(t, w, Options{Serve: echo})
		if found := relay.conn != nil && agent.conn != nil; found != wrapped {
			t.Fatalf("wrapped %v: the link's connection was found: %v", wrapped, found)
		}
		before := w.writes.Load()
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { exchangeEcho(t, relay, size, uint64(i)) })
		}
		wg.Wait()
		calls[wrapped] = w.writes.Load() - before
	}
	if calls[true]*2 > calls[false] {
		t.Errorf("%d writes to the network, and %d where records are not held back; it should be less than half", calls[true], calls[false])
	}
}

func exchangeEcho(t *testing.T, l *Link, size int, seed uint64) {
	body := make([]byte, size)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	s, err := l.Open(get("/echo"), false)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Reset(Cancelled, "")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, _ = s.Write(body)
		_ = s.CloseWrite(nil)
	})
	if _, err := s.ReadResponse(within(t)); err != nil {
		t.Error(err)
		return
	}
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes came back of %d, or not the same: %v", len(got), size, err)
	}
}

// pipeEnd is a connection that reads from r in pieces of its own.
type pipeEnd struct {
	net.Conn
	r io.Reader
}

func (p pipeEnd) Read(b []byte) (int, error) { return p.r.Read(b) }

func TestReadingAheadChangesNoByte(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 7))
	want := make([]byte, 3*segmentSize+17)
	for i := range want {
		want[i] = byte(random.Uint32())
	}
	for name, source := range map[string]io.Reader{
		"at once": bytes.NewReader(want), "halves": iotest.HalfReader(bytes.NewReader(want)),
		"with its end": iotest.DataErrReader(bytes.NewReader(want)),
	} {
		c := WrapConn(pipeEnd{r: source})
		c.ReadAhead()
		var got bytes.Buffer
		p := make([]byte, 20<<10)
		for {
			n, err := c.Read(p[:1+random.IntN(len(p))])
			got.Write(p[:n])
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(name, err)
			}
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: %d bytes read of %d, or not the same", name, got.Len(), len(want))
		}
	}
}

// What was held back goes out in order, also where it is more than is held, and an error is not lost.
func TestHeldBackBytesGoOutInOrder(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	c := WrapConn(near)
	want := bytes.Repeat([]byte("0123456789abcdef"), segmentSize/8)
	c.cork()
	done := make(chan error, 1)
	go func() {
		for p := want; len(p) > 0; {
			n := min(len(p), 1000)
			if _, err := c.Write(p[:n]); err != nil {
				done <- err
				return
			}
			p = p[n:]
		}
		if err := c.uncork(); err != nil {
			done <- err
			return
		}
		_, err := c.Write([]byte("end"))
		done <- err
	}()
	got := make([]byte, len(want)+3)
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, append(want, "end"...)) {
		t.Error("the bytes came in another order")
	}
	_ = far.Close()
	c.cork()
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	if err := c.uncork(); err == nil {
		t.Error("a write to a closed connection gave no error")
	}
	_ = c.SetWriteDeadline(time.Now())
}

// A halfDeaf connection takes some of the first write, and everything after it.
type halfDeaf struct {
	net.Conn
	got []byte
}

func (c *halfDeaf) Write(p []byte) (int, error) {
	if c.got == nil {
		c.got = append(c.got, p[:len(p)/2]...)
		return len(p) / 2, io.ErrShortWrite
	}
	c.got = append(c.got, p...)
	return len(p), nil
}

// TLS believes that what was held back has left. Where it has not, nothing may follow: the other side would see a gap.
func TestNothingFollowsWhatDidNotLeave(t *testing.T) {
	t.Parallel()
	deaf := &halfDeaf{}
	c := WrapConn(deaf)
	err := c.Together(MaxMessage, func() error {
		_, err := c.Write([]byte("lost"))
		return err
	})
	if !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Together: %v", err)
	}
	if _, err := c.Write([]byte("more")); err == nil {
		t.Error("a write after it gave no error")
	}
	if err := c.Together(MaxMessage, func() error { return nil }); err == nil {
		t.Error("Together after it gave no error")
	}
	if string(deaf.got) != "lo" {
		t.Errorf("the network has got %q", deaf.got)
	}
}

// AtHand never promises a record of which a byte is still to come.
func TestAtHandIsAWholeRecord(t *testing.T) {
	t.Parallel()
	c := WrapConn(pipeEnd{r: bytes.NewReader(make([]byte, 10+mostRecord+1))})
	c.ReadAhead()
	p := make([]byte, 10)
	for i, read := range []struct {
		n    int
		want bool
	}{{10, false}, {1, true}, {1, false}} {
		if _, err := io.ReadFull(c, p[:read.n]); err != nil {
			t.Fatal(err)
		}
		if c.AtHand() != read.want {
			t.Errorf("after read %d: %v", i, !read.want)
		}
	}
	if (*Conn)(nil).AtHand() {
		t.Error("a nil Conn has something at hand")
	}
}

func BenchmarkBulkTLS(b *testing.B) {
	for name, wrapped := range map[string]bool{"record by record": false, "together": true} {
		b.Run(name, func(b *testing.B) {
			w := &wire{wrapped: wrapped, counts: true}
			relay, _ := secureLinks(b, w, Options{Serve: func(s *Stream) {
				_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
				var buf Buffer
				defer buf.Free()
				for s.Send(&buf, len(buf.Room())) == nil {
				}
			}})
			s, err := relay.Open(get("/"), true)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Reset(Cancelled, "")
			if _, err := s.ReadResponse(within(b)); err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 1<<20)
			b.SetBytes(int64(len(buf)))
			cpu := processorTime()
			for b.Loop() {
				if _, err := io.ReadFull(s, buf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processorTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/MB")
		})
	}
}
