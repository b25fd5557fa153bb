//go:build linux

package system

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestKillAtEachStepOfSetup kills both programs with SIGKILL after each step, starts them again and goes on. What a
// command has confirmed is never lost, and nothing has to be done twice.
func TestKillAtEachStepOfSetup(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := newBox(t, racy)
	b.startRelay()
	again := func() {
		b.relay.kill()
		b.startRelay()
	}
	joinString := b.addGateway()
	again()
	if err := b.join(joinString); err != nil {
		t.Fatalf("join after the relay was killed after gateway add: %v", err)
	}
	again()
	b.configure(api("web", u.url, "", everything))
	b.startAgent()
	b.admin(nil, "connector", "publish", gatewayName+"/web", "--auth", "key")
	again()
	key := b.addKey("web", "first")
	again()
	b.callUntilOK("web", key, 30*time.Second)
	for range 3 {
		b.agent.kill()
		b.startAgent()
		b.callUntilOK("web", key, 30*time.Second)
		again()
		b.callUntilOK("web", key, 60*time.Second)
	}
	b.relay.kill()
	b.agent.kill()
	b.startAgent() // the agent first: it waits for its relay
	b.startRelay()
	b.callUntilOK("web", key, 60*time.Second)
	b.noSecretsInProcesses()
	b.agent.stop(t)
	b.relay.stop(t)
}

// callUntilOK calls with the key until it is answered by the upstream. No other answer than "no link" may come between.
func (b *box) callUntilOK(api, key string, limit time.Duration) {
	b.t.Helper()
	c := b.client(1)
	eventually(b.t, limit, "a call with the key is answered by the upstream", func() bool {
		resp, err := c.Do(keyed(b.t, b.at(api, "/x/slow/0"), key))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			return true
		case http.StatusServiceUnavailable, http.StatusBadGateway:
			return false
		}
		body, _ := io.ReadAll(resp.Body)
		b.t.Fatalf("a call with the key is answered %s: %s", resp.Status, body)
		return false
	})
}

func keyed(t *testing.T, url, key string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", key)
	return req
}

// TestRelayKilledWhileAgentJoins kills the relay somewhere within the join, at a different moment each time. Joining
// again with the same join string then works, or the first time had already worked.
func TestRelayKilledWhileAgentJoins(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	for i := range 6 {
		b := newBox(t, racy)
		b.startRelay()
		joinString := b.addGateway()
		time.AfterFunc(time.Duration(20+i*25)*time.Millisecond, b.relay.kill)
		first := b.join(joinString)
		b.relay.kill()
		b.startRelay()
		if err := b.join(joinString); first != nil && err != nil {
			t.Errorf("killed after %d ms: joining failed (%v), and so did joining again: %v", 20+i*25, first, err)
			continue
		}
		b.configure(api("web", u.url, "", everything))
		b.startAgent()
		b.publish("web")
		b.agent.stop(t)
		b.relay.stop(t)
	}
}

// load calls an API all the time from several callers until it is stopped, and counts what is not a 200.
type load struct {
	stop   chan struct{}
	done   sync.WaitGroup
	calls  atomic.Int64
	failed atomic.Int64
	first  atomic.Value // the first failure, as text
}

func (b *box) startLoad(callers int, path string) *load {
	l := &load{stop: make(chan struct{})}
	for i := range callers {
		c := b.client(1 + i%2)
		l.done.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.calls.Add(1)
				if err := get200(c, path); err != nil {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, err.Error())
				}
			}
		})
	}
	return l
}

func get200(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		return fmt.Errorf("%s %s: %w", resp.Status, body, err)
	}
	return nil
}

// end stops the load; no call may have failed.
func (l *load) end(t *testing.T, during string) {
	t.Helper()
	close(l.stop)
	l.done.Wait()
	t.Logf("%d calls during %s", l.calls.Load(), during)
	if n := l.failed.Load(); n != 0 {
		t.Errorf("%d of %d calls failed during %s; the first: %v", n, l.calls.Load(), during, l.first.Load())
	}
	if l.calls.Load() < 20 {
		t.Errorf("only %d calls were made: that proves nothing", l.calls.Load())
	}
}

