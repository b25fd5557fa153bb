//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"sallyport/agent/link"
	"sallyport/tunnel"
)

const (
	// A fleet is so many gateways of so many agents with so many links each: 10,240 links. A gateway has at most 32 join
	// codes that can be used, and a process at most 16 links.
	fleetGateways, fleetAgents, fleetLinks = 20, 32, 16
	// With --quick it is one gateway: 512 links.
	quickGateways = 1
	// fleetStep is between two agents that come up.
	fleetStep = 80 * time.Millisecond
	// fleetLimit is how long all may take to come up.
	fleetLimit = 3 * time.Minute
)

// A fleetRole is what the process that plays the agents is told.
type fleetRole struct {
	Relay string
	CA    string
	Joins []string
}

// fleet links some ten thousand times, looks at the relay's memory, kills the relay and starts it again, and waits until all
// are back. The agents are agent/link's own, all in one process; they share the machine with the relay.
func fleet(ctx context.Context, o *options, progress io.Writer, r *faultReport) error {
	secure := *o
	secure.tls = true
	s, err := faultStage(ctx, &secure, progress, nil)
	if err != nil {
		return err
	}
	defer s.close()
	gateways := fleetGateways
	if o.quick {
		gateways = quickGateways
	}
	if o.fleet > 0 {
		gateways = o.fleet
	}
	joins, err := s.fleetJoins(ctx, gateways)
	if err != nil {
		return err
	}
	relay, err := s.named("sallyport-relay")
	if err != nil {
		return err
	}
	before, err := relay.resident()
	if err != nil {
		return err
	}
	want := len(joins)*fleetLinks + 1 // and the stage's own
	agents, counts, err := s.startFleet(fleetRole{Relay: s.url(true, s.ways[0].target.address), CA: s.files.CA, Joins: joins})
	if err != nil {
		return err
	}
	s.say("%d links are coming up", want)
	if _, err := counts.await(ctx, want-1); err != nil {
		return err
	}
	r.add("fleet_links", float64(want))
	time.Sleep(10 * time.Second) // handshakes' garbage is gone after a collection or two, which pings bring about
	after, err := relay.resident()
	if err != nil {
		return err
	}
	perLink := float64(after-before) / float64(want)
	r.add("fleet_kb_per_link", perLink)
	r.goal("resident memory of the relay for an idle TLS link, kB", perLink, 20, true)
	return s.fleetReturns(ctx, r, relay, agents, counts, want)
}

// fleetReturns restarts the relay and waits for everybody.
func (s *stage) fleetReturns(ctx context.Context, r *faultReport, relay, agents *process, counts *counter, want int) error {
	s.say("the relay is stopped and started again")
	_ = relay.cmd.Process.Signal(syscall.SIGTERM)
	<-relay.done
	if _, err := counts.awaitFewer(ctx, want/2); err != nil {
		return err
	}
	agentsBefore, err := agents.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	again, err := start(s.dir, "sallyport-relay2", nil, relay.cmd.Path, "serve", "--config", s.path("relay.yaml"))
	if err != nil {
		return err
	}
	s.processes = append(s.processes, again)
	half, err := counts.await(ctx, (want-1)/2)
	if err != nil {
		return err
	}
	if _, err := counts.await(ctx, want-1); err != nil {
		return err
	}
	r.add("fleet_half_back_s", half.Seconds())
	r.add("fleet_all_back_s", time.Since(began).Seconds())
	used, err1 := again.cpu()
	theirs, err2 := agents.cpu()
	r.add("fleet_relay_cpu_s", used.Seconds())
	r.add("fleet_agents_cpu_s", (theirs - agentsBefore).Seconds())
	return errors.Join(err1, err2, s.ways[0].target.await(ctx, small))
}

// fleetJoins makes the gateways and their join strings.
func (s *stage) fleetJoins(ctx context.Context, gateways int) (joins []string, err error) {
	s.say("make %d join strings", gateways*fleetAgents)
	relay, _, err := s.binaries(ctx)
	if err != nil {
		return nil, err
	}
	for g := range gateways {
		for a := range fleetAgents {
			var added struct{ Join string }
			verb := "join"
			if a == 0 {
				verb = "add"
			}
			if err := s.admin(ctx, relay, &added, "gateway", verb, fmt.Sprintf("fleet%d", g)); err != nil {
				return nil, err
			}
			joins = append(joins, added.Join)
		}
	}
	return joins, nil
}

