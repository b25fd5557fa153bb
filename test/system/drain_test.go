//go:build linux

package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// rounds is how often a program is stopped under load: SALLYPORT_DRAINS, or few.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SALLYPORT_DRAINS")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SALLYPORT_DRAINS=%q is no number of rounds", text)
	}
	return n
}

// TestAgentsStopUnderFullLoad: one of two agents after the other is stopped by SIGTERM and started again, while callers call
// as fast as the machine lets them. No call fails.
func TestAgentsStopUnderFullLoad(t *testing.T) {
	u := newUpstream(t)
	b := ready(t, lean, []string{"web"}, api("web", u.url, "", everything))
	second := b.secondAgent()
	b.awaitLinks(4)
	w, began := b.startCrowd(32, 0, 0), time.Now()
	b.stopInTurn(second, 300*time.Millisecond)
	rate := float64(w.count()) / time.Since(began).Seconds()
	outcomes := w.stop(t, u)
	t.Logf("%d stops, %d calls, %.0f a second", rounds(t), len(outcomes), rate)
	if failed := failures(outcomes); len(failed) > 0 {
		t.Errorf("%d of %d calls failed:\n%s", len(failed), len(outcomes), show(failed))
	}
}

// TestRelayStopsUnderFullLoad: the relay, alone as it is, is stopped by SIGTERM and started again. A caller may find nobody
// there and try again; but what the relay has taken is answered, and what it has not was not run.
func TestRelayStopsUnderFullLoad(t *testing.T) {
	u := newUpstream(t)
	b := ready(t, lean, []string{"web"}, api("web", u.url, "", everything))
	b.awaitLinks(2)
	w, began := b.startCrowd(32, 0, 0), time.Now()
	for range rounds(t) {
		time.Sleep(300 * time.Millisecond)
		b.relay.stop(t)
		b.startRelay()
		b.awaitLinks(2)
	}
	rate := float64(w.count()) / time.Since(began).Seconds()
	outcomes := w.stop(t, u) // which looks that nothing that says "not run" was run
	ran := u.timesRun()
	nobody := 0
	for _, o := range outcomes {
		switch {
		case o.ok():
		case o.status == 0 && foundNobody(o.err) && ran[o.id] == 0:
			nobody++
		default:
			t.Errorf("a call that the relay had taken failed: %s (run %d times)", o, ran[o.id])
		}
	}
	t.Logf("%d stops, %d calls, %.0f a second; %d found nobody", rounds(t), len(outcomes), rate, nobody)
}

// foundNobody: nobody listened, or the kernel had taken the connection and nobody came for it. A connection that the relay has
// taken never ends under a request.
func foundNobody(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" || errors.Is(err, syscall.ECONNRESET)
}

// TestLongStreamsAtAStop: an event stream gets the drain timeout and is then ended, and so is a call that waits, which reads
// why. New calls go to the other agent meanwhile.
func TestLongStreamsAtAStop(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := newBox(t, racy)
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatal(err)
	}
	b.extraAgent = "drain_timeout: 3s\n"
	b.configure(api("web", u.url, "", everything))
	b.startAgent()
	b.publish("web")
	b.awaitLinks(2)
	resp, err := b.client(1).Get(b.at("web", "/x/events?n=1000"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	held := make(chan outcome, 1)
	go func() { held <- b.callOnce(b.client(1), http.MethodPost, "held", 60_000) }()
	eventually(t, 10*time.Second, "the call runs", func() bool { return u.timesRun()["held"] == 1 })
	second := b.secondAgent()
	defer second.stop(t)
	b.awaitLinks(4)
	began := time.Now()
	var reading sync.WaitGroup
	reading.Go(func() {
		events := 0
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data:") {
				events++
			}
		}
		if took := time.Since(began); took < 2*time.Second || took > 15*time.Second {
			t.Errorf("the event stream was ended after %s, the drain timeout is 3s", took)
		}
		if events < 5 {
			t.Errorf("only %d events came", events)
		}
	})
	b.agent.stop(t)
	reading.Wait()
	if o := <-held; o.status != http.StatusServiceUnavailable || o.problem.Error.Code != "agent-stopping" || o.problem.Executed != "unknown" {
		t.Errorf("the call that was cut: %s", o)
	}
	if err := get200(b.client(1), b.at("web", "/x/slow/0")); err != nil {
		t.Errorf("a new call: %v", err)
	}
	if log := b.logs["agent"].String(); !strings.Contains(log, "streams were cut off") {
		t.Errorf("the agent's log does not say that streams were cut off:\n%s", fmt.Sprint(tail(log, 2000)))
	}
}

// TestACallAfterALongAnswer: the answer had begun before the relay was stopped, so that it could not say that its connection closes.
// The caller's next request on that connection, after the answer's end, is answered, and that answer says it.
func TestACallAfterALongAnswer(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	conn := b.dialTLS("http/1.1")
	read := bufio.NewReader(conn)
	ask := func(path string) *http.Response {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", strings.TrimPrefix(b.at("web", path), b.url), hostName)
		resp, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return resp
	}
	long := ask("/x/events?n=6")
	if long.StatusCode != http.StatusOK || long.Close {
		t.Fatalf("the long answer: %v", long)
	}
	ended := make(chan struct{})
	go func() {
		b.relay.stop(t)
		close(ended)
	}()
	if _, err := io.Copy(io.Discard, long.Body); err != nil {
		t.Fatalf("the long answer broke off: %v", err)
	}
	next := ask("/x/slow/0")
	if got := text(t, next); got != "slow but sure" || !next.Close {
		t.Errorf("the next request: %s %q, closes %v", next.Status, got, next.Close)
	}
	<-ended
}

// stopInTurn stops and starts one of two agents after the other, for as many rounds as the run has.
func (b *box) stopInTurn(second *process, every time.Duration) {
	b.t.Helper()
	for i := range rounds(b.t) {
		time.Sleep(every)
		if i%2 == 0 {
			b.agent.stop(b.t)
			b.startAgent()
		} else {
			second.stop(b.t)
			second = b.startSecond()
		}
		b.awaitLinks(4)
	}
}

// TestAgentsStopUnderMixedLoad: as TestAgentsStopUnderFullLoad, with callers of all kinds, whose bodies nobody keeps.
func TestAgentsStopUnderMixedLoad(t *testing.T) {
	u := newUpstream(t)
	b := mixedBox(t, lean, u, "")
	second := b.secondAgent()
	b.awaitLinks(4)
	m := b.startMixed(20 * time.Millisecond)
	b.stopInTurn(second, time.Second)
	if failed := m.stop(u); len(failed) > 0 {
		t.Errorf("%d calls failed:\n%s", len(failed), showAll(failed, u, 10))
	}
}

// TestRelayStopsUnderMixedLoad: as TestRelayStopsUnderFullLoad.
func TestRelayStopsUnderMixedLoad(t *testing.T) {
	u := newUpstream(t)
	b := mixedBox(t, lean, u, "")
	b.awaitLinks(2)
	m := b.startMixed(20 * time.Millisecond)
	for range rounds(t) {
		time.Sleep(time.Second)
		b.relay.stop(t)
		b.startRelay()
		b.awaitLinks(2)
	}
	failed := m.stop(u)
	ran := u.timesRun()
	taken := slices.DeleteFunc(slices.Clone(failed), func(o outcome) bool { return o.status == 0 && foundNobody(o.err) && ran[o.id] == 0 })
	t.Logf("%d found nobody", len(failed)-len(taken))
	if len(taken) > 0 {
		t.Errorf("%d calls that the relay had taken failed:\n%s", len(taken), showAll(taken, u, 10))
	}
}
