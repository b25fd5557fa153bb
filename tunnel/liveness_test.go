package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sallyport/test/fault"
)

// faultyLinks runs both ends of a link that leads through a fault proxy; Up is from the agent to the relay.
func faultyLinks(t *testing.T, relayOptions, agentOptions Options) (relay, agent *Link, line *fault.Proxy) {
	t.Helper()
	got := make(chan *websocket.Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := NewUpgrader().Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
		}
		got <- ws
	}))
	t.Cleanup(srv.Close)
	line, err := fault.New(strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	ws, resp, err := NewDialer().Dial("ws://"+line.Addr()+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	t.Cleanup(func() { _ = line.Close() }) // after the links' ends
	relay, agent = runLinks(t, <-got, ws, relayOptions, agentOptions)
	return relay, agent, line
}

func awaitTrue(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// A link whose packets vanish, in either direction or both, is suspect after 5 s and over within 10 s at both ends, and so
// is what was under way on it.
func TestAVanishedLinkIsOverWithinTenSeconds(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]fault.Way{"up": fault.Up, "down": fault.Down, "both": fault.Both} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay, agent, line := faultyLinks(t, Options{}, Options{Serve: func(s *Stream) { <-s.Context().Done() }})
			awaitTrue(t, 10*time.Second, "both have heard of each other", func() bool { return relay.RTT() > 0 && agent.RTT() > 0 })
			s, err := relay.Open(get("/"), true)
			if err != nil {
				t.Fatal(err)
			}
			awaitTrue(t, 10*time.Second, "the agent has the stream", func() bool { return agent.Streams() == 1 })
			line.Set(way, fault.Line{Hole: true})
			began := time.Now()
			deaf := relay // who hears nothing
			if way == fault.Down {
				deaf = agent
			}
			awaitTrue(t, 8*time.Second, "the link is suspect", deaf.Suspect)
			if !deaf.Usable() {
				t.Error("the link is out of use before it is dead")
			}
			if _, err := s.ReadResponse(within(t)); !errors.Is(err, ErrLinkLost) {
				t.Errorf("the stream ended with %v", err)
			}
			// Half a second of grace for a busy machine.
			if took := time.Since(began); took > 10500*time.Millisecond {
				t.Errorf("the stream was told after %s", took)
			}
			for _, l := range []*Link{relay, agent} {
				select {
				case <-l.Done():
				case <-time.After(time.Until(began.Add(10500 * time.Millisecond))):
					t.Errorf("after %s an end of the link lives on", time.Since(began))
				}
			}
		})
	}
}

// Somebody sets the clock: no link is dead for that, and none lives on. Only a time that has not passed through the time of day has
// the monotonic clock's reading, with which it is then compared.
func TestLivenessIsNoMatterOfTheTimeOfDay(t *testing.T) {
	t.Parallel()
	relay, agent := links(t, Options{}, Options{})
	awaitTrue(t, 10*time.Second, "both have heard of each other", func() bool { return relay.RTT() > 0 && agent.RTT() > 0 })
	if text := relay.Heard().String(); !strings.Contains(text, " m=") {
		t.Errorf("%s is a time of day", text)
	}
	if since := time.Since(relay.Heard()); since < 0 || since > 10*time.Second {
		t.Errorf("the last sign of life came %s ago", since)
	}
}

// A line of 1 Mbit/s and 300 ms under bulk both ways is slow, not dead, and its pings do not stand behind what is queued.
func TestASlowLineIsNotDead(t *testing.T) {
	t.Parallel()
	relay, agent, line := faultyLinks(t, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(io.Discard, s) })
		_, _ = io.Copy(s, forever{})
		both.Wait()
	}})
	line.Set(fault.Both, fault.Line{Delay: 150 * time.Millisecond, Rate: 125_000})
	var busy sync.WaitGroup
	defer busy.Wait()
	for range 3 {
		s, err := relay.Open(get("/bulk"), false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset(Cancelled, "the test is over")
		busy.Go(func() { _, _ = io.Copy(s, forever{}) })
		busy.Go(func() { _, _ = io.Copy(io.Discard, s) })
	}
	var worst time.Duration
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if relay.Err() != nil || agent.Err() != nil {
			t.Fatalf("the link ended: %v; %v", relay.Err(), agent.Err())
		}
		if relay.Suspect() || agent.Suspect() {
			t.Fatalf("a slow link is suspect")
		}
		worst = max(worst, relay.RTT(), agent.RTT())
	}
	t.Logf("worst round trip under bulk: %s", worst)
	if worst == 0 || worst > 8*time.Second {
		t.Errorf("a ping took %s", worst)
	}
}

