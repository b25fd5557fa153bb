package link

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/tunnel"
)

// A lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func textLog() (*slog.Logger, *lockedBuffer) {
	var out lockedBuffer
	return slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), &out
}

// echo answers each stream with the target it asked for.
func echo(s *tunnel.Stream) {
	_ = s.Answer(&tunnel.Response{Status: http.StatusOK, ContentLength: -1}, []byte(s.Request().Target))
}

// ask makes an exchange from the relay's side.
func ask(l *tunnel.Link, target string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := l.Open(&tunnel.Request{ID: "r1", API: "orders", Method: "GET", Target: target}, true)
	if err != nil {
		return "", err
	}
	if _, err := s.ReadResponse(ctx); err != nil {
		return "", err
	}
	body, err := io.ReadAll(s)
	return string(body), err
}

// Join proves the key and the code, names no agent, and may be repeated.
func TestJoin(t *testing.T) {
	t.Parallel()
	code := tunnel.NewCode()
	right := tunnel.JoinKey(code).Public().(ed25519.PublicKey)
	r := newRelay(t, func(c tunnel.Claim) error {
		if !right.Equal(ed25519.PublicKey(c.CodeKey)) {
			return &tunnel.Refusal{Code: "unknown-code", Reason: "no such code", Permanent: true}
		}
		return nil
	})
	who := tunnel.AgentIdentity{Claim: tunnel.Claim{Gateway: "plant1"}, Key: newFixed(t).key, CodeKey: tunnel.JoinKey(code)}
	for range 2 {
		welcome, err := Join(context.Background(), r.dialer(), who, r.fingerprint())
		if err != nil || welcome.Agent != "a1" {
			t.Fatalf("Join = %+v, %v", welcome, err)
		}
	}
	for _, c := range r.seen() {
		if c.Kind != tunnel.KindJoin || c.Gateway != "plant1" || c.Agent != "" || c.Instance == "" {
			t.Errorf("claim %+v", c)
		}
	}
	who.CodeKey = tunnel.JoinKey("another")
	_, err := Join(context.Background(), r.dialer(), who, r.fingerprint())
	if refusal, ok := errors.AsType[*tunnel.Refusal](err); !ok || refusal.Code != "unknown-code" {
		t.Errorf("Join with another code: %v, want the relay's refusal", err)
	}
}

// The links of all slots come up, carry exchanges, and a process names each of its dials.
func TestLinksComeUp(t *testing.T) {
	t.Parallel()
	r := newRelay(t, nil)
	var greeted atomic.Int32
	ls := New(Config{
		Dialer: r.dialer(), Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 3, Name: "srv1", Version: "1.2.3",
		Serve: echo, Up: func(*tunnel.Link) { greeted.Add(1) },
	})
	stop := running(t, ls)
	slots := map[int]bool{}
	instances := map[string]bool{}
	for range 3 {
		l := r.next()
		slots[l.claim.Slot], instances[l.claim.Instance] = true, true
		if l.claim.Generation != 1 || l.claim.Name != "srv1" || l.claim.Version != "1.2.3" || l.claim.Gateway != "plant1" {
			t.Errorf("claim %+v", l.claim)
		}
		if got, err := ask(l.Link, "/x"); err != nil || got != "/x" {
			t.Errorf("exchange: %q, %v", got, err)
		}
	}
	if len(slots) != 3 || len(instances) != 1 {
		t.Errorf("slots %v and instances %v, want three of one process", slots, instances)
	}
	until(t, "three links up", func() bool { return ls.Up() == 3 && greeted.Load() == 3 })
	stop()
	if n := ls.Up(); n != 0 {
		t.Errorf("%d links are up after Run", n)
	}
}

// A link that breaks is dialed again with the next generation.
func TestReconnect(t *testing.T) {
	t.Parallel()
	r := newRelay(t, nil)
	log, out := textLog()
	running(t, New(Config{
		Dialer: r.dialer(), Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 1, Serve: echo, Log: log,
	}))
	for generation := uint64(1); generation <= 3; generation++ {
		l := r.next()
		if l.claim.Generation != generation || l.claim.Slot != 0 {
			t.Fatalf("claim %+v, want generation %d", l.claim, generation)
		}
		if got, err := ask(l.Link, "/again"); err != nil || got != "/again" {
			t.Fatalf("exchange: %q, %v", got, err)
		}
		l.Close("cut")
	}
	r.next()
	if !strings.Contains(out.String(), "link lost after") {
		t.Errorf("the loss was not logged:\n%s", out.String())
	}
}

