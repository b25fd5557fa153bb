package connector_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

// links is a registry with the links of one gateway.
type links struct{ all []*gateway.Link }

func (l *links) Pick(gw, api string, exclude ...*gateway.Link) (*gateway.Link, error) {
	if gw != "plant1" {
		return nil, gateway.ErrUnknownGateway
	}
	if api != "orders" {
		return nil, gateway.ErrNotOffered
	}
	for _, one := range l.all {
		if one.Usable() && !slices.Contains(exclude, one) {
			return one, nil
		}
	}
	return nil, gateway.ErrNoLink
}

func (l *links) PickSoon(_ context.Context, gw, api string, exclude ...*gateway.Link) (*gateway.Link, error) {
	return l.Pick(gw, api, exclude...)
}

// A rig is a Proxy with a published connector on a real listener, and real links to scripted agents.
type rig struct {
	t         *testing.T
	addr      string
	directory *connector.Directory
	key       string
	proxy     *connector.Proxy
	links     []*gateway.Link

	mu     sync.Mutex
	events []connector.Event
}

// settings of a rig; the zero value is a connector that admits everybody.
type settings struct {
	connector func(*connector.Connector)
	options   func(*connector.Options)
	host      string // reach the connector by this host name
	second    func(*tunnel.Stream)
	third     func(*tunnel.Stream)
}

func start(t *testing.T, agent func(*tunnel.Stream), set settings) *rig {
	t.Helper()
	ctx := context.Background()
	r := &rig{t: t}
	c := connector.Connector{Gateway: "plant1", Name: "orders", Auth: []string{connector.AuthNone}}
	if set.connector != nil {
		set.connector(&c)
	}
	r.publish(ctx, c)
	ls := &links{}
	for _, serve := range []func(*tunnel.Stream){agent, set.second, set.third} {
		if serve != nil {
			ls.all = append(ls.all, &gateway.Link{Link: link(t, serve), Gateway: "plant1", Agent: "agent"})
		}
	}
	r.links = ls.all
	o := connector.Options{
		Links: ls, PublicURL: &url.URL{Scheme: "https", Host: "relay.example.com"}, Record: r.record,
		Log: slog.New(slog.DiscardHandler), CallerTimeout: 10 * time.Second, AnswerTimeout: 20 * time.Second,
	}
	if set.options != nil {
		set.options(&o)
	}
	r.proxy = connector.NewProxy(o)
	r.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		place := connector.Place{Published: r.directory.ByPath("plant1", "orders"), Host: set.host, Target: q.RequestURI}
		if set.host == "" {
			var found bool
			if place.Target, found = strings.CutPrefix(q.RequestURI, "/plant1/orders"); !found {
				place = connector.NotFound()
			}
		}
		r.proxy.Serve(w, q, place)
	}))
	return r
}

func (r *rig) publish(ctx context.Context, c connector.Connector) {
	t := r.t
	st, err := store.Open(ctx, store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close(ctx) })
	if r.directory, err = connector.NewDirectory(ctx, st, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.directory.Publish(ctx, c); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(c.Auth, connector.AuthKey) {
		_, r.key, err = r.directory.AddKey(ctx, "plant1", "orders", "flow-prod", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// serve listens for HTTP/1.1 and for HTTP/2 without TLS.
func (r *rig) serve(h http.Handler) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: p, DisableGeneralOptionsHandler: true, ReadHeaderTimeout: 10 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	r.t.Cleanup(func() { _ = srv.Close(); wg.Wait() })
	r.addr = l.Addr().String()
}

func (r *rig) record(e *connector.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, *e)
}

// event waits for the record of the only call so far.
func (r *rig) event() connector.Event {
	r.t.Helper()
	var e connector.Event
	eventually(r.t, "the call is recorded", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.events) > 0 {
			e = r.events[len(r.events)-1]
		}
		return len(r.events) > 0
	})
	return e
}

// link runs both ends of a link until the test ends; serve is the agent.
func link(t *testing.T, serve func(*tunnel.Stream)) *tunnel.Link {
	t.Helper()
	got := make(chan *tunnel.Link, 1)
	var wg sync.WaitGroup
	run := func(l *tunnel.Link) *tunnel.Link {
		wg.Go(func() { _ = l.Run(context.Background()) })
		return l
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil)
		if err != nil {
			t.Error(err)
		}
		got <- run(tunnel.New(ws, tunnel.RelaySide, tunnel.Options{}))
	}))
	ws, resp, err := tunnel.NewDialer().Dial("ws"+strings.TrimPrefix(srv.URL, "http")+tunnel.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	agent := run(tunnel.New(ws, tunnel.AgentSide, tunnel.Options{Serve: serve}))
	relay := <-got
	t.Cleanup(func() {
		relay.Close("the test is over")
		agent.Close("the test is over")
		wg.Wait()
		srv.Close()
	})
	return relay
}

// both runs a test over HTTP/1.1 and over HTTP/2.
func both(t *testing.T, test func(t *testing.T, caller *http.Client)) {
	for _, name := range []string{"HTTP1", "HTTP2"} {
		t.Run(name, func(t *testing.T) {
			p := new(http.Protocols)
			p.SetHTTP1(name == "HTTP1")
			p.SetUnencryptedHTTP2(name == "HTTP2")
			tr := &http.Transport{Protocols: p, DisableCompression: true, ExpectContinueTimeout: 20 * time.Second}
			t.Cleanup(tr.CloseIdleConnections)
			test(t, &http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			}})
		})
	}
}

func (r *rig) url(path string) string { return "http://" + r.addr + path }

// do sends a request; fields are name, value, name, value.
func (r *rig) do(t *testing.T, caller *http.Client, method, path string, body io.Reader, fields ...string) *http.Response {
	t.Helper()
	q, err := http.NewRequest(method, r.url(path), body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		q.Header[fields[i]] = append(q.Header[fields[i]], fields[i+1])
	}
	resp, err := caller.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// raw sends bytes on a new connection.
func (r *rig) raw(t *testing.T, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func text(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return string(b)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("it never came to be that %s", what)
}

// respond is an agent that answers at once.
func respond(status int, body string, fields ...string) func(*tunnel.Stream) {
	return func(s *tunnel.Stream) {
		_, _ = io.Copy(io.Discard, s)
		_ = s.Answer(&tunnel.Response{Status: status, Header: header(fields...), ContentLength: int64(len(body))}, []byte(body))
	}
}

func header(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h[fields[i]] = append(h[fields[i]], fields[i+1])
	}
	return h
}
