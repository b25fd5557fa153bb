//go:build linux

package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/test/fault"
)

const day = 24 * time.Hour

// TestClocks: other people's clocks are wrong, and are set.
func TestClocks(t *testing.T) {
	t.Parallel()
	skewed := binaries{relay: lean.relay, agent: skewedAgent(t)}
	t.Run("a day apart", func(t *testing.T) { clocksADayApart(t, skewed) })
	t.Run("set", func(t *testing.T) { clockIsSet(t, skewed) })
}

// clocksADayApart: an agent whose machine is a day off says so, and where. While the relay's certificate is good by both clocks,
// it joins, links, serves and has its record anchored as any other, as nothing of that goes by the agent's clock.
func clocksADayApart(t *testing.T, skewed binaries) {
	t.Parallel()
	for _, skew := range []time.Duration{day, -day} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			b := newBox(t, skewed)
			b.agentEnv = []string{fmt.Sprintf("SALLYPORT_TEST_SKEW=%d", int(skew.Seconds()))}
			b.startRelay()
			if err := b.join(b.addGateway()); err == nil || !strings.Contains(err.Error(), "clock") {
				t.Errorf("a certificate of today's: %v; want an error that speaks of the clock", err)
			}
			b.relay.stop(t)
			now := time.Now()
			b.cas = makeCAWithin(t, b.dir, now.Add(-10*day), now.Add(10*day), hostName)
			b.startRelay()
			var made struct{ Join string }
			b.admin(&made, "gateway", "join", gatewayName)
			if err := b.join(b.secret("the second join string", made.Join)); err != nil {
				t.Fatalf("with a certificate that is good by both clocks: %v", err)
			}
			b.configure(api("web", u.url, "", everything))
			b.startAgent()
			b.publish("web")
			resp, err := b.client(1).Get(b.at("web", "/x/status/204"))
			if err != nil || resp.StatusCode != http.StatusNoContent {
				t.Fatalf("%v, %v", resp, err)
			}
			eventually(t, 30*time.Second, "all links are up", func() bool { return b.state().all("up") })
			got, err := b.check()
			if err == nil {
				t.Error("check finds nothing")
			}
			b.want(got, "relay.clock", "fail", map[time.Duration]string{day: "ahead of", -day: "behind"}[skew])
			b.recordIsAnchored(b.state().Agent)
		})
	}
}

// clockIsSet: the clock of an agent's machine is set, by an hour. No link ends for that, and one whose packets have just begun to vanish
// is given up as soon as any other.
func clockIsSet(t *testing.T, skewed binaries) {
	t.Parallel()
	const after = 12 * time.Second
	for _, skew := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			var set time.Time // not before this
			b, p := behindWith(t, skewed, u, "", func(b *box) {
				b.agentEnv = []string{
					fmt.Sprintf("SALLYPORT_TEST_SKEW=%d", int(skew.Seconds())), fmt.Sprintf("SALLYPORT_TEST_SKEW_AFTER=%d", int(after.Seconds())),
				}
				set = time.Now().Add(after)
			})
			b.awaitLinks(2)
			before := p.Dialed()
			time.Sleep(time.Until(set.Add(-300 * time.Millisecond)))
			if skew > 0 {
				time.Sleep(8 * time.Second) // idle but for pings
				if n := p.Dialed() - before; n > 0 {
					t.Errorf("%d links were made anew", n)
				}
			}
			p.Vanish(fault.Down) // which the agent alone can notice
			eventually(t, deadWithin+busyGrace, "new links are dialed", func() bool { return p.Dialed() >= before+2 })
			b.awaitLinks(2)
			said, hour := b.logs["agent"].String(), func(at time.Time) string { return at.Add(skew).UTC().Format("2006-01-02T15:") }
			if !strings.Contains(said, hour(set)) && !strings.Contains(said, hour(time.Now())) {
				t.Error("the clock was not set: that proves nothing")
			}
		})
	}
}

// skewedAgent builds the agent with a clock that SALLYPORT_TEST_SKEW sets off, in seconds, from its start on or so many seconds later
// as SALLYPORT_TEST_SKEW_AFTER says: the time package in its place reads that once. The kernel has no such thing for the time of day, and Go's programs ask no library that could be put in its place.
func skewedAgent(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src/time/time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const reads = "sec, nsec, mono := runtimeNow()\n"
	before, after, ok := strings.Cut(string(text), "func Now() Time {\n\t"+reads)
	if !ok {
		t.Fatalf("%s does not read the time of day where this test looks for it", original)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "time.go"), []byte(before+"func Now() Time {\n\t"+reads+"\tif mono-startNano >= skewAfter {\n\t\tsec += skew\n\t}\n"+after))
	write(t, filepath.Join(dir, "skew.go"), []byte(`package time

import "syscall"

var skew, skewAfter = number("SALLYPORT_TEST_SKEW"), number("SALLYPORT_TEST_SKEW_AFTER") * 1e9

func number(name string) (n int64) {
	text, _ := syscall.Getenv(name)
	negative := len(text) > 0 && text[0] == '-'
	for _, c := range text {
		if c != '-' {
			n = 10*n + int64(c-'0')
		}
	}
	if negative {
		n = -n
	}
	return n
}
`))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		original: filepath.Join(dir, "time.go"), filepath.Join(filepath.Dir(original), "skew.go"): filepath.Join(dir, "skew.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), overlay)
	agent := filepath.Join(dir, "sallyport-agent")
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", agent, "sallyport/cmd/sallyport-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent with another clock: %v\n%s", err, out)
	}
	return agent
}