// On the relay's GoAway a new link comes up while a stream on the old one goes on to its end.
func TestGoAway(t *testing.T) {
	t.Parallel()
	r := newRelay(t, nil)
	release := make(chan struct{})
	serve := func(s *tunnel.Stream) {
		if s.Request().Target == "/slow" {
			<-release
		}
		echo(s)
	}
	running(t, New(Config{
		Dialer: r.dialer(), Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 1, Serve: serve,
	}))
	first := r.next()
	answer := make(chan string, 1)
	go func() {
		got, err := ask(first.Link, "/slow")
		answer <- fmt.Sprint(got, err)
	}()
	until(t, "the slow stream is open", func() bool { return first.Streams() == 1 })
	first.GoAway("maintenance")
	second := r.next()
	if second.claim.Generation != 2 || second.claim.Slot != 0 {
		t.Errorf("claim %+v", second.claim)
	}
	if got, err := ask(second.Link, "/new"); err != nil || got != "/new" {
		t.Errorf("exchange on the new link: %q, %v", got, err)
	}
	select {
	case <-first.Done():
		t.Fatal("the old link ended before its stream")
	default:
	}
	close(release)
	if got := <-answer; got != "/slow<nil>" {
		t.Errorf("the stream on the old link: %s", got)
	}
	select {
	case <-first.Done():
	case <-time.After(20 * time.Second):
		t.Error("the old link did not end after its last stream")
	}
}

// When ctx ends, streams may end; Run waits for them, and not longer than the drain timeout.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, finishes := range []bool{true, false} {
		r := newRelay(t, nil)
		release, served := make(chan struct{}), make(chan struct{})
		serve := func(s *tunnel.Stream) {
			close(served)
			select {
			case <-release:
				echo(s)
			case <-s.Context().Done():
			}
		}
		drain := 20 * time.Second
		if !finishes {
			drain = 50 * time.Millisecond
		}
		stop := running(t, New(Config{
			Dialer: r.dialer(), Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 1, Serve: serve, DrainTimeout: drain,
		}))
		l := r.next()
		answer := make(chan error, 1)
		go func() {
			_, err := ask(l.Link, "/slow")
			answer <- err
		}()
		select {
		case <-served: // open at the agent too: one that is still on its way when the drain begins is not run
		case <-time.After(30 * time.Second):
			t.Fatal("the agent does not serve the stream")
		}
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		until(t, "the relay heard of the drain", func() bool { return l.Draining() != "" || l.Err() != nil })
		if finishes {
			if _, err := l.Open(&tunnel.Request{ID: "r2", API: "orders", Method: "GET", Target: "/"}, true); !errors.Is(err, tunnel.ErrNotRun) {
				t.Errorf("a stream on a draining link: %v, want ErrNotRun", err)
			}
			close(release)
		}
		err := <-answer
		if finishes != (err == nil) {
			t.Errorf("finishes %v: the stream ended with %v", finishes, err)
		}
		select {
		case <-stopped:
		case <-time.After(20 * time.Second):
			t.Fatal("Run did not return")
		}
	}
}

// A permanent refusal is logged as such; the agent goes on asking, and links when the relay changes its mind.
func TestRefusals(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	refuse.Store(true)
	r := newRelay(t, func(tunnel.Claim) error {
		if refuse.Load() {
			return &tunnel.Refusal{Code: "busy", Reason: "too many agents at once"}
		}
		return nil
	})
	log, out := textLog()
	running(t, New(Config{Dialer: r.dialer(), Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 1, Log: log}))
	until(t, "two tries", func() bool { return len(r.seen()) >= 2 })
	refuse.Store(false)
	r.next()
	if !strings.Contains(out.String(), "too many agents at once") {
		t.Errorf("the refusal was not logged:\n%s", out.String())
	}
}

func TestPermanentRefusalIsLoggedAndRetriedSlowly(t *testing.T) {
	t.Parallel()
	r := newRelay(t, func(tunnel.Claim) error {
		return &tunnel.Refusal{Code: "revoked", Reason: "this agent was revoked", Permanent: true}
	})
	log, out := textLog()
	stop := running(t, New(Config{Dialer: r.dialer(), Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 1, Log: log}))
	until(t, "the refusal is logged", func() bool { return strings.Contains(out.String(), "this agent was revoked") })
	if !strings.Contains(out.String(), "level=ERROR") || !strings.Contains(out.String(), "an admin has to act") {
		t.Errorf("log:\n%s", out.String())
	}
	stop() // Run must not sit out the five minutes
	if n := len(r.seen()); n != 1 {
		t.Errorf("%d tries, want one", n)
	}
}

// A relay with another key learns nothing about the agent.
func TestAnotherRelaysKey(t *testing.T) {
	t.Parallel()
	r, other := newRelay(t, nil), newRelay(t, nil)
	_, err := Join(context.Background(), r.dialer(), tunnel.AgentIdentity{
		Claim: tunnel.Claim{Gateway: "plant1"}, Key: newFixed(t).key, CodeKey: tunnel.JoinKey("X"),
	}, other.fingerprint())
	if !errors.Is(err, tunnel.ErrRelayKey) || !strings.Contains(err.Error(), "join again") || !permanent(err) {
		t.Errorf("Join: %v, want ErrRelayKey with what to do", err)
	}
	if claims := r.seen(); len(claims) != 0 {
		t.Errorf("the relay was told %+v", claims)
	}
}
