package gateway_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sallyport/relay/gateway"
)

// What an agent tells of its policy is an event of that agent's, bounded in size and in number.
func TestPolicyNotices(t *testing.T) {
	t.Parallel()
	events := make(chan string, 1000)
	g := openRigWith(t, t.TempDir(), func(c *gateway.Config) {
		c.Event = func(_ context.Context, actor, what string, on map[string]any) {
			events <- fmt.Sprint(actor, " ", what, " ", on["gateway"], " ", on["was"], " ", on["policy"], " ", on["detail"])
		}
	})
	a := g.joined("plant1")
	l := g.mustLink("plant1", a, at{instance: "i", generation: 1})
	for _, n := range []gateway.PolicyNotice{{Policy: "sha256:b", Was: "sha256:a"}, {Policy: "sha256:b", Refused: "unsigned\x1b" + strings.Repeat("x", 500)}} {
		if err := l.SendControl(gateway.ControlPolicy, n); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := <-events, "agent:"+a.id+" policy changed plant1 sha256:a sha256:b <nil>"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := <-events; !strings.HasPrefix(got, "agent:"+a.id+" policy file refused plant1 <nil> sha256:b unsignedxxx") || len(got) > 200 {
		t.Errorf("%q", got)
	}
	for i := range 500 {
		if err := l.SendControl(gateway.ControlPolicy, gateway.PolicyNotice{Policy: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the relay passes over what is too much", func() bool { return len(g.lines("more often than admins")) > 0 })
	l.Close("the test is over")
	g.close()
	if n := len(events); n == 0 || n > 2*32+5 {
		t.Errorf("%d of 500 became events", n)
	}
}
