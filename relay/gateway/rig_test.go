package gateway_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

// A rig is a registry that serves links on loopback.
type rig struct {
	st    *store.Store
	t     *testing.T
	r     *gateway.Registry
	url   string // ws://
	dir   string
	close func() // ends registry and store as a relay does; once

	mu     sync.Mutex
	logged strings.Builder      // guarded by mu
	told   []string             // control messages to agents; guarded by mu
	serve  func(*tunnel.Stream) // of the agents' links made from now on
}

// Write takes a line of the registry's log.
func (g *rig) Write(line []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.logged.Write(line)
	return g.t.Output().Write(line)
}

// lines are those of the log that hold the text.
func (g *rig) lines(text string) (found []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for line := range strings.Lines(g.logged.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func newRig(t *testing.T) *rig { return openRig(t, t.TempDir()) }

func openRig(t *testing.T, dir string) *rig {
	t.Helper()
	return openRigWith(t, dir, func(*gateway.Config) {})
}

// openRigWith is openRig with settings of the test's own.
func openRigWith(t *testing.T, dir string, set func(*gateway.Config)) *rig {
	t.Helper()
	g := &rig{t: t, dir: dir, serve: func(s *tunnel.Stream) { <-s.Context().Done() }}
	log := slog.New(slog.NewTextHandler(g, nil))
	st, err := store.Open(t.Context(), store.Config{Dir: dir + "/store", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	config := gateway.Config{URL: "http://relay.example", Dir: dir, Log: log, CloneProbe: 500 * time.Millisecond}
	set(&config)
	r, err := gateway.New(t.Context(), st, config)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(running); err != nil {
			t.Error(err)
		}
	})
	srv := httptest.NewServer(http.HandlerFunc(r.ServeLink))
	g.st = st
	g.r, g.url = r, "ws"+strings.TrimPrefix(srv.URL, "http")+tunnel.Path
	g.close = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = r.Drain(ctx)
		stop()
		wg.Wait()
		srv.Close()
		if err := st.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(g.close)
	return g
}

// agent is an agent's key and what it has been told.
type agent struct {
	key ed25519.PrivateKey
	id  string
}

func newAgent() agent {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	return agent{key: key}
}

// introduce dials and makes a claim.
func (g *rig) introduce(id tunnel.AgentIdentity) (tunnel.Welcome, func() *tunnel.Link, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 15*time.Second)
	defer cancel()
	ws, _, err := tunnel.NewDialer().DialContext(ctx, g.url, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	welcome, err := tunnel.Introduce(ctx, ws, id, g.r.Fingerprint())
	if err != nil {
		return welcome, nil, err
	}
	return welcome, func() *tunnel.Link {
		return tunnel.New(ws, tunnel.AgentSide, tunnel.Options{Serve: g.serve, Control: func(kind string, body []byte) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.told = append(g.told, kind+" "+string(body))
		}})
	}, nil
}

func (g *rig) join(gw, code string, a *agent) error {
	welcome, _, err := g.introduce(tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindJoin, Gateway: gw, Name: "host-a"},
		Key:   a.key, CodeKey: tunnel.JoinKey(code),
	})
	if err == nil {
		a.id = welcome.Agent
	}
	return err
}

// joined makes a gateway, if there is none, and an agent of it.
func (g *rig) joined(gw string) agent {
	g.t.Helper()
	join, err := g.r.AddGateway(g.t.Context(), gw, gateway.CodeUse{})
	if errors.Is(err, gateway.ErrExists) {
		join, err = g.r.NewJoin(g.t.Context(), gw, gateway.CodeUse{})
	}
	if err != nil {
		g.t.Fatal(err)
	}
	a := newAgent()
	if err := g.join(gw, join.Code, &a); err != nil {
		g.t.Fatal(err)
	}
	return a
}

// at says which of an agent's links one is.
type at struct {
	instance   string
	slot       int
	generation uint64
}

// link brings a link up and runs it until the test ends.
func (g *rig) link(gw string, a agent, where at, apis ...string) (*tunnel.Link, error) {
	g.t.Helper()
	_, make, err := g.introduce(tunnel.AgentIdentity{
		Claim: tunnel.Claim{
			Kind: tunnel.KindLink, Gateway: gw, Agent: a.id,
			Instance: where.instance, Slot: where.slot, Generation: where.generation,
		},
		Key: a.key,
	})
	if err != nil {
		return nil, err
	}
	l := make()
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(context.Background()) })
	g.t.Cleanup(func() { l.Close("the test is over"); wg.Wait() })
	if apis != nil {
		offer(g.t, l, apis...)
	}
	return l, nil
}

func (g *rig) mustLink(gw string, a agent, where at, apis ...string) *tunnel.Link {
	g.t.Helper()
	l, err := g.link(gw, a, where, apis...)
	if err != nil {
		g.t.Fatal(err)
	}
	return l
}

func offer(t *testing.T, l *tunnel.Link, apis ...string) {
	t.Helper()
	o := gateway.Offer{APIs: []gateway.OfferedAPI{}}
	for _, name := range apis {
		o.APIs = append(o.APIs, gateway.OfferedAPI{Name: name})
	}
	if err := l.SendControl(gateway.ControlOffer, o); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 1500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond) // sockets do not live in synctest
	}
	t.Fatalf("waited in vain: %s", what)
}

func ended(l *tunnel.Link) func() bool {
	return func() bool {
		select {
		case <-l.Done():
			return true
		default:
			return false
		}
	}
}

func wantRefusal(t *testing.T, err error, code string) {
	t.Helper()
	r, ok := errors.AsType[*tunnel.Refusal](err)
	if !ok || r.Code != code {
		t.Errorf("error %v, want the refusal %s", err, code)
	}
}

// reopen starts a registry on a folder and ends it at once.
func reopen(t *testing.T, dir string) error {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: dir + "/store", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close(context.Background()) }()
	_, err = gateway.New(t.Context(), st, gateway.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	return err
}
