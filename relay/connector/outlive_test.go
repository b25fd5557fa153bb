package connector_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/relay/connector"
	"sallyport/relay/operation"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

// A shelf is the store of the operations, which outlives a ledger.
type shelf struct{ objects *store.Objects }

func newShelf(t *testing.T) *shelf {
	t.Helper()
	ctx := context.Background()
	st, err := store.Open(ctx, store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close(ctx) })
	objects, err := st.Objects(ctx, "operations", 64<<20, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &shelf{objects}
}

// ledger is one of a process; another one of the same shelf is that of the process after it.
func (s *shelf) ledger(t *testing.T, c operation.Config) *operation.Ledger {
	t.Helper()
	c.Objects, c.Secret = s.objects, bytes.Repeat([]byte{7}, 32)
	l, err := operation.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// outliving is a rig whose relay keeps what outlives a caller.
func outliving(t *testing.T, agent func(*tunnel.Stream), l *operation.Ledger, settle func(*connector.Connector), options func(*connector.Options)) *rig {
	t.Helper()
	return start(t, agent, settings{
		connector: func(c *connector.Connector) {
			if settle != nil {
				settle(c)
			}
		},
		options: func(o *connector.Options) {
			o.Operations = l
			if options != nil {
				options(o)
			}
		},
	})
}

// A gate is an agent that answers when it is told to; each call's body is echoed.
type gate struct {
	open  chan struct{}
	calls atomic.Int32
	gone  chan struct{} // one for each call that was cancelled
	seen  chan *tunnel.Request
}

func newGate() *gate {
	return &gate{open: make(chan struct{}), gone: make(chan struct{}, 100), seen: make(chan *tunnel.Request, 100)}
}

func (g *gate) serve(s *tunnel.Stream) {
	g.calls.Add(1)
	body, _ := io.ReadAll(s)
	g.seen <- s.Request()
	select {
	case <-g.open:
		body = append([]byte("made of "), body...)
		_ = s.Answer(&tunnel.Response{Status: 201, Header: header("Content-Type", "text/plain", "X-Made", "yes"), ContentLength: int64(len(body))}, body)
	case <-s.Context().Done():
		g.gone <- struct{}{}
	}
}

const publicBase = "https://relay.example.com/plant1/orders"

// operationOf is the path of a deferred call's answer at the rig's own address.
func operationOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	at, found := strings.CutPrefix(resp.Header.Get("Location"), publicBase+"/_/operations/")
	if resp.StatusCode != 202 || !found || len(at) != 44 || resp.Header.Get("Retry-After") != "5" {
		t.Fatalf("%d, Location %q, Retry-After %q: %s", resp.StatusCode, resp.Header.Get("Location"), resp.Header.Get("Retry-After"), text(t, resp.Body))
	}
	return "/plant1/orders/_/operations/" + at
}

// poll asks until the answer is not 202.
func (r *rig) poll(t *testing.T, caller *http.Client, path string, fields ...string) *http.Response {
	t.Helper()
	var resp *http.Response
	eventually(t, "the operation ends", func() bool {
		resp = r.do(t, caller, "GET", path, nil, fields...)
		return resp.StatusCode != 202
	})
	return resp
}

