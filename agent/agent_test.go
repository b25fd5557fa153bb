package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/identity"
	"sallyport/agent/secret"
	"sallyport/agent/state"
	"sallyport/internal/eventlog"
	"sallyport/tunnel"
)

// A rig is an agent that runs, the relay's side of its links, and an API behind it.
type rig struct {
	built   func()        // called between New and Run; nil: nothing is
	windows eventlog.Sink // its event log; nil: none
	level   *slog.LevelVar
	t       *testing.T
	agent   *Agent
	file    string // agent.yaml
	state   state.Dir
	again   chan struct{}
	// rereading is the agent's Deps.Rereading.
	rereading func() func()
	log       *lockedBuffer
	api       *httptest.Server
	links     chan *tunnel.Link
	stop      func()

	// anchors answers heads of the record, in the link's reader; nil: as an older relay.
	anchors func(key ed25519.PrivateKey, l *tunnel.Link, body []byte)
	called  func() // in each call of the API; nil: nothing

	mu       sync.Mutex
	offers   []string // without definitions
	full     []string // as they came
	policies []string // notices
	seen     []string // requests as the API saw them
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const yamlForm = `relay: %s
gateway: plant1
links: 1
apis:
  - name: orders
    url: %s/base
    auth: {header: {name: X-API-Key, secret: orders-key}}
    allow:
      - GET /orders/**
      - POST /orders
`

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigAs(t, yamlForm, func(*rig) {})
}

// newRigAs makes a rig with another agent.yaml, after what before does.
func newRigAs(t *testing.T, form string, before func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, level: new(slog.LevelVar), again: make(chan struct{}, 1), log: &lockedBuffer{}, links: make(chan *tunnel.Link, 100)}
	r.level.Set(slog.LevelDebug)
	r.api = httptest.NewServer(http.HandlerFunc(r.serveAPI))
	t.Cleanup(r.api.Close)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.serveRelay(key, w, q) }))
	t.Cleanup(relay.Close)
	dir := t.TempDir()
	r.file = filepath.Join(dir, "agent.yaml")
	r.write(fmt.Sprintf(form, relay.URL, r.api.URL))
	if r.state, err = state.Open(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	before(r)
	r.start(relay.URL, tunnel.Fingerprint(key.Public().(ed25519.PublicKey)))
	return r
}

func (r *rig) start(relay, fingerprint string) {
	r.t.Helper()
	id, err := identity.New(relay, fingerprint, "plant1")
	if err != nil {
		r.t.Fatal(err)
	}
	id.Agent, id.Joined = "a1", true
	store, err := secret.Open(r.state, "")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := store.Set("orders-key", secret.New("the-secret-key")); err != nil {
		r.t.Fatal(err)
	}
	c, err := ReadConfig(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	r.agent, err = New(c, Deps{
		State: r.state, Identity: id, Secrets: store, File: r.file, Again: r.again, Rereading: r.rereading, EventLog: r.windows, Name: "srv1", Version: "1.2.3",
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: r.level})), Level: r.level,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.built != nil {
		r.built()
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.agent.Run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(r.stop)
}

func (r *rig) serveAPI(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.seen = append(r.seen, q.Method+" "+q.RequestURI+" key="+q.Header.Get("X-API-Key")+" override="+q.Header.Get("X-HTTP-Method-Override"))
	r.mu.Unlock()
	if r.called != nil {
		r.called()
	}
	if d := q.Header.Get("X-Wait"); d != "" {
		<-q.Context().Done()
		return
	}
	_, _ = io.Copy(w, q.Body)
	_, _ = io.WriteString(w, "from the API, by "+q.RemoteAddr)
}

var definitions = regexp.MustCompile(`,"definition":"[^"]*"`)

func (r *rig) serveRelay(key ed25519.PrivateKey, w http.ResponseWriter, q *http.Request) {
	ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil)
	if err != nil {
		return
	}
	_, _, err = tunnel.Greet(q.Context(), ws, tunnel.RelayIdentity{Key: key, Node: "n1"},
		func(context.Context, tunnel.Claim) (tunnel.Welcome, error) { return tunnel.Welcome{Agent: "a1"}, nil })
	if err != nil {
		return
	}
	last := "" // of this link
	var self atomic.Pointer[tunnel.Link]
	l := tunnel.New(ws, tunnel.RelaySide, tunnel.Options{Control: func(kind string, body []byte) {
		if kind == tunnel.ControlAuditHead && r.anchors != nil {
			r.anchors(key, self.Load(), body)
		}
		if kind == policyKind {
			r.mu.Lock()
			r.policies = append(r.policies, string(body))
			r.mu.Unlock()
		}
		if kind == "offer" {
			r.mu.Lock()
			r.full = append(r.full, string(body))
			// An offer that tells of a definition alone is of no interest to most tests.
			if text := definitions.ReplaceAllString(string(body), ""); text != last {
				last = text
				r.offers = append(r.offers, text)
			}
			r.mu.Unlock()
		}
	}})
	self.Store(l)
	r.links <- l
	_ = l.Run(context.Background())
}

