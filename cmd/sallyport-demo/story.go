package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"sallyport/relay/admin"
)

type options struct {
	once, verbose bool
	stay          time.Duration // how long after the story; 0: as long as somebody may want it
	errOut        io.Writer
}

// unattended is how long the demo stays up where nobody is there to press Ctrl-C.
const unattended = time.Minute

// storyTimeout ends a story that hangs. It takes a second or two.
const storyTimeout = 60 * time.Second

// A story is what the demo tells: each step is done, then shown, and a step that did not truly work ends it.
type story struct {
	out   io.Writer
	stage *stage
	step  int
}

// tell sets the stage, tells the story, and keeps the stage up for the reader's own calls.
func tell(ctx context.Context, out io.Writer, o options) (err error) {
	log := slog.New(slog.DiscardHandler)
	if o.verbose {
		log = slog.New(slog.NewTextHandler(o.errOut, nil))
	}
	dir, err := os.MkdirTemp("", "sallyport-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	st := newStage(dir, log)
	defer func() { err = errors.Join(err, st.close()) }()

	s := &story{out: out, stage: st}
	telling, cancel := context.WithTimeoutCause(ctx, storyTimeout, errors.New("the story took more than a minute"))
	defer cancel()
	for _, part := range []func(context.Context) error{
		s.inside, s.cloud, s.join, s.publish, s.call, s.write, s.refusals, s.record,
	} {
		if err := part(telling); err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C
			}
			return fmt.Errorf("step %d did not work: %w", s.step, err)
		}
	}
	fmt.Fprintln(out, "\nEvery step worked.")
	if o.once {
		return nil
	}
	return s.stay(ctx, o.stay)
}

// stay keeps the stage up for the reader's own calls.
func (s *story) stay(ctx context.Context, d time.Duration) error {
	if d == 0 && !term.IsTerminal(int(os.Stdin.Fd())) {
		d = unattended
	}
	st := s.stage
	fmt.Fprintf(s.out, "Now call it yourself:\n\n  curl --cacert %s -H 'X-API-Key: %s' %s/orders/5\n\n", st.caFile, st.key, st.url)
	if d > 0 {
		fmt.Fprintf(s.out, "It stays up for %s, or until Ctrl-C.\n", d)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	} else {
		fmt.Fprintln(s.out, "It stays up until Ctrl-C.")
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.out, "\nStopping.")
		return nil
	case err := <-st.failed:
		return err
	}
}

func (s *story) title(format string, args ...any) {
	s.step++
	fmt.Fprintf(s.out, "\n%d. %s\n", s.step, fmt.Sprintf(format, args...))
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, "   "+format+"\n", args...) }

func (s *story) inside(ctx context.Context) error {
	s.title("Inside: an API that demands Windows authentication")
	if err := s.stage.startAPI(); err != nil {
		return err
	}
	s.say("ERP at %s, account %s", s.stage.apiURL, account)
	a, err := s.stage.ask(ctx, "GET", s.stage.apiURL+"/orders/5", "", nil)
	if err != nil {
		return err
	}
	s.say("GET /orders/5 without signing on  ->  %d, WWW-Authenticate: %s", a.status, strings.Join(a.header.Values("WWW-Authenticate"), ", "))
	return a.must(http.StatusUnauthorized)
}

func (s *story) cloud(ctx context.Context) error {
	s.title("Cloud: the relay, with TLS")
	if err := s.stage.startRelay(ctx); err != nil {
		return err
	}
	s.say("relay at %s (certificate of a throw-away CA)", s.stage.relayURL)
	join, err := s.stage.admin.AddGateway(ctx, gatewayName, admin.NewJoin{})
	if err != nil {
		return err
	}
	s.stage.joinString = join.JoinString
	s.say("sallyport-relay gateway add %s  ->  %.24s... (one-time, for an hour)", gatewayName, join.JoinString)
	return nil
}

func (s *story) join(ctx context.Context) error {
	s.title("Inside: the agent joins and opens its one outbound WebSocket")
	if err := s.stage.startAgent(ctx); err != nil {
		return err
	}
	s.say("joined as %s with a key that never leaves this machine", s.stage.agentID)
	s.say("agent.yaml allows:  %s", strings.Join(allow[:], "   "))
	links, err := s.links(ctx)
	if err != nil {
		return err
	}
	s.say("the relay sees %d link; the agent listens nowhere", links)
	if links != 1 {
		return fmt.Errorf("%d links instead of 1", links)
	}
	return nil
}