func TestDeferredCall(t *testing.T) {
	shelf := newShelf(t)
	both(t, func(t *testing.T, caller *http.Client) {
		l, g := shelf.ledger(t, operation.Config{}), newGate()
		r := outliving(t, g.serve, l, func(c *connector.Connector) { c.Auth = []string{connector.AuthKey} }, nil)
		key := []string{"X-Api-Key", r.key}
		first := r.do(t, caller, "POST", "/plant1/orders/orders?full=1", strings.NewReader("an order"),
			append(key, "Prefer", "respond-async, wait=0, return=minimal")...)
		at, id := operationOf(t, first), first.Header.Get("X-Request-Id")
		if first.Header.Get("Preference-Applied") != "respond-async" {
			t.Error("it is not said that the preference was applied")
		}
		if seen := <-g.seen; seen.Header.Get("Prefer") != "return=minimal" || seen.Timeout != time.Hour {
			t.Errorf("the agent got Prefer %q and a timeout of %s", seen.Header.Get("Prefer"), seen.Timeout)
		}
		if again := operationOf(t, r.do(t, caller, "GET", at, nil, key...)); again != at {
			t.Errorf("while it runs: %s", again)
		}
		wantProblem(t, r.do(t, caller, "GET", at, nil), 401, "key-required", "relay", "no")
		wantProblem(t, r.do(t, caller, "POST", at, nil, key...), 405, "method-refused", "relay", "no")
		wantProblem(t, r.do(t, caller, "GET", at+"x", nil, key...), 404, "no-operation", "relay", "no")
		close(g.open)
		for range 2 { // it can be fetched again
			resp := r.poll(t, caller, at, key...)
			if body := text(t, resp.Body); resp.StatusCode != 201 || body != "made of an order" || resp.Header.Get("X-Made") != "yes" ||
				resp.Header.Get("X-Request-Id") != id || resp.Header.Get("Content-Length") != "16" {
				t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
			}
		}
		if resp := r.do(t, caller, "HEAD", at, nil, key...); resp.StatusCode != 201 || text(t, resp.Body) != "" {
			t.Errorf("HEAD: %d", resp.StatusCode)
		}
		if resp := r.do(t, caller, "DELETE", at, nil, key...); resp.StatusCode != 204 {
			t.Errorf("DELETE: %d", resp.StatusCode)
		}
		wantProblem(t, r.do(t, caller, "GET", at, nil, key...), 404, "no-operation", "relay", "no")
		wantProblem(t, r.do(t, caller, "DELETE", at, nil, key...), 404, "no-operation", "relay", "no")
		if n := g.calls.Load(); n != 1 {
			t.Errorf("the agent was asked %d times", n)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		var statuses []int
		for _, e := range r.events {
			if e.ID == id {
				statuses = append(statuses, e.Status)
			}
		}
		if len(statuses) != 2 || statuses[0]+statuses[1] != 202+201 {
			t.Errorf("the call is on record as %v, want its 202 and its end", statuses)
		}
	})
}

// Held for a while, then let go; what comes in time is answered as ever.
func TestDeferredAfterAWhile(t *testing.T) {
	g := newGate()
	agent := func(s *tunnel.Stream) {
		if s.Request().Target == "/quick" {
			respond(200, "at once")(s)
			return
		}
		g.serve(s)
	}
	r := outliving(t, agent, newShelf(t).ledger(t, operation.Config{}), func(c *connector.Connector) { c.Async.After = time.Second }, nil)
	both(t, func(t *testing.T, caller *http.Client) {
		if resp := r.do(t, caller, "GET", "/plant1/orders/quick", nil); resp.StatusCode != 200 || text(t, resp.Body) != "at once" {
			t.Errorf("a quick call: %d", resp.StatusCode)
		}
		began := time.Now()
		operationOf(t, r.do(t, caller, "GET", "/plant1/orders/slow", nil))
		if took := time.Since(began); took < time.Second {
			t.Errorf("let go after %s", took)
		}
	})
	close(g.open)
}

// The caller is let go only when its body is with the relay.
func TestDeferredUpload(t *testing.T) {
	g := newGate()
	r := outliving(t, g.serve, newShelf(t).ledger(t, operation.Config{}), nil, nil)
	close(g.open)
	both(t, func(t *testing.T, caller *http.Client) {
		in, out := io.Pipe()
		large := strings.Repeat("0123456789", 100_000)
		go func() {
			_, _ = io.WriteString(out, large[:500_000])
			time.Sleep(100 * time.Millisecond)
			_, _ = io.WriteString(out, large[500_000:])
			_ = out.Close()
		}()
		resp := r.do(t, caller, "POST", "/plant1/orders/import", in, "Prefer", "respond-async")
		if resp.StatusCode == 202 {
			resp = r.poll(t, caller, operationOf(t, resp))
		}
		if body := text(t, resp.Body); body != "made of "+large {
			t.Errorf("%d: %d bytes came back", resp.StatusCode, len(body))
		}
	})
}

func TestDeferredCallEndsBadly(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		begun, breakNow := make(chan struct{}, 10), make(chan struct{})
		agent := func(s *tunnel.Stream) {
			begun <- struct{}{}
			_, _ = io.Copy(io.Discard, s)
			switch s.Request().Target {
			case "/breaks":
				_ = s.SendResponse(&tunnel.Response{Status: 200, Header: http.Header{}, ContentLength: 100}, false)
				_, _ = s.Write([]byte("half"))
				<-breakNow
				s.Reset(tunnel.BrokenOff, "the upstream broke off")
			case "/large":
				respond(200, strings.Repeat("x", 2000))(s)
			case "/refused":
				_ = s.Answer(&tunnel.Response{Status: 403, Problem: &tunnel.Problem{Code: "policy-refused", Origin: tunnel.OriginAgent, Executed: tunnel.ExecutedNo}}, nil)
			default:
				<-s.Context().Done()
			}
		}
		l := newShelf(t).ledger(t, operation.Config{Answer: 1000})
		r := outliving(t, agent, l, func(c *connector.Connector) { c.Async.Limit = 500 * time.Millisecond }, nil)
		for _, c := range []struct {
			path, code, executed, origin string
			status                       int
		}{
			{"/breaks", "outcome-unknown", "unknown", "relay", 409},
			{"/large", "answer-not-kept", "unknown", "relay", 409},
			{"/refused", "policy-refused", "no", "agent", 403},
			{"/never", "timeout", "unknown", "relay", 504},
			{"/stopped", "relay-stopping", "unknown", "relay", 503},
		} {
			resp := r.do(t, caller, "POST", "/plant1/orders"+c.path, strings.NewReader("x"), "Prefer", "respond-async")
			<-begun
			if c.path == "/stopped" {
				l.Stop(connector.ErrStopping)
			}
			if c.path == "/breaks" && resp.StatusCode == 200 { // the answer's head was faster
				close(breakNow)
				continue
			}
			if c.path == "/breaks" {
				at := operationOf(t, resp)
				operationOf(t, r.do(t, caller, "GET", at, nil)) // half an answer is none
				time.AfterFunc(200*time.Millisecond, func() { close(breakNow) })
				wantProblem(t, r.poll(t, caller, at), c.status, c.code, c.origin, c.executed)
				continue
			}
			if resp.StatusCode == 202 { // some end before the caller can be let go
				resp = r.poll(t, caller, operationOf(t, resp))
				wantProblem(t, resp, c.status, c.code, c.origin, c.executed)
			}
		}
	})
}

