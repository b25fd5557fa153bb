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
)

const day = 24 * time.Hour

// TestClocksADayApart: an agent whose machine is a day off says so, and where. While the relay's certificate is good by both clocks,
// it joins, links, serves and has its record anchored as any other, as nothing of that goes by the agent's clock.
func TestClocksADayApart(t *testing.T) {
	t.Parallel()
	skewed := binaries{relay: lean.relay, agent: skewedAgent(t)}
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

// skewedAgent builds the agent with a clock that SALLYPORT_TEST_SKEW sets off, in seconds: the time package in its place reads that
// once. The kernel has no such thing for the time of day, and Go's programs ask no library that could be put in its place.
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
	write(t, filepath.Join(dir, "time.go"), []byte(before+"func Now() Time {\n\t"+reads+"\tsec += skew\n"+after))
	write(t, filepath.Join(dir, "skew.go"), []byte(`package time

import "syscall"

var skew = func() (n int64) {
	text, _ := syscall.Getenv("SALLYPORT_TEST_SKEW")
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
}()
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
