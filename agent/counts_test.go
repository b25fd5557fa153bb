package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"sallyport/tunnel"
)

// TestStatusCountsCalls: what became of calls is in the status, a reload leaves the counts, and a file that is wrong is told
// until a right one is there.
func TestStatusCountsCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	status := func() Status {
		t.Helper()
		s, err := ReadStatus(r.state)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // not written yet
			t.Fatal(err)
		}
		return s
	}
	for _, target := range []string{"/orders/1", "/orders/2"} {
		if resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: target}); resp.Status != 200 {
			t.Fatalf("%s: %d", target, resp.Status)
		}
	}
	r.ask(l, tunnel.Request{Method: "DELETE", Target: "/orders/3"})
	r.ask(l, tunnel.Request{Method: "GET", Target: "/x", API: "other"}) // of no API

	r.write(strings.Replace(r.text(), "links: 1", "links: nonsense", 1))
	r.until("the status tells of the wrong file", func() bool { return strings.Contains(status().ConfigProblem, "agent.yaml:3:") })
	good := strings.Replace(r.text(), "links: nonsense", "links: 1", 1)
	r.write(strings.Replace(good, "GET /orders/**", "GET /orders/{id}", 1))
	r.until("the status tells of the next policy", func() bool {
		s := status()
		return s.ConfigProblem == "" && s.Policy == r.agent.now.Load().hash && s.PolicySince.After(s.Started)
	})

	r.api.Close()
	r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/4?q=query-secret"})
	r.stop()
	s := status()
	if s.Running || s.Version != "1.2.3" || len(s.APIs) != 1 {
		t.Fatalf("%+v", s)
	}
	a := s.APIs[0]
	if got := fmt.Sprint(a.Name, a.Calls, a.Refused, a.Failed); got != "orders4 1 1" || a.Last.IsZero() {
		t.Errorf("name, calls, refused, failed: %s, last %s", got, a.Last)
	}
	if p := a.LastProblem; p == nil || p.Path != "/orders/4" || p.Status != 502 || p.Problem != "upstream-unreachable" || p.Request != "r-GET" {
		t.Errorf("last problem: %+v", p)
	}
}

// TestStatusOfLinks: a link that is up says to which node it leads, of which version, and its round trip once that is known.
func TestStatusOfLinks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.link()
	r.until("the link is up, with its round trip", func() bool {
		s := r.agent.links.Status()
		return s[0].State == "up" && s[0].Node == "n1" && s[0].RTT > 0
	})
}