func TestDeferredCallIsCancelled(t *testing.T) {
	g := newGate()
	r := outliving(t, g.serve, newShelf(t).ledger(t, operation.Config{}), nil, nil)
	both(t, func(t *testing.T, caller *http.Client) {
		at := operationOf(t, r.do(t, caller, "POST", "/plant1/orders/x", nil, "Prefer", "respond-async"))
		<-g.seen
		if resp := r.do(t, caller, "DELETE", at, nil); resp.StatusCode != 204 {
			t.Errorf("DELETE: %d", resp.StatusCode)
		}
		select {
		case <-g.gone:
		case <-time.After(10 * time.Second):
			t.Error("the agent still works on it")
		}
		wantProblem(t, r.do(t, caller, "GET", at, nil), 404, "no-operation", "relay", "no")
	})
}

// What has ended is there after a restart; what was running says that nobody knows.
func TestDeferredCallsAfterARestart(t *testing.T) {
	shelf, g := newShelf(t), newGate()
	r := outliving(t, g.serve, shelf.ledger(t, operation.Config{}), nil, nil)
	caller := http.DefaultClient
	ended := operationOf(t, r.do(t, caller, "POST", "/plant1/orders/x", strings.NewReader("1"), "Prefer", "respond-async"))
	g.open <- struct{}{}
	r.poll(t, caller, ended)
	running := operationOf(t, r.do(t, caller, "POST", "/plant1/orders/x", strings.NewReader("2"), "Prefer", "respond-async"))

	// The same connector in another process: the old one was killed and writes no more.
	pub := r.directory.ByPath("plant1", "orders")
	p := connector.NewProxy(connector.Options{Links: &links{}, PublicURL: mustURL(t), Operations: shelf.ledger(t, operation.Config{}), Log: slog.New(slog.DiscardHandler)})
	next := &rig{t: t, directory: r.directory}
	next.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		p.Serve(w, q, connector.Place{Published: pub, Target: strings.TrimPrefix(q.RequestURI, "/plant1/orders")})
	}))
	if resp := next.do(t, caller, "GET", ended, nil); resp.StatusCode != 201 || text(t, resp.Body) != "made of 1" {
		t.Errorf("what had ended: %d", resp.StatusCode)
	}
	wantProblem(t, next.do(t, caller, "GET", running, nil), 409, "outcome-unknown", "relay", "unknown")
	close(g.open)
}