func (r *rig) write(text string) {
	r.t.Helper()
	next := r.file + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, r.file); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) link() *tunnel.Link {
	r.t.Helper()
	select {
	case l := <-r.links:
		return l
	case <-time.After(30 * time.Second):
		r.t.Fatalf("no link came up:\n%s", r.log)
		return nil
	}
}

// ask makes an exchange from the relay's side.
func (r *rig) ask(l *tunnel.Link, req tunnel.Request) (*tunnel.Response, string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req.ID = "r-" + req.Method
	if req.API == "" {
		req.API = "orders"
	}
	s, err := l.Open(&req, true)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := s.ReadResponse(ctx)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", req.Method, req.Target, err, r.log)
	}
	body, err := io.ReadAll(s)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(body)
}

func (r *rig) offered() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.offers...)
}

// told are the notices about the policy.
func (r *rig) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.policies...)
}

func (r *rig) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.seen...)
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("did not happen: %s\n%s", what, r.log)
		}
	}
}

func (r *rig) events() []audit.Event {
	r.t.Helper()
	f, err := os.Open(r.state.Path("audit/audit.jsonl"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	var all []audit.Event
	for s := bufio.NewScanner(f); s.Scan(); {
		var e audit.Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// A call that is allowed reaches the API with the agent's credential; one that is not never does, and says why. Each is
// on record, and nothing secret is.
func TestCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	resp, body := r.ask(l, tunnel.Request{
		Method: "GET", Target: "/orders/5?token=query-secret", Caller: "key:flow",
		Header: http.Header{"X-Http-Method-Override": {"DELETE"}, "X-Ms-Workflow-Run-Id": {"0858"}},
	})
	if resp.Status != 200 || !strings.Contains(body, "from the API") {
		t.Errorf("allowed call: %d %q", resp.Status, body)
	}
	recorded := func(what func(audit.Event) bool) { // which may be a moment after the answer
		r.until("it is on record", func() bool { return slices.ContainsFunc(r.events(), what) })
	}
	recorded(func(e audit.Event) bool { return e.Kind == audit.Done })
	for _, c := range []struct {
		req    tunnel.Request
		status int
		code   string
		detail string
	}{
		{tunnel.Request{Method: "DELETE", Target: "/orders/5"}, 403, "policy-refused", "DELETE /orders/{id}"},
		{tunnel.Request{Method: "PUT", Target: "/orders/%2e%2e/admin"}, 400, "ambiguous-target", ""},
		{tunnel.Request{Method: "PATCH", Target: "/x", API: "other"}, 503, "unknown-api", ""},
	} {
		resp, _ := r.ask(l, c.req)
		if resp.Status != c.status || resp.Problem == nil || resp.Problem.Code != c.code ||
			resp.Problem.Origin != tunnel.OriginAgent || resp.Problem.Executed != tunnel.ExecutedNo ||
			!strings.Contains(resp.Problem.Detail, c.detail) {
			t.Errorf("%s %s: %d %+v, want %d %s", c.req.Method, c.req.Target, resp.Status, resp.Problem, c.status, c.code)
		}
		recorded(func(e audit.Event) bool { return e.Problem == c.code })
	}
	want := []string{"GET /base/orders/5?token=query-secret key=the-secret-key override="}
	if got := r.requests(); len(got) != 1 || got[0] != want[0] {
		t.Errorf("the API saw %q, want %q", got, want)
	}
	r.stop()
	r.checkRecord()
}

func (r *rig) checkRecord() {
	r.t.Helper()
	var got []string
	for _, e := range r.events() {
		if e.Kind == audit.Seal {
			continue // one as soon as there is a link, one at the end
		}
		got = append(got, strings.TrimSpace(fmt.Sprintln(e.Kind, e.Method, e.Path, e.Caller, e.Verdict, e.Rule, e.Status, e.Problem, e.Flow["workflow-run-id"])))
	}
	want := []string{
		"begin      0",
		"start      0",
		"call GET /orders/5 key:flow allowed GET /orders/** 0  0858",
		"done      200",
		"call DELETE /orders/5  refused  403 policy-refused",
		"call PUT /orders/%2e%2e/admin  refused  400 ambiguous-target",
		"call PATCH /x  refused  503 unknown-api",
		"stop      0",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("on record:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if rep, err := audit.Verify(r.t.Context(), r.state, []string{r.events()[1].Key}, audit.Witness{}); err != nil || rep.Fault != nil || rep.Sealed != rep.Last || rep.Last <= uint64(len(want)) {
		r.t.Errorf("the record is not proved to its end: %+v, %v", rep, err)
	}
	raw, err := os.ReadFile(r.state.Path("audit/audit.jsonl"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, secret := range []string{"query-secret", "the-secret-key"} {
		if strings.Contains(string(raw)+r.log.String(), secret) {
			r.t.Errorf("%s is in the record or the log", secret)
		}
	}
}

// offering says whether an offer names these APIs, each with its policy's hash, and nothing else.
func offering(offer string, names ...string) bool {
	hash := `"policy":"sha256:[0-9a-f]{64}"`
	var apis []string
	for _, name := range names {
		apis = append(apis, `{"name":"`+name+`",`+hash+`}`)
	}
	return regexp.MustCompile(`^{"apis":\[` + strings.Join(apis, ",") + `],` + hash + `}$`).MatchString(offer)
}

// The relay is told names and hashes, on each link and after each change, and never an address.
func TestOffersAndReload(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	r.until("the first offer", func() bool { return len(r.offered()) == 1 })
	first := r.offered()[0]
	if !offering(first, "orders") {
		t.Errorf("offer %s", first)
	}
	_, before := r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/1"})

	good, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.write(string(good) + "      - DELETE /orders/{id}\n  - {name: more, url: '" + r.api.URL + "', auth: none, allow: [GET /**]}\n")
	r.again <- struct{}{}
	r.until("the second offer", func() bool { return len(r.offered()) == 2 })
	if second := r.offered()[1]; !offering(second, "more", "orders") {
		t.Errorf("offer %s", second)
	}
	resp, after := r.ask(l, tunnel.Request{Method: "DELETE", Target: "/orders/1"})
	if resp.Status != 200 {
		t.Errorf("the new rule is not in force: %d", resp.Status)
	}
	if before != after {
		t.Errorf("the API's connection did not outlive a reload that did not change it: %q, then %q", before, after)
	}
	if resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: "/x", API: "more"}); resp.Status != 200 {
		t.Errorf("the new API: %d", resp.Status)
	}

	l.Close("cut")
	r.link()
	r.until("an offer on the new link", func() bool { return len(r.offered()) == 3 && r.offered()[2] == r.offered()[1] })
	for _, o := range r.offered() {
		if strings.Contains(o, "127.0.0.1") {
			t.Errorf("an address left: %s", o)
		}
	}
}

// A file that is broken, gone or of another gateway changes nothing and is logged with the place of each error.
func TestBrokenReload(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	good, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{string(good) + "colour: blue\nshape: round\n", "agent.yaml:11:1"},
		{string(good) + "colour: blue\nshape: round\n", "agent.yaml:12:1"},
		{"apis: [", "agent.yaml:1:"},
		{strings.Replace(string(good), "plant1", "plant2", 1), "gateway cannot change"},
		{strings.Replace(string(good), "auth: {header: {name: X-API-Key, secret: orders-key}}", "auth: {windows: {as: service, keytab: absent.keytab}}", 1), "absent.keytab"},
	} {
		r.write(c.text)
		r.again <- struct{}{}
		r.until("the log names "+c.want, func() bool { return strings.Contains(r.log.String(), c.want) })
		if resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/1"}); resp.Status != 200 {
			t.Errorf("after the broken file the old configuration answers %d", resp.Status)
		}
	}
	if n := len(r.offered()); n != 1 {
		t.Errorf("%d offers, want the first alone", n)
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.until("the log says that the file is gone", func() bool { return strings.Contains(r.log.String(), "cannot be read") })
	// Without a signal: the file is watched.
	r.write(strings.Replace(string(good), "POST /orders", "PUT /orders", 1))
	r.until("the change is in force", func() bool { return len(r.offered()) == 2 })
	if resp, _ := r.ask(l, tunnel.Request{Method: "PUT", Target: "/orders"}); resp.Status != 200 {
		t.Errorf("the changed rule: %d", resp.Status)
	}
}

// A fault in one exchange ends that exchange with an answer; the agent lives and records it.
func TestPanicEndsOneExchange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	snap := r.agent.now.Load()
	broken := *snap.apis["orders"]
	broken.transport = nil // stands for any fault of the code
	r.agent.now.Store(&snapshot{apis: map[string]*api{"orders": &broken}, names: snap.names, hash: snap.hash})
	resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/1"})
	if resp.Status != 500 || resp.Problem == nil || resp.Problem.Code != "internal" || resp.Problem.Executed != tunnel.ExecutedUnknown {
		t.Errorf("answer %d %+v", resp.Status, resp.Problem)
	}
	if !strings.Contains(r.log.String(), "exchange.go") {
		t.Errorf("no stack in the log:\n%s", r.log)
	}
	r.agent.now.Store(snap)
	if resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/1"}); resp.Status != 200 {
		t.Errorf("the next exchange: %d", resp.Status)
	}
	r.stop()
	if !strings.Contains(fmt.Sprint(r.events()), "internal") {
		t.Error("the fault is not on record")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("agent.yaml", []byte("relay: https://relay.example.com\ngateway: plant1\nca: absent.pem\napis:\n"+
		"  - {name: a, url: 'http://127.0.0.1:1', auth: {windows: {as: service, keytab: absent-a}}, allow: [GET /]}\n"+
		"  - {name: b, url: 'https://127.0.0.1:1', tls: {ca: absent-b}, auth: none, allow: [GET /]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.New("https://relay.example.com", "sha256:x", "plant1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(c, Deps{State: dir, Identity: id}); err == nil || !strings.Contains(err.Error(), "join") {
		t.Errorf("an identity that has not joined: %v", err)
	}
	id.Agent, id.Joined, id.Gateway = "a1", true, "plant2"
	if _, err := New(c, Deps{State: dir, Identity: id}); err == nil || !strings.Contains(err.Error(), "plant2") {
		t.Errorf("another gateway: %v", err)
	}
	id.Gateway = "plant1"
	_, err = New(c, Deps{State: dir, Identity: id})
	for _, want := range []string{"absent-a", "absent-b", "absent.pem"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// text is what the configuration's file has.
func (r *rig) text() string {
	r.t.Helper()
	data, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// TestChangeBeforeTheFirstLook: what the file becomes between New and the first look at it is a change too.
func TestChangeBeforeTheFirstLook(t *testing.T) {
	t.Parallel()
	r := newRigAs(t, yamlForm, func(r *rig) {
		r.built = func() { r.write(strings.Replace(r.text(), "links: 1", "links: nonsense", 1)) }
	})
	r.until("the change is noticed", func() bool { return strings.Contains(r.log.String(), "the configuration is wrong") })
}