// startFleet starts the process of the agents.
func (s *stage) startFleet(f fleetRole) (*process, *counter, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	from, to, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	p, err := start(s.dir, "fleet", to, self, fleetArgument)
	to.Close()
	if err != nil {
		from.Close()
		return nil, nil, err
	}
	s.processes = append(s.processes, p)
	return p, &counter{from: from, r: bufio.NewReader(from), log: func() string { return tail(s.dir, "fleet") }}, json.NewEncoder(p.stdin).Encode(f)
}

// A counter reads how many links are up, which the agents' process says five times a second.
type counter struct {
	from *os.File
	r    *bufio.Reader
	log  func() string
}

func (c *counter) await(ctx context.Context, links int) (time.Duration, error) {
	return c.until(ctx, func(n int) bool { return n >= links })
}

func (c *counter) awaitFewer(ctx context.Context, links int) (time.Duration, error) {
	return c.until(ctx, func(n int) bool { return n < links })
}

func (c *counter) until(ctx context.Context, ok func(int) bool) (time.Duration, error) {
	began := time.Now()
	for n := -1; !ok(n) || n < 0; {
		_ = c.from.SetReadDeadline(time.Now().Add(startLimit))
		line, err := c.r.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("the fleet's process says no more: %w\n%s", err, c.log())
		}
		if _, err := fmt.Sscan(line, &n); err != nil {
			return 0, fmt.Errorf("the fleet's process: %s", line)
		}
		if time.Since(began) > fleetLimit || ctx.Err() != nil {
			return 0, fmt.Errorf("after %s %d links are up\n%s", time.Since(began).Round(time.Second), n, c.log())
		}
	}
	return time.Since(began), nil
}

// --- the process of the agents

// fleetArgument makes this program play the agents of a fleet.
const fleetArgument = "fleet"

// playFleet joins all agents and keeps their links up until standard input ends.
func playFleet(ctx context.Context, in *bufio.Reader, out io.Writer) error {
	var f fleetRole
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &f)
	}
	if err != nil {
		return fmt.Errorf("read the role: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // it ends with the process at the latest
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return err
	}
	roots, err := link.Roots(ca)
	if err != nil {
		return err
	}
	dialer, err := link.NewDialer(link.DialConfig{Relay: f.Relay, Roots: roots, Version: "bench"})
	if err != nil {
		return err
	}
	all := make([]*link.Links, len(f.Joins))
	for i, text := range f.Joins {
		if all[i], err = joinFleet(ctx, dialer, text); err != nil {
			return err
		}
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { // one agent after the other: how they come up the first time is not what is measured
		var linking sync.WaitGroup
		defer linking.Wait()
		next := time.NewTicker(fleetStep)
		defer next.Stop()
		for _, ls := range all {
			linking.Go(func() { _ = ls.Run(ctx) })
			select {
			case <-next.C:
			case <-ctx.Done():
				return
			}
		}
	})
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		n := 0
		for _, ls := range all {
			n += ls.Up()
		}
		fmt.Fprintln(out, n)
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// A member is an agent's identity after it has joined.
type member struct {
	gateway, agent string
	key            ed25519.PrivateKey
}

func (m *member) Claim(context.Context) (tunnel.AgentIdentity, error) {
	return tunnel.AgentIdentity{Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: m.gateway, Agent: m.agent}, Key: m.key}, nil
}

func joinFleet(ctx context.Context, dialer *link.Dialer, text string) (*link.Links, error) {
	join, err := tunnel.ParseJoinString(text)
	if err != nil {
		return nil, err
	}
	m := &member{gateway: join.Gateway}
	if _, m.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	who := tunnel.AgentIdentity{
		Claim: tunnel.Claim{Gateway: join.Gateway, Name: "fleet"}, Key: m.key, CodeKey: tunnel.JoinKey(join.Code),
	}
	welcome, err := link.Join(ctx, dialer, who, join.RelayKey)
	if err != nil {
		return nil, err
	}
	m.agent = welcome.Agent
	return link.New(link.Config{
		Dialer: dialer, Identity: m, RelayKey: join.RelayKey, Links: fleetLinks,
		Up: func(l *tunnel.Link) { _ = l.SendControl("offer", json.RawMessage(`{"apis":[{"name":"orders"}]}`)) },
	}), nil
}