func mustURL(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse("https://relay.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// When a bound is reached the caller is held as ever, to the end of the time that is held.
func TestNoRoomToDefer(t *testing.T) {
	g := newGate()
	l := newShelf(t).ledger(t, operation.Config{Running: 1})
	r := outliving(t, g.serve, l, nil, func(o *connector.Options) { o.PlatformTimeout = 400 * time.Millisecond })
	caller := http.DefaultClient
	operationOf(t, r.do(t, caller, "GET", "/plant1/orders/1", nil, "Prefer", "respond-async"))
	resp := r.do(t, caller, "POST", "/plant1/orders/2", nil, "Prefer", "respond-async", "User-Agent", "azure-logic-apps/1.0")
	wantProblem(t, resp, 409, "outcome-unknown", "relay", "unknown")
	close(g.open)
	if resp := r.do(t, caller, "GET", "/plant1/orders/3", nil, "Prefer", "respond-async"); resp.StatusCode != 201 && resp.StatusCode != 202 {
		t.Errorf("after that: %d", resp.StatusCode)
	}
}

// "off" leaves the preference to the API.
func TestPreferenceIsPassedOn(t *testing.T) {
	g := newGate()
	close(g.open)
	r := outliving(t, g.serve, newShelf(t).ledger(t, operation.Config{}), func(c *connector.Connector) { c.Async.Off = true }, nil)
	resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, "Prefer", "respond-async")
	if seen := <-g.seen; resp.StatusCode != 201 || seen.Header.Get("Prefer") != "respond-async" {
		t.Errorf("%d, Prefer %q", resp.StatusCode, seen.Header.Get("Prefer"))
	}
}

// A caller that leaves before its call was deferred takes the call with it.
func TestCallerLeavesBeforeItIsDeferred(t *testing.T) {
	g := newGate()
	r := outliving(t, g.serve, newShelf(t).ledger(t, operation.Config{}), func(c *connector.Connector) { c.Async.After = time.Minute }, nil)
	ctx, leave := context.WithCancel(t.Context())
	q, _ := http.NewRequestWithContext(ctx, "POST", r.url("/plant1/orders/x"), strings.NewReader("x"))
	go func() { <-g.seen; leave() }()
	if _, err := http.DefaultClient.Do(q); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	select {
	case <-g.gone:
	case <-time.After(10 * time.Second):
		t.Error("the agent still works on it")
	}
	if e := r.event(); e.Code != "caller-gone" || e.Status != 499 {
		t.Errorf("on record: %+v", e)
	}
}
