package link

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/tunnel"
)

// balancer passes each connection on to the next of several relays.
func balancer(t *testing.T, relays ...*relay) string {
	t.Helper()
	return balancerBy(t, func(i int) *relay { return relays[i%len(relays)] })
}

// balancerBy passes each connection on to the relay that turn says.
func balancerBy(t *testing.T, turn func(i int) *relay) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	running.Go(func() {
		for i := 0; ; i++ {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", turn(i).Listener.Addr().String())
			if err != nil {
				_ = from.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
				running.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
					_ = way[1].Close()
				})
			}
		}
	})
	return "https://" + l.Addr().String()
}

func twoNodes(t *testing.T, said int) (a, b *relay) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newNode(t, nil, key, "n1", said), newNode(t, nil, key, "n2", said)
}

func dialing(t *testing.T, url string, r *relay) *Dialer {
	t.Helper()
	d, err := NewDialer(DialConfig{Relay: url, Roots: r.roots()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// With several nodes behind one address the links go to different ones, whatever the balancer does first.
func TestLinksGoToDifferentNodes(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{0, 1}, {0, 0, 0, 1}} {
		a, b := twoNodes(t, 2)
		nodes := []*relay{a, b}
		var turns []*relay
		for _, n := range order {
			turns = append(turns, nodes[n])
		}
		ls := New(Config{Dialer: dialing(t, balancer(t, turns...), a), Identity: newFixed(t), RelayKey: a.fingerprint()})
		running(t, ls)
		until(t, "both nodes have a link", func() bool { return len(a.links) == 1 && len(b.links) == 1 })
		until(t, "both links are up", func() bool { return ls.Up() == 2 })
		if n := len(a.seen()) + len(b.seen()); n != 2 {
			t.Errorf("%d claims were made for two links", n)
		}
	}
}

// A balancer that knows one node alone gets three more dials, then a second link there is better than none.
func TestOneNodeOfTwoGetsBothLinks(t *testing.T) {
	t.Parallel()
	a, _ := twoNodes(t, 2)
	var dials atomic.Int64
	handler := a.Config.Handler
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		dials.Add(1)
		handler.ServeHTTP(w, q)
	})
	ls := New(Config{Dialer: a.dialer(), Identity: newFixed(t), RelayKey: a.fingerprint()})
	running(t, ls)
	until(t, "both links are up", func() bool { return ls.Up() == 2 })
	if n := dials.Load(); n > 2+maxRedials {
		t.Errorf("%d dials were made", n)
	}
}

// When the second node is back, one of the two links moves there before long, and then they stay where they are.
func TestLinksSpreadAgain(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t, 2)
	var back atomic.Bool
	url := balancerBy(t, func(i int) *relay {
		if back.Load() && i%2 == 1 {
			return b
		}
		return a
	})
	ls := New(Config{Dialer: dialing(t, url, a), Identity: newFixed(t), RelayKey: a.fingerprint()})
	ls.respread = 100 * time.Millisecond
	running(t, ls)
	until(t, "both links are up at one node", func() bool { return ls.Up() == 2 && len(a.links) >= 2 })
	back.Store(true)
	until(t, "one link has moved", func() bool { return len(b.links) == 1 })
	until(t, "two links are up", func() bool { return ls.Up() == 2 })
	time.Sleep(5 * ls.respread)
	claims := len(a.seen()) + len(b.seen())
	time.Sleep(5 * ls.respread)
	if n := len(a.seen()) + len(b.seen()); n != claims || ls.Up() != 2 || len(b.links) != 1 {
		t.Errorf("links are replaced although each node has one: %d claims, then %d; %d are up, %d at the second node", claims, n, ls.Up(), len(b.links))
	}
}

// A link that has become old is replaced: the new one is up before the old one drains, and a stream that is under way on the
// old one ends in peace.
func TestOldLinksAreReplacedBeforeTheyEnd(t *testing.T) {
	t.Parallel()
	r := newRelay(t, nil)
	release := make(chan struct{})
	ls := New(Config{
		Dialer: r.dialer(), Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 1, MaxAge: 200 * time.Millisecond,
		Serve: func(s *tunnel.Stream) {
			<-release
			_ = s.SendResponse(&tunnel.Response{Status: 204}, true)
		},
	})
	running(t, ls)
	first := r.next()
	s, err := first.Open(&tunnel.Request{ID: "r", API: "a", Method: "GET", Target: "/"}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(tunnel.Cancelled, "done")
	second := r.next()
	if first.claim.Instance != second.claim.Instance || first.claim.Slot != second.claim.Slot || second.claim.Generation <= first.claim.Generation {
		t.Errorf("%+v does not replace %+v", second.claim, first.claim)
	}
	until(t, "the old link takes no new streams", func() bool { return first.Draining() != "" })
	time.Sleep(600 * time.Millisecond) // the second grows old too, but only one is replaced at a time
	if n := len(r.links); n != 0 {
		t.Errorf("%d more links came up while the first was still draining", n)
	}
	close(release)
	if resp, err := s.ReadResponse(t.Context()); err != nil || resp.Status != 204 {
		t.Errorf("the stream on the old link got %+v, %v", resp, err)
	}
	until(t, "the old link has ended", func() bool { return first.Err() != nil })
	r.next() // now the second one's turn has come
}

// A relay that goes away can ask its agents to take their time.
func TestAPauseIsKept(t *testing.T) {
	t.Parallel()
	r := newRelay(t, nil)
	ls := New(Config{Dialer: r.dialer(), Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 1})
	s := newSlot(ls, 0)
	var asked []int64
	s.backoff.random = func(n int64) int64 { asked = append(asked, n); return 0 }
	ctx := t.Context()
	ws, bond, err := s.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l := s.begin(ctx, ws, bond)
	up := r.next()
	if err := up.SendControl(controlPause, map[string]any{"spread_ns": 90 * time.Second}); err != nil {
		t.Fatal(err)
	}
	up.GoAway("the relay stops")
	if old, err := s.hold(ctx, l, nil); old != l || err != nil {
		t.Errorf("hold gave %v, %v", old, err)
	}
	if !slices.Contains(asked, int64(90*time.Second)) {
		t.Errorf("the agent waits at random up to %v, asked for were 90 s", asked)
	}
	l.Close("done")
	s.serving.Wait()
}

func TestPauseIsBounded(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]time.Duration{
		`{"spread_ns": 1000}`: 1000, `{"spread_ns": -5}`: 0, `{"spread_ns": 900000000000000}`: longestPause,
		`{}`: 0, `nonsense`: 0, `{"spread_ns": "soon"}`: 0,
	} {
		if got := parsePause([]byte(body)); got != want {
			t.Errorf("%s asks for %s, want %s", body, got, want)
		}
	}
}

// FuzzPause: whatever a relay asks for is within the bound.
func FuzzPause(f *testing.F) {
	f.Add([]byte(`{"spread_ns": 1000000}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if d := parsePause(body); d < 0 || d > longestPause {
			t.Errorf("%q asks for %s", body, d)
		}
	})
}
