package link

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"sallyport/tunnel"
)

// A relay is the relay's side of links, with a script.
type relay struct {
	*httptest.Server
	t   *testing.T
	key ed25519.PrivateKey
	// verify decides on claims; nil admits all as agent "a1".
	verify func(tunnel.Claim) error
	node   string
	nodes  int

	links  chan up // each link that came up
	mu     sync.Mutex
	claims []tunnel.Claim
	open   []*tunnel.Link
}

// An up is a link as the relay sees it.
type up struct {
	claim tunnel.Claim
	*tunnel.Link
}

func newRelay(t *testing.T, verify func(tunnel.Claim) error) *relay {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newNode(t, verify, key, "n1", 1)
}

// newNode is one of several nodes of a relay.
func newNode(t *testing.T, verify func(tunnel.Claim) error, key ed25519.PrivateKey, node string, nodes int) *relay {
	t.Helper()
	r := &relay{t: t, key: key, verify: verify, node: node, nodes: nodes, links: make(chan up, 100)}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.stop)
	return r
}

func (r *relay) serve(w http.ResponseWriter, q *http.Request) {
	if q.URL.Path != tunnel.Path {
		http.NotFound(w, q)
		return
	}
	ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil)
	if err != nil {
		return
	}
	claim, _, err := tunnel.Greet(q.Context(), ws, tunnel.RelayIdentity{Key: r.key, Node: r.node, Nodes: r.nodes},
		func(_ context.Context, c tunnel.Claim) (tunnel.Welcome, error) {
			r.mu.Lock()
			r.claims = append(r.claims, c)
			r.mu.Unlock()
			if r.verify != nil {
				if err := r.verify(c); err != nil {
					return tunnel.Welcome{}, err
				}
			}
			return tunnel.Welcome{Agent: "a1"}, nil
		})
	if err != nil || claim.Kind == tunnel.KindJoin {
		_ = ws.Close()
		return
	}
	l := tunnel.New(ws, tunnel.RelaySide, tunnel.Options{})
	r.mu.Lock()
	r.open = append(r.open, l)
	r.mu.Unlock()
	r.links <- up{claim, l}
	_ = l.Run(context.Background())
}

// stop ends all links, as a relay that is killed does.
func (r *relay) stop() {
	r.mu.Lock()
	for _, l := range r.open {
		l.Close("the relay ends")
	}
	r.mu.Unlock()
	r.Server.Close()
}

func (r *relay) seen() []tunnel.Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]tunnel.Claim(nil), r.claims...)
}

func (r *relay) fingerprint() string {
	return tunnel.Fingerprint(r.key.Public().(ed25519.PublicKey))
}

func (r *relay) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	return pool
}

func (r *relay) dialer() *Dialer {
	r.t.Helper()
	d, err := NewDialer(DialConfig{Relay: r.URL, Roots: r.roots(), Version: "1.2.3"})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// next waits for a link.
func (r *relay) next() up {
	r.t.Helper()
	select {
	case l := <-r.links:
		return l
	case <-time.After(30 * time.Second):
		r.t.Fatal("no link came up")
		return up{}
	}
}

// A fixed identity.
type fixed struct{ key ed25519.PrivateKey }

func newFixed(t *testing.T) fixed {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return fixed{key}
}

func (f fixed) Claim(context.Context) (tunnel.AgentIdentity, error) {
	return tunnel.AgentIdentity{Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: "plant1", Agent: "a1"}, Key: f.key}, nil
}

// running runs ls until the test ends or the function it returns is called.
func running(t *testing.T, ls *Links) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ls.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// until polls for what another goroutine brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}
