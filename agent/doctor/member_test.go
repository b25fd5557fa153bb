package doctor

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"sallyport/agent"
	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/tunnel"
)

// greeter is a relay that decides so about whoever asks how it stands to the agent.
func greeter(t *testing.T, verify func(tunnel.Claim) (tunnel.Welcome, error)) (h http.Handler, fingerprint string) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", relay())
	mux.HandleFunc("GET "+tunnel.Path, func(w http.ResponseWriter, q *http.Request) {
		ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil)
		if err != nil {
			return
		}
		_, _, err = tunnel.Greet(q.Context(), ws, tunnel.RelayIdentity{Key: key, Node: "n1"}, func(_ context.Context, c tunnel.Claim) (tunnel.Welcome, error) {
			return verify(c)
		})
		if err == nil {
			_ = ws.Close()
		}
	})
	return mux, tunnel.Fingerprint(public)
}

// member gives the findings of an installation whose relay decides so; its agent says that so many links are up.
func member(t *testing.T, up int, pinned string, verify func(tunnel.Claim) (tunnel.Welcome, error)) map[string]Finding {
	t.Helper()
	ca := newAuthority(t)
	h, fingerprint := greeter(t, verify)
	r := ca.serve(h, longLife)
	w := newWard(t, r.URL, "ca: "+ca.file)
	dir := w.join(r.URL)
	if pinned == "" {
		pinned = fingerprint
	}
	id, err := identity.New(r.URL, pinned, "plant1")
	if err != nil {
		t.Fatal(err)
	}
	id.Agent, id.Joined = "a1", true
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	s := agent.Status{Running: up > 0, Written: time.Now()}
	for range up {
		s.Links = append(s.Links, link.Status{State: link.StateUp})
	}
	data, err := json.Marshal(s)
	if err == nil {
		err = dir.Write("status.json", data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w.examine()
}

// says is a relay that lets the agent in, and got so much over its links.
func says(list ...tunnel.Echo) func(tunnel.Claim) (tunnel.Welcome, error) {
	return func(c tunnel.Claim) (tunnel.Welcome, error) {
		if c.Kind != tunnel.KindCheck || c.Agent != "a1" || c.Gateway != "plant1" {
			return tunnel.Welcome{}, &tunnel.Refusal{Code: "bad", Reason: "another claim: " + c.Kind}
		}
		return tunnel.Welcome{Agent: c.Agent, Echoes: list}, nil
	}
}

func refuses(code string) func(tunnel.Claim) (tunnel.Welcome, error) {
	return func(tunnel.Claim) (tunnel.Welcome, error) {
		return tunnel.Welcome{}, &tunnel.Refusal{Code: code, Reason: "no"}
	}
}

func TestHowTheRelayStandsToTheAgent(t *testing.T) {
	t.Parallel()
	got := member(t, 2, "", says(tunnel.Echo{Slot: 0, Answered: true, Millis: 1.5}, tunnel.Echo{Slot: 1, Answered: true, Millis: 2}))
	want(t, got, "relay.member", OK, "knows agent a1 of gateway plant1")
	want(t, got, "relay.echo", OK, "link 0 answers, round trip 1.5 ms; link 1 answers")

	got = member(t, 2, "", says(tunnel.Echo{Slot: 0, Answered: true}, tunnel.Echo{Slot: 1}))
	want(t, got, "relay.echo", Warn, "link 1 does not answer", "holds back")
	got = member(t, 2, "", says(tunnel.Echo{Slot: 0}, tunnel.Echo{Slot: 1}))
	want(t, got, "relay.echo", Fail, "link 0 does not answer; link 1 does not answer", "service restart")
	got = member(t, 2, "", says())
	want(t, got, "relay.echo", Fail, "no link of this agent, whose status says that 2 are up")
	got = member(t, 0, "", says())
	want(t, got, "relay.member", OK)
	want(t, got, "relay.echo", Skip, "no link of this agent")
}

func TestTheRelayRefusesTheAgent(t *testing.T) {
	t.Parallel()
	for code, c := range map[string]struct {
		s  Status
		do string
	}{
		"pending":       {Warn, "agent approve a1"},
		"revoked":       {Fail, "join --replace"},
		"unknown-agent": {Fail, "join --replace"},
		"key-replaced":  {Fail, "newer identity.json"},
		"internal":      {Fail, "the relay's log"},
		"bad-claim":     {Skip, "older than this agent"},
	} {
		got := member(t, 0, "", refuses(code))
		want(t, got, "relay.member", c.s, c.do)
		if _, there := got["relay.echo"]; there {
			t.Errorf("%s: an echo of a relay that refuses", code)
		}
	}
	got := member(t, 0, "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", says())
	want(t, got, "relay.member", Fail, "not the pinned one", "join again")
}
