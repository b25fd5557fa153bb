package agent

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent/link"
)

// pulse asks the rig's agent until it says what is wanted.
func (r *rig) pulse(want string) {
	r.t.Helper()
	r.until("its pulse is "+want, func() bool {
		ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
		defer cancel()
		text, err := r.agent.Pulse(ctx)
		return err == nil && strings.Contains(text, want)
	})
}

func TestPulse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.link()
	r.pulse("1 link to 127.0.0.1:")
	r.pulse(", 1 API")
	if err := Tell(t.Context(), r.state, func(told *Told) error { told.Pause(Pause{API: "orders"}); return nil }); err != nil {
		t.Fatal(err)
	}
	r.pulse(", 1 API (1 paused)")
	r.write("nonsense: 1\n")
	r.pulse("agent.yaml as it is now is wrong")

	// An agent whose locks are not let go of does not answer, whatever its timers do.
	r.agent.status.mu.Lock()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if text, err := r.agent.Pulse(ctx); err == nil {
		t.Errorf("an agent that is stuck answers %q", text)
	}
	r.agent.status.mu.Unlock()
	r.pulse("1 link to")

	r.stop()
	ended, cancelled := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelled()
	if text, err := r.agent.Pulse(ended); err == nil {
		t.Errorf("an agent that has ended answers %q", text)
	}
}

func TestPulseSaysWhyThereIsNoLink(t *testing.T) {
	t.Parallel()
	up, down := link.Status{State: link.StateUp}, link.Status{State: link.StateDown, Reason: "dial: no such host"}
	for _, c := range []struct {
		links []link.Status
		want  string
	}{
		{[]link.Status{up, up}, "2 links to relay.example.com"},
		{[]link.Status{up}, "1 link to relay.example.com"},
		{[]link.Status{up, down}, "1 of 2 links to relay.example.com"},
		{[]link.Status{{State: link.StateDialing}, down}, "no link to relay.example.com: dial: no such host"},
		{[]link.Status{{State: link.StateWaiting}}, "no link to relay.example.com: waiting for approval"},
	} {
		if diff := cmp.Diff(c.want, linksLine("https://relay.example.com", c.links)); diff != "" {
			t.Error(diff)
		}
	}
}

// Who asked for the file to be read again is told when that was done, wrong or gone as it may be.
func TestReadingAgainIsFramed(t *testing.T) {
	t.Parallel()
	var begun, done atomic.Int32
	r := newRigAs(t, yamlForm, func(r *rig) {
		r.rereading = func() func() { begun.Add(1); return func() { done.Add(1) } }
	})
	r.again <- struct{}{}
	r.until("the reload has ended", func() bool { return done.Load() == 1 })
	r.write("nonsense: 1\n")
	r.pulse("agent.yaml as it is now is wrong")
	if begun.Load() != 1 {
		t.Error("a file that changed by itself is told as asked for")
	}
	r.again <- struct{}{}
	r.until("the reload of a broken file has ended", func() bool { return done.Load() == 2 })
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.again <- struct{}{}
	r.until("the reload of no file has ended", func() bool { return done.Load() == 3 })
	if begun.Load() != 3 {
		t.Errorf("%d reloads have begun, 3 have ended", begun.Load())
	}
}