// links is how many the relay sees. The agent knows of its link a moment earlier than the relay.
func (s *story) links(ctx context.Context) (links int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for links == 0 {
		gateways, err := s.stage.admin.Gateways(ctx)
		if err != nil {
			return 0, err
		}
		for _, g := range gateways {
			for _, a := range g.Agents {
				links += len(a.Links)
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return links, nil
		}
	}
	return links, nil
}

func (s *story) publish(ctx context.Context) error {
	s.title("Cloud: the API becomes a connector")
	if err := s.stage.publish(ctx); err != nil {
		return err
	}
	s.say("sallyport-relay connector publish %s/%s --auth key  ->  %s", gatewayName, apiName, s.stage.url)
	s.say("sallyport-relay key add %s/%s --name demo  ->  %.9s...", gatewayName, apiName, s.stage.key)
	return nil
}

func (s *story) call(ctx context.Context) error {
	s.title("A cloud caller asks for an order")
	a, err := s.stage.ask(ctx, "GET", s.stage.url+"/orders/5", s.stage.key, nil)
	if err != nil {
		return err
	}
	if err := a.must(http.StatusOK); err != nil {
		return err
	}
	s.say("GET %s/orders/5  ->  %d  (%s)", s.stage.url, a.status, a.proto)
	s.say("%s", a.body)
	var got struct {
		SignedOnAs string `json:"signedOnAs"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
		return fmt.Errorf("the answer is not the API's: %w", err)
	}
	if got.SignedOnAs != account {
		return fmt.Errorf("the API says that %q signed on, not %q", got.SignedOnAs, account)
	}
	s.say("The API verified %s by NTLMv2; the caller never had its password.", account)
	return nil
}

func (s *story) write(ctx context.Context) error {
	s.title("It creates one")
	order := []byte(`{"item":"hinge","quantity":12}`)
	a, err := s.stage.ask(ctx, "POST", s.stage.url+"/orders", s.stage.key, order)
	if err != nil {
		return err
	}
	s.say("POST %s/orders %s  ->  %d", s.stage.url, order, a.status)
	s.say("%s", a.body)
	if !strings.Contains(string(a.body), sum(order)) {
		return errors.New("the API did not get the bytes that were sent")
	}
	want := s.stage.url + "/orders/6"
	if got := a.header.Get("Location"); got != want {
		return fmt.Errorf("the Location is %q, not %q", got, want)
	}
	s.say("Location: %s  (the API said %s/orders/6)", want, s.stage.apiURL)
	return a.must(http.StatusCreated)
}

func (s *story) refusals(ctx context.Context) error {
	s.title("What is refused, and by whom")
	for _, r := range []struct {
		method, path, key, origin string
		status                    int
		why                       string
	}{
		{"GET", "/orders/5", "", "relay", 401, "no key"},
		{"DELETE", "/orders/5", s.stage.key, "agent", 403, "not in agent.yaml"},
		{"GET", "/orders/..%2fadmin", s.stage.key, "agent", 400, "could be read in two ways"},
	} {
		before := s.stage.api.calls.Load()
		a, err := s.stage.ask(ctx, r.method, s.stage.url+r.path, r.key, nil)
		if err != nil {
			return err
		}
		var p struct {
			Origin string `json:"origin"`
			Detail string `json:"detail"`
		}
		if err := json.Unmarshal(a.body, &p); err != nil {
			return fmt.Errorf("%s %s: the answer is no problem+json: %w", r.method, r.path, err)
		}
		s.say("%-6s %-18s (%s)  ->  %d, refused by the %s", r.method, r.path, r.why, a.status, p.Origin)
		s.say("       %q", p.Detail)
		if err := a.must(r.status); err != nil {
			return err
		}
		if p.Origin != r.origin {
			return fmt.Errorf("%s %s was refused by %q, not by the %s", r.method, r.path, p.Origin, r.origin)
		}
		if s.stage.api.calls.Load() != before {
			return fmt.Errorf("%s %s reached the API", r.method, r.path)
		}
	}
	s.say("None of them reached the API.")
	return nil
}

// record shows the same call in the relay's access log and in the agent's own record.
func (s *story) record(ctx context.Context) error {
	s.title("On record on both sides, under one request ID")
	a, err := s.stage.ask(ctx, "GET", s.stage.url+"/orders/5", s.stage.key, nil)
	if err != nil {
		return err
	}
	id := a.header.Get("X-Request-Id")
	if id == "" {
		return errors.New("the answer has no X-Request-Id")
	}
	for _, side := range []struct{ name, file, part string }{
		{"relay", s.stage.accessLog(), ""},
		{"agent, before the call", s.stage.auditLog(), `"event":"call"`},
		{"agent, after it", s.stage.auditLog(), `"event":"done"`},
	} {
		line, err := waitForLine(ctx, side.file, id, side.part)
		if err != nil {
			return fmt.Errorf("the record of the %s: %w", side.name, err)
		}
		s.say("%s: %s", side.name, line)
		if side.name == "agent, after it" && !strings.Contains(line, `"auth":"ntlm"`) {
			return errors.New("the agent's record does not say how it signed on")
		}
	}
	return nil
}