// forever is an endless body.
type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

// A side that drains while the other opens streams loses none: each is answered, or was certainly not run.
func TestDrainLosesNoStream(t *testing.T) {
	t.Parallel()
	for range 10 {
		relay, agent, line := faultyLinks(t, Options{}, Options{Serve: func(s *Stream) {
			_ = s.Answer(&Response{Status: 200, ContentLength: 4000}, make([]byte, 4000))
		}})
		line.Set(fault.Both, fault.Line{Delay: 10 * time.Millisecond, Rate: 2_000_000})
		var callers sync.WaitGroup
		for range 16 {
			callers.Go(func() {
				for relay.Err() == nil {
					s, err := relay.Open(get("/"), true)
					if err == nil {
						if _, err = s.ReadResponse(within(t)); err == nil {
							_, err = io.Copy(io.Discard, s)
						}
						s.Reset(Cancelled, "done")
					}
					if errors.Is(err, ErrNotRun) {
						return
					}
					if err != nil {
						t.Errorf("a stream was lost: %v", err)
						return
					}
				}
			})
		}
		time.Sleep(60 * time.Millisecond)
		if err := agent.Drain(within(t), "the agent stops"); err != nil {
			t.Errorf("Drain: %v", err)
		}
		callers.Wait()
	}
}

// A stream that was opened before the peer's GOAWAY had come is taken: its body is on the way already, and is not kept for another
// link.
func TestADrainTakesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	for range 5 {
		relay, agent, line := faultyLinks(t, Options{}, Options{Serve: func(s *Stream) {
			n, err := io.Copy(io.Discard, s)
			_ = s.Answer(&Response{Status: 200, ContentLength: -1}, fmt.Appendf(nil, "%d %v", n, err))
		}})
		line.Set(fault.Both, fault.Line{Delay: 20 * time.Millisecond})
		var callers sync.WaitGroup
		for range 32 {
			callers.Go(func() {
				for {
					s, err := relay.Open(get("/"), false)
					if err != nil {
						return // nothing of the body was taken from the caller
					}
					_, err = s.Write(make([]byte, 40_000))
					if err == nil {
						err = s.CloseWrite(nil)
					}
					if err == nil {
						_, err = s.ReadResponse(within(t))
					}
					if text, _ := io.ReadAll(s); err != nil || string(text) != "40000 <nil>" {
						t.Errorf("an upload that had begun ended with %v, %q", err, text)
						return
					}
					s.Reset(Cancelled, "done")
				}
			})
		}
		time.Sleep(150 * time.Millisecond)
		if err := agent.Drain(within(t), "the agent stops"); err != nil {
			t.Errorf("Drain: %v", err)
		}
		callers.Wait()
	}
}

// What is still under way when the drain's time is over is told so, and why.
func TestStreamsLeftByADrainAreTold(t *testing.T) {
	t.Parallel()
	relay, agent := links(t, Options{}, Options{Serve: func(s *Stream) { <-s.Context().Done() }})
	s, err := relay.Open(get("/"), true)
	if err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, 10*time.Second, "the agent has the stream", func() bool { return agent.Streams() == 1 })
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := agent.Drain(soon, "the agent stops"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain gave %v", err)
	}
	_, err = s.ReadResponse(within(t))
	if reset, ok := errors.AsType[*ResetError](err); !ok || reset.Code != Leaving || reset.Reason != "the agent stops" {
		t.Errorf("the stream ended with %v", err)
	}
}
