package gateway_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

func TestJoinCodesAreUsedOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	join, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{})
	if err != nil {
		t.Fatal(err)
	}
	if join.RelayKey != g.r.Fingerprint() || join.Gateway != "plant1" || join.Relay != "http://relay.example" {
		t.Errorf("the join string names %+v", join)
	}
	first, second := newAgent(), newAgent()
	wantRefusal(t, g.join("plant1", tunnel.NewCode(), &second), "code-unknown")
	wantRefusal(t, g.join("plant2", join.Code, &second), "unknown-gateway")
	wantRefusal(t, g.join("pla/nt *", join.Code, &second), "unknown-gateway")
	if err := g.join("plant1", join.Code, &first); err != nil {
		t.Fatal(err)
	}
	id := first.id
	if err := g.join("plant1", join.Code, &first); err != nil || first.id != id {
		t.Errorf("the same agent joins again after a lost answer: %v, %q and %q", err, id, first.id)
	}
	wantRefusal(t, g.join("plant1", join.Code, &second), "code-used")
	if got := len(g.r.Status()[0].Agents); got != 1 {
		t.Errorf("%d agents, want 1", got)
	}
	if err := g.r.RevokeAgent(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, g.join("plant1", join.Code, &first), "code-used")
	again, err := g.r.NewJoin(t.Context(), "plant1", gateway.CodeUse{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.join("plant1", again.Code, &first); err != nil {
		t.Errorf("a revoked agent with a new code: %v", err)
	}
	g.mustLink("plant1", first, at{instance: "x"})
}

func TestJoinCodesExpire(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	join, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{Life: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Millisecond) // the life of the code, which the store keeps in real time
	a := newAgent()
	wantRefusal(t, g.join("plant1", join.Code, &a), "code-expired")
	for range 100 {
		if _, err = g.r.NewJoin(t.Context(), "plant1", gateway.CodeUse{Life: time.Hour}); err != nil {
			break
		}
	}
	if !errors.Is(err, gateway.ErrFull) {
		t.Errorf("100 codes: %v", err)
	}
}

func TestEverythingSurvivesARestart(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	kept, revoked, gone := g.joined("plant1"), g.joined("plant1"), g.joined("plant2")
	if err := errors.Join(g.r.RevokeAgent(t.Context(), revoked.id), g.r.RemoveGateway(t.Context(), "plant2")); err != nil {
		t.Fatal(err)
	}
	before, key := g.r.Status(), g.r.Fingerprint()
	g.close()

	g = openRig(t, g.dir)
	if diff := cmp.Diff(before, g.r.Status()); diff != "" {
		t.Errorf("after a restart (-before +after):\n%s", diff)
	}
	if g.r.Fingerprint() != key {
		t.Error("the signing key has changed")
	}
	g.mustLink("plant1", kept, at{instance: "x"})
	_, err := g.link("plant1", revoked, at{instance: "x"})
	wantRefusal(t, err, "revoked")
	_, err = g.link("plant2", gone, at{instance: "x"})
	wantRefusal(t, err, "unknown-gateway")
}

// TestMissingKeyIsAnError: a relay with another key would be refused by all its agents, for a reason nobody sees here.
func TestMissingKeyIsAnError(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 40) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			g.joined("plant1")
			g.close()
			path := filepath.Join(g.dir, "relay.key")
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("the key file: %v, %v", info, err)
			}
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			if err := reopen(t, g.dir); err == nil || !strings.Contains(err.Error(), "backup") {
				t.Errorf("New: %v", err)
			}
		})
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	if _, err := g.r.Pick("plant1", "orders"); !errors.Is(err, gateway.ErrUnknownGateway) {
		t.Errorf("no gateway: %v", err)
	}
	a, b := g.joined("plant1"), g.joined("plant1")
	if _, err := g.r.Pick("plant1", "orders"); !errors.Is(err, gateway.ErrNoLink) {
		t.Errorf("no link: %v", err)
	}
	first := g.mustLink("plant1", a, at{instance: "a"})
	if _, err := g.r.Pick("plant1", "orders"); !errors.Is(err, gateway.ErrNoLink) {
		t.Errorf("a link without an offer: %v", err)
	}
	offer(t, first, "orders", "stock")
	g.mustLink("plant1", b, at{instance: "b"}, "orders")
	pick := func(api string, exclude ...*gateway.Link) *gateway.Link {
		l, _ := g.r.Pick("plant1", api, exclude...)
		return l
	}
	eventually(t, "both offers", func() bool { l := pick("orders"); return l != nil && pick("orders", l) != nil })
	if _, err := g.r.Pick("plant1", "payroll"); !errors.Is(err, gateway.ErrNotOffered) {
		t.Errorf("an API that nobody offers: %v", err)
	}
	stock := pick("stock")
	if stock == nil || stock.Agent != a.id {
		t.Fatalf("stock is offered by %s, picked %v", a.id, stock)
	}
	if _, err := g.r.Pick("plant1", "stock", stock); !errors.Is(err, gateway.ErrNoLink) {
		t.Errorf("the only link that offers it is excluded: %v", err)
	}
	// A stream on one link moves the next pick to the other.
	for range 4 {
		l := pick("orders")
		other := pick("orders", l)
		if l.Streams() > other.Streams() {
			t.Errorf("picked the link with %d streams, the other has %d", l.Streams(), other.Streams())
		}
		if _, err := l.Open(&tunnel.Request{ID: "r", API: "orders", Method: "GET", Target: "/"}, false); err != nil {
			t.Fatal(err)
		}
	}
	offer(t, first, "orders")
	eventually(t, "the newer offer replaces the older", func() bool {
		_, err := g.r.Pick("plant1", "stock")
		return errors.Is(err, gateway.ErrNotOffered)
	})
	// What one agent has paused, another still answers; what all have paused is named so.
	if err := first.SendControl(gateway.ControlOffer, map[string]any{"apis": []any{map[string]any{"name": "orders", "paused": true}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the paused link is not picked", func() bool { l := pick("orders"); return l != nil && l.Agent == b.id && pick("orders", l) == nil })
	if _, err := g.r.Pick("plant1", "orders", pick("orders")); !errors.Is(err, gateway.ErrPaused) && !errors.Is(err, gateway.ErrNoLink) {
		t.Errorf("the other one is paused: %v", err)
	}
	// An offer with a name that cannot be is refused as a whole.
	offer(t, first, "stock", "No Name")
	offer(t, first, "later")
	eventually(t, "the next good offer", func() bool { return pick("later") != nil })
	if pick("stock") != nil {
		t.Error("a bad offer was taken")
	}
}

func TestRevokedAgentsLinksEnd(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a, b := g.joined("plant1"), g.joined("plant1")
	gone, stays := g.mustLink("plant1", a, at{instance: "a"}, "orders"), g.mustLink("plant1", b, at{instance: "b"}, "orders")
	if err := g.r.RevokeAgent(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revoked agent's link to end", ended(gone))
	_, err := g.link("plant1", a, at{instance: "a", generation: 2})
	wantRefusal(t, err, "revoked")
	if ended(stays)() {
		t.Error("the other agent's link has ended too")
	}
	if err := g.r.RemoveGateway(t.Context(), "plant1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removed gateway's link to end", ended(stays))
	if _, err := g.r.Pick("plant1", "orders"); !errors.Is(err, gateway.ErrUnknownGateway) {
		t.Errorf("Pick: %v", err)
	}
	if err := g.r.RevokeAgent(t.Context(), a.id); !errors.Is(err, gateway.ErrUnknownAgent) {
		t.Errorf("revoking an agent of a removed gateway: %v", err)
	}
}

// TestRemovedAgentIsShutOut, revoked or not, and can come back only with a new code.
func TestRemovedAgentIsShutOut(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	join, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{})
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent()
	if err := g.join("plant1", join.Code, &a); err != nil {
		t.Fatal(err)
	}
	b := g.joined("plant1")
	live := g.mustLink("plant1", a, at{instance: "a"}, "orders")
	if err := errors.Join(g.r.RevokeAgent(t.Context(), b.id), g.r.RemoveAgent(t.Context(), a.id), g.r.RemoveAgent(t.Context(), b.id)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removed agent's link to end", ended(live))
	if agents := g.r.Status()[0].Agents; len(agents) != 0 {
		t.Errorf("still on record: %+v", agents)
	}
	_, err = g.link("plant1", a, at{instance: "a", generation: 2})
	wantRefusal(t, err, "unknown-agent")
	wantRefusal(t, g.join("plant1", join.Code, &a), "code-used")
	if err := g.r.RemoveAgent(t.Context(), a.id); !errors.Is(err, gateway.ErrUnknownAgent) {
		t.Errorf("removing twice: %v", err)
	}
	again, err := g.r.NewJoin(t.Context(), "plant1", gateway.CodeUse{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.join("plant1", again.Code, &a); err != nil {
		t.Errorf("a removed agent with a new code: %v", err)
	}
}

func TestNewerGenerationReplaces(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	first := g.mustLink("plant1", a, at{"a", 0, 1}, "orders")
	other := g.mustLink("plant1", a, at{"a", 1, 1}, "orders")
	second := g.mustLink("plant1", a, at{"a", 0, 2}, "orders")
	eventually(t, "the older generation to end", ended(first))
	late := g.mustLink("plant1", a, at{"a", 0, 1})
	eventually(t, "a late older generation to be closed", ended(late))
	if ended(second)() || ended(other)() {
		t.Error("a link that was not replaced has ended")
	}
	eventually(t, "two links in the status", func() bool { return len(g.r.Status()[0].Agents[0].Links) == 2 })
}

func TestClones(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	first := g.mustLink("plant1", a, at{"process-1", 0, 1}, "orders")
	eventually(t, "the first link to be up", func() bool { return len(g.r.Status()[0].Agents[0].Links) == 1 })
	_, err := g.link("plant1", a, at{"process-2", 0, 1})
	wantRefusal(t, err, "clone")
	if ended(first)() {
		t.Error("the first process lost its link to its clone")
	}
	if c := g.r.Status()[0].Agents[0].Clone; c == nil || c.Peer != "127.0.0.1" || time.Since(c.Seen) > time.Minute {
		t.Errorf("the status shows the clone as %+v", c)
	}
	if len(g.lines("a second process")) != 1 {
		t.Error("the log does not tell of the clone")
	}
	// A process that drains is about to end: its successor is no clone.
	first.GoAway("the agent restarts")
	eventually(t, "the relay to hear of the drain", func() bool {
		links := g.r.Status()[0].Agents[0].Links
		return len(links) == 1 && links[0].State == "draining"
	})
	g.mustLink("plant1", a, at{"process-3", 0, 1}, "orders")
}

// TestSilentLinkGivesWay: a process that no longer answers does not lock out its successor.
func TestSilentLinkGivesWay(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	// Introduced, but nobody runs this side of the link: nothing is read, and no ping is answered.
	_, _, err := g.introduce(tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: "plant1", Agent: a.id, Instance: "frozen", Generation: 1}, Key: a.key,
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the frozen link to be there", func() bool { return len(g.r.Status()[0].Agents[0].Links) == 1 })
	g.mustLink("plant1", a, at{"successor", 0, 1}, "orders")
	eventually(t, "the successor alone", func() bool {
		l, err := g.r.Pick("plant1", "orders")
		return err == nil && l.Agent == a.id && len(g.r.Status()[0].Agents[0].Links) == 1
	})
}

func TestClaimsOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a, b := g.joined("plant1"), g.joined("plant2")
	_, err := g.link("plant2", a, at{instance: "x"})
	wantRefusal(t, err, "unknown-agent")
	_, err = g.link("plant1", agent{key: b.key, id: a.id}, at{instance: "x"})
	wantRefusal(t, err, "unknown-agent")
	_, err = g.link("plant1", a, at{instance: "x", slot: 10000})
	wantRefusal(t, err, "bad-claim")
	_, err = g.link("plant1", a, at{instance: ""})
	wantRefusal(t, err, "bad-claim")
}

func TestBrowsersAndStrangersAreRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for name, c := range map[string]struct {
		header http.Header
		status int
	}{
		"browser":        {http.Header{"Origin": {"https://example.com"}, "Sec-Websocket-Protocol": {tunnel.Subprotocol}}, http.StatusForbidden},
		"no subprotocol": {http.Header{}, http.StatusBadRequest},
		"other protocol": {http.Header{"Sec-Websocket-Protocol": {"sallyport.v9"}}, http.StatusBadRequest},
	} {
		d := tunnel.NewDialer()
		d.Subprotocols = nil
		ws, resp, err := d.DialContext(t.Context(), g.url, c.header)
		if err == nil {
			ws.Close()
		}
		if err == nil || resp == nil || resp.StatusCode != c.status {
			t.Errorf("%s: %v, %v; want %d", name, err, resp, c.status)
		}
	}
}

// TestPlainGetIsToldWhatThisIs, with the field that RFC 9110 section 15.5.22 demands of a 426.
func TestPlainGetIsToldWhatThisIs(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for major, upgrade := range map[int]string{1: "websocket", 2: ""} {
		rec, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, tunnel.Path, nil)
		q.ProtoMajor = major
		g.r.ServeLink(rec, q)
		if rec.Code != http.StatusUpgradeRequired || rec.Header().Get("Upgrade") != upgrade || !strings.Contains(rec.Body.String(), "agents link") {
			t.Errorf("HTTP/%d: %d %v %s", major, rec.Code, rec.Header(), rec.Body)
		}
	}
}

// TestUnprovedLinksAreBounded: one address cannot take up all there is with links that never prove themselves.
func TestUnprovedLinksAreBounded(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var refused *http.Response
	for range 100 {
		ws, resp, err := tunnel.NewDialer().DialContext(t.Context(), g.url, nil)
		if err != nil {
			refused = resp
			break
		}
		defer ws.Close()
	}
	if refused == nil || refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" {
		t.Errorf("100 links that say nothing: %v", refused)
	}
}

func TestDrainTellsAgents(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a := g.joined("plant1")
	l := g.mustLink("plant1", a, at{instance: "a"}, "orders")
	g.close()
	eventually(t, "the link to end", ended(l))
	if _, err := g.r.Pick("plant1", "orders"); !errors.Is(err, gateway.ErrNoLink) {
		t.Errorf("Pick after Drain: %v", err)
	}
}

// TestLinkDownSaysWhy, whichever side has ended it.
func TestLinkDownSaysWhy(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	a, b := g.joined("plant1"), g.joined("plant1")
	here, there := g.mustLink("plant1", a, at{instance: "a"}), g.mustLink("plant1", b, at{instance: "b"})
	eventually(t, "both links to be up", func() bool { return len(g.lines("link up")) == 2 })
	there.Close("the agent stops")
	if err := g.r.RevokeAgent(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the links to end", func() bool { return ended(here)() && len(g.lines("link down")) == 2 })
	for _, line := range g.lines("link down") {
		if !strings.Contains(line, " cause=") || strings.Contains(line, "nil") {
			t.Error("no cause in:", line)
		}
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "plant1", "a-b", "0", strings.Repeat("x", 63)} {
		if err := gateway.CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", "a b", strings.Repeat("x", 64), "_", "a\x00"} {
		if gateway.CheckName(bad) == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
}
