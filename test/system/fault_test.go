//go:build linux

package system

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/test/fault"
)

// deadWithin is how soon a link whose packets vanish has to be out of use, and who waits on it told; busyGrace is for a
// machine that does many other things.
const (
	deadWithin = 10 * time.Second
	busyGrace  = 2 * time.Second
)

// behind is ready with a fault proxy between the agent and the relay.
func behind(t *testing.T, u *upstream, extraAgent string) (*box, *fault.Proxy) {
	t.Helper()
	return behindWith(t, racy, u, extraAgent, func(*box) {})
}

// behindWith is behind with these programs; prepare is called before the agent starts.
func behindWith(t *testing.T, bin binaries, u *upstream, extraAgent string, prepare func(*box)) (*box, *fault.Proxy) {
	t.Helper()
	b := newBox(t, bin)
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatalf("sallyport-agent join: %v", err)
	}
	p, err := fault.New(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	b.relayURL = "https://" + strings.Replace(p.Addr(), "127.0.0.1", hostName, 1)
	b.extraAgent += extraAgent
	b.configure(api("web", u.url, "", everything))
	prepare(b)
	b.startAgent()
	b.publish("web")
	return b, p
}

// TestVanishedLinks: a firewall forgets the agent's connections, in one direction or both. Within 10 s new links are up, and
// whoever was waiting has an answer or an error that says that the outcome is unknown.
func TestVanishedLinks(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]fault.Way{"up": fault.Up, "down": fault.Down, "both": fault.Both} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			b, p := behind(t, u, "")
			b.awaitLinks(2)
			before := p.Dialed()
			results := make(chan outcome, 2)
			for i, method := range []string{"GET", "POST"} {
				go func() { results <- b.callOnce(b.client(1), method, fmt.Sprint("held", i), 7000) }()
			}
			eventually(t, 10*time.Second, "both calls run", func() bool { return len(u.timesRun()) == 2 })
			p.Vanish(way)
			began := time.Now()
			eventually(t, deadWithin+busyGrace, "new links are dialed", func() bool { return p.Dialed() >= before+2 })
			eventually(t, deadWithin+busyGrace, "calls are answered again", func() bool {
				return get200(b.client(1), b.at("web", "/x/slow/0")) == nil
			})
			t.Logf("back after %s", time.Since(began).Round(time.Millisecond))
			for range 2 {
				o := <-results
				told := o.began.Add(o.took).Sub(began)
				switch {
				case o.method == "GET" && (o.ok() && told < 2*deadWithin+busyGrace || o.problem.Executed == "unknown"):
				case o.ok() && told < deadWithin: // the way of the answer was open
				case o.method == "POST" && o.status == http.StatusBadGateway && o.problem.Error.Code == "link-lost" &&
					o.problem.Executed == "unknown" && told < deadWithin+busyGrace:
				default:
					t.Errorf("%s after the links vanished: %s", told.Round(time.Millisecond), o)
				}
			}
			if n := u.timesRun()["held1"]; n != 1 {
				t.Errorf("the POST was run %d times", n)
			}
		})
	}
}

// TestFrozenAgentOfTwo: one of two agents hangs. What it had is answered by the other or told within 10 s; nothing else waits
// longer, and after that nothing waits at all.
func TestFrozenAgentOfTwo(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	b.secondAgent()
	b.awaitLinks(4)
	w := b.startCrowd(20, 20*time.Millisecond, 10)
	time.Sleep(time.Second)
	b.agent.freeze()
	frozen := time.Now()
	time.Sleep(deadWithin + busyGrace)
	over := w.count()
	time.Sleep(2 * time.Second)
	if w.count() == over {
		t.Error("no call ends any more")
	}
	b.agent.thaw()
	outcomes := w.stop(t, u)
	t.Logf("%d calls, %d failed", len(outcomes), len(failures(outcomes)))
	for _, o := range outcomes {
		if o.took > deadWithin+busyGrace {
			t.Errorf("a call waited: %s", o)
		}
		if o.began.After(frozen.Add(deadWithin+busyGrace)) && !o.ok() {
			t.Errorf("a call failed after the frozen agent was out of use: %s", o)
		}
	}
	for _, o := range failures(outcomes) {
		if o.method == http.MethodGet || o.problem.Error.Code != "link-lost" || o.problem.Executed != "unknown" {
			t.Errorf("a call failed that need not: %s", o)
		}
	}
}