// TestReloadUnderLoad changes agent.yaml again and again while callers call: no call fails, and each change is seen.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	stays := api("web", u.url, "", everything)
	b := ready(t, racy, []string{"web"}, stays)
	l := b.startLoad(4, b.at("web", "/x/slow/20"))
	for i := range 5 {
		name := fmt.Sprintf("extra%d", i)
		b.configure(stays, api(name, u.url, "", "GET /x/**"))
		b.publish(name)
	}
	// The last change took a rule away: it is away.
	b.configure(stays, api("extra4", u.url, "", "GET /elsewhere"))
	c := b.client(1)
	eventually(t, 20*time.Second, "the rule that was taken away no longer admits", func() bool {
		resp, err := c.Get(b.at("extra4", "/x/status/204"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusForbidden
	})
	l.end(t, "five reloads")
}

// TestBrokenConfigurationKeepsTheOldOne: the agent says where the fault is and goes on as before.
func TestBrokenConfigurationKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	good, err := os.ReadFile(b.path("agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l := b.startLoad(2, b.at("web", "/x/slow/20"))
	for i, broken := range []string{
		string(good) + "colour: blue\n", "apis: [", "", strings.Replace(string(good), "url: http", "url: gopher", 1),
		strings.Replace(string(good), "    allow:", "    allow: 5\n    x:", 1),
	} {
		before := len(b.logs["agent"].String())
		b.replaceConfig(broken)
		eventually(t, 20*time.Second, fmt.Sprintf("the agent complains of broken file %d", i), func() bool {
			said := b.logs["agent"].String()[before:]
			return strings.Contains(said, "level=ERROR")
		})
	}
	l.end(t, "five broken files")
	b.configure(api("web", u.url, "", everything), api("after", u.url, "", "GET /x/**"))
	b.publish("after")
}

// TestRestartsUnderLoad: a graceful restart of one of two agents loses no call.
func TestRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	second := b.secondAgent()
	l := b.startLoad(4, b.at("web", "/x/slow/20"))
	for range 3 {
		b.agent.stop(t)
		b.startAgent()
		time.Sleep(2 * time.Second) // the first agent's links come up while the second serves
		second.stop(t)
		second = b.startSecond()
		time.Sleep(2 * time.Second)
	}
	l.end(t, "six graceful restarts of two agents")
}

// secondAgent joins and starts another agent of the same gateway with the same configuration, as on another machine.
func (b *box) secondAgent() *process {
	b.t.Helper()
	var added struct {
		JoinString string `json:"join"`
	}
	b.admin(&added, "gateway", "join", gatewayName)
	text, err := os.ReadFile(b.path("agent.yaml"))
	if err != nil {
		b.t.Fatal(err)
	}
	write(b.t, b.path("agent2.yaml"), []byte(strings.Replace(string(text), b.dir+"/agent", b.dir+"/agent2", 1)))
	b.secret("the second join string", added.JoinString)
	if _, err := b.command(added.JoinString+"\n", b.agentEnv, b.bin.agent, "join", "--config", b.path("agent2.yaml")); err != nil {
		b.t.Fatalf("join of the second agent: %v", err)
	}
	b.logs["agent2"] = &transcript{}
	return b.startSecond()
}

func (b *box) startSecond() *process {
	b.t.Helper()
	before := len(b.logs["agent2"].String())
	p := start(b.t, "agent2", b.logs["agent2"], b.agentEnv, b.bin.agent, "run", "--config", b.path("agent2.yaml"))
	eventually(b.t, 20*time.Second, "the second agent is linked", func() bool {
		return strings.Contains(strings.ToLower(b.logs["agent2"].String()[before:]), "link")
	})
	return p
}

// TestFrozenAgent: an agent that hangs without closing anything is noticed, and is back when it goes on.
func TestFrozenAgent(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	b.agent.freeze()
	c := b.client(1)
	c.Timeout = 2 * time.Minute
	eventually(t, 15*time.Second, "calls are refused at once while the agent hangs", func() bool {
		short := *c
		short.Timeout = 2 * time.Second
		resp, err := short.Get(b.at("web", "/x/slow/0"))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	b.agent.thaw()
	b.awaitAPI("web")
	if err := get200(c, b.at("web", "/x/slow/0")); err != nil {
		t.Errorf("after the agent went on: %v", err)
	}
}

// TestFrozenRelay: the agent notices, and links again when the relay goes on.
func TestFrozenRelay(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	b.relay.freeze()
	time.Sleep(25 * time.Second) // longer than a dead link lives
	b.relay.thaw()
	c := b.client(1)
	eventually(t, 60*time.Second, "calls work again", func() bool { return get200(c, b.at("web", "/x/slow/0")) == nil })
}

// TestRevokedKey: a revoked key opens nothing within seconds, others stay.
func TestRevokedKey(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, nil, api("web", u.url, "", everything))
	first := b.publishWithKey("web")
	second := b.addKey("web", "second")
	b.callUntilOK("web", first, 30*time.Second)
	b.callUntilOK("web", second, 5*time.Second)
	b.admin(nil, "key", "revoke", gatewayName+"/web", "--name", "first")
	u.seen()
	c := b.client(1)
	eventually(t, 5*time.Second, "the revoked key is refused", func() bool {
		resp, err := c.Do(keyed(t, b.at("web", "/x/slow/0"), first))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusUnauthorized
	})
	u.seen()
	for _, wrong := range []string{first, "", "sp_", second + "x", strings.ToUpper(second), second[:len(second)-1]} {
		resp, err := c.Do(keyed(t, b.at("web", "/x/slow/0"), wrong))
		if err != nil {
			t.Fatal(err)
		}
		if readProblem(t, resp); resp.StatusCode != http.StatusUnauthorized || len(u.seen()) != 0 {
			t.Errorf("a wrong key is answered %s", resp.Status)
		}
		resp.Body.Close()
	}
	b.callUntilOK("web", second, 5*time.Second)
	b.relay.kill()
	b.startRelay()
	if resp, err := c.Do(keyed(t, b.at("web", "/x/slow/0"), first)); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after kill -9 the revoked key gives %v, %v", resp, err)
	}
	b.callUntilOK("web", second, 60*time.Second)
}

// TestRemovedGateway: its agent's links end within seconds, and the agent says why and goes on trying, slowly.
func TestRemovedGateway(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	b.admin(nil, "gateway", "remove", gatewayName, "--yes")
	c := b.client(1)
	eventually(t, 10*time.Second, "calls no longer reach the agent", func() bool { return get200(c, b.at("web", "/x/slow/0")) != nil })
	time.Sleep(3 * time.Second)
	if err := get200(c, b.at("web", "/x/slow/0")); err == nil {
		t.Error("a removed gateway is called again")
	}
	if !b.agent.running() {
		t.Error("the agent has ended: it must go on and say why")
	}
}

// TestJoinStringIsGoodOnce: a used join string lets nobody else in, nor does a damaged one.
func TestJoinStringIsGoodOnce(t *testing.T) {
	t.Parallel()
	b := newBox(t, racy)
	b.startRelay()
	joinString := b.addGateway()
	if err := b.join(joinString); err != nil {
		t.Fatal(err)
	}
	for name, js := range map[string]string{
		"used": joinString, "damaged": joinString[:len(joinString)-3], "empty": "", "another's": "spjoin1.AAAA",
	} {
		state := b.path("other-" + name + ".yaml")
		write(t, state, []byte(strings.Replace(fmt.Sprintf(agentYAML, b.url, gatewayName, b.dir)+"apis: []\n", b.dir+"/agent", b.dir+"/other-"+name, 1)))
		if _, err := b.command(js+"\n", b.agentEnv, b.bin.agent, "join", "--config", state); err == nil {
			t.Errorf("a join string that is %s was accepted", name)
		}
	}
}