// TestKilledAgentOfTwo: kill -9 of one of two agents under 500 calls a second. Only what was under way there and cannot be
// repeated fails, and at once.
func TestKilledAgentOfTwo(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, lean, []string{"web"}, api("web", u.url, "", everything))
	second := b.secondAgent()
	b.awaitLinks(4)
	w := b.startCrowd(30, 30*time.Millisecond, 20)
	for i := range 4 {
		time.Sleep(time.Second)
		began, killed := time.Now(), w.count()
		if i%2 == 0 {
			b.agent.kill()
			b.startAgent()
		} else {
			second.kill()
			second = b.startSecond()
		}
		b.awaitLinks(4)
		t.Logf("kill %d: %d calls until all links were back after %s", i+1, w.count()-killed, time.Since(began).Round(time.Millisecond))
	}
	outcomes := w.stop(t, u)
	failed := failures(outcomes)
	t.Logf("%d calls, %d failed", len(outcomes), len(failed))
	for _, o := range failed {
		if o.method == http.MethodGet || o.problem.Error.Code != "link-lost" || o.problem.Executed != "unknown" || o.took > 2*time.Second {
			t.Errorf("a call failed that need not: %s", o)
		}
	}
	if len(failed) > 4*30 {
		t.Errorf("%d calls failed; at most 30 were under way at each of 4 kills", len(failed))
	}
}

// TestSlowLine: bulk over 1 Mbit/s and 300 ms. The links live, and small calls are answered meanwhile.
func TestSlowLine(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b, p := behind(t, u, "links: 1\n")
	p.Set(fault.Both, fault.Line{Delay: 150 * time.Millisecond, Rate: 125_000})
	before := p.Dialed()
	bulk := make(chan error, 2)
	for range 2 {
		go func() { bulk <- get200(b.client(1), b.at("web", "/x/big/1000000")) }()
	}
	small := 0
	c := b.client(1)
	var worst time.Duration
	for done := 0; done < 2; {
		select {
		case err := <-bulk:
			if err != nil {
				t.Errorf("1 MB: %v", err)
			}
			done++
		default:
			began := time.Now()
			if err := get200(c, b.at("web", "/x/slow/0")); err != nil {
				t.Errorf("a small call beside it: %v", err)
			}
			worst = max(worst, time.Since(began))
			small++
		}
	}
	t.Logf("%d small calls beside 2 MB of bulk, the slowest took %s", small, worst.Round(time.Millisecond))
	if worst > 8*time.Second {
		t.Errorf("a small call took %s: it stood behind the bulk", worst)
	}
	if n := p.Dialed(); n != before {
		t.Errorf("%d links were made anew on a line that is slow, not dead", n-before)
	}
}

// TestRotation: links are replaced again and again before they grow older than they may, and no call notices.
func TestRotation(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b, p := behind(t, u, "links: 1\nmax_link_age: 10s\n")
	before := p.Dialed()
	w := b.startCrowd(8, 5*time.Millisecond, 5)
	long := make(chan outcome, 1)
	go func() { long <- b.callOnce(b.client(1), http.MethodPost, "long", 25_000) }() // longer than a link's life
	eventually(t, 60*time.Second, "the link is replaced twice", func() bool { return p.Dialed() >= before+2 })
	if o := <-long; !o.ok() {
		t.Errorf("the call that outlived its link: %s", o)
	}
	outcomes := w.stop(t, u)
	t.Logf("%d calls over %d links", len(outcomes), p.Dialed()-before+1)
	if failed := failures(outcomes); len(failed) > 0 {
		t.Errorf("%d of %d calls failed:\n%s", len(failed), len(outcomes), show(failed))
	}
}
