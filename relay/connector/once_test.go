package connector_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/relay/connector"
	"sallyport/relay/operation"
	"sallyport/tunnel"
)

// A booking is an agent that books an order for each request that reaches it, and answers as its target says.
func booking(n *atomic.Int32, breakNow <-chan struct{}) func(*tunnel.Stream) {
	return func(s *tunnel.Stream) {
		body, _ := io.ReadAll(s)
		count := n.Add(1)
		status := 201
		switch target := s.Request().Target; {
		case strings.HasPrefix(target, "/busy") && count == 1:
			status = 503
		case strings.HasPrefix(target, "/fails"):
			status = 500
		case strings.HasPrefix(target, "/breaks"):
			_ = s.SendResponse(&tunnel.Response{Status: 200, Header: http.Header{}, ContentLength: 100}, false)
			_, _ = s.Write([]byte("half"))
			<-breakNow
			s.Reset(tunnel.BrokenOff, "the upstream broke off")
			return
		case strings.HasPrefix(target, "/lost"):
			s.Reset(tunnel.Internal, "nobody knows")
			return
		case strings.HasPrefix(target, "/refused") && count == 1:
			_ = s.Answer(&tunnel.Response{Status: 502, Problem: &tunnel.Problem{Code: "upstream-unreachable", Origin: tunnel.OriginUpstream, Executed: tunnel.ExecutedNo}}, nil)
			return
		}
		text := fmt.Sprintf("%d: %s", count, body)
		_ = s.Answer(&tunnel.Response{Status: status, Header: header("X-Order", fmt.Sprint(count)), ContentLength: int64(len(text))}, []byte(text))
	}
}

func byKey(c *connector.Connector) { c.Dedupe.By = connector.DedupeKey }

func TestRepeatIsAnsweredForTheFirst(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		var booked atomic.Int32
		r := outliving(t, booking(&booked, nil), newShelf(t).ledger(t, operation.Config{}), byKey, nil)
		large := strings.Repeat("an order ", 10_000)
		for _, body := range []string{"an order", "", large} {
			key := fmt.Sprintf("key-%d", len(body))
			first := r.do(t, caller, "POST", "/plant1/orders/orders", strings.NewReader(body), "Idempotency-Key", key)
			said := text(t, first.Body)
			if first.StatusCode != 201 || first.Header.Get("Idempotency-Replayed") != "" || !strings.HasSuffix(said, ": "+body) {
				t.Errorf("the first: %d %.50q", first.StatusCode, said)
			}
			var again *http.Response
			eventually(t, "the first is on record", func() bool {
				again = r.do(t, caller, "POST", "/plant1/orders/orders", strings.NewReader(body), "Idempotency-Key", key)
				return again.StatusCode == 201
			})
			if got := text(t, again.Body); got != said || again.Header.Get("Idempotency-Replayed") != "true" ||
				again.Header.Get("X-Order") != first.Header.Get("X-Order") || again.Header.Get("X-Request-Id") != first.Header.Get("X-Request-Id") {
				t.Errorf("the repeat: %.50q %v", got, again.Header)
			}
			wantProblem(t, r.do(t, caller, "POST", "/plant1/orders/orders", strings.NewReader(body+"!"), "Idempotency-Key", key), 422, "key-reused", "relay", "no")
		}
		if n := booked.Load(); n != 3 {
			t.Errorf("%d orders were booked, want 3", n)
		}
		// Another key, target, method or none is another request; a GET is none that needs it.
		for _, c := range [][]string{
			{"POST", "/orders", "Idempotency-Key", "other"},
			{"POST", "/orders?x", "Idempotency-Key", "key-8"},
			{"PATCH", "/orders", "Idempotency-Key", "key-8"},
			{"POST", "/orders"},
			{"POST", "/orders"},
			{"GET", "/orders", "Idempotency-Key", "g"},
			{"GET", "/orders", "Idempotency-Key", "g"},
		} {
			before := booked.Load()
			resp := r.do(t, caller, c[0], "/plant1/orders"+c[1], nil, c[2:]...)
			if resp.StatusCode != 201 || booked.Load() != before+1 {
				t.Errorf("%q: %d, and %d more orders", c, resp.StatusCode, booked.Load()-before)
			}
		}
	})
}

// What was certainly not done runs again; what may have been done never does.
func TestRepeatOfAFailure(t *testing.T) {
	for _, c := range []struct {
		path          string
		first, second int
		booked        int32
	}{
		{"/busy", 503, 201, 2},
		{"/refused", 502, 201, 2},
		{"/fails", 500, 500, 1},
		{"/lost", 502, 502, 1},
		{"/breaks", 200, 409, 1},
	} {
		t.Run(c.path[1:], func(t *testing.T) {
			var booked atomic.Int32
			breakNow := make(chan struct{})
			r := outliving(t, booking(&booked, breakNow), newShelf(t).ledger(t, operation.Config{}), byKey, nil)
			first := r.do(t, http.DefaultClient, "POST", "/plant1/orders"+c.path, strings.NewReader("x"), "Idempotency-Key", "k")
			close(breakNow)
			if _, err := io.ReadAll(first.Body); first.StatusCode != c.first || (err != nil) != (c.path == "/breaks") {
				t.Errorf("the first: %d, %v", first.StatusCode, err)
			}
			second := r.do(t, http.DefaultClient, "POST", "/plant1/orders"+c.path, strings.NewReader("x"), "Idempotency-Key", "k")
			if body := text(t, second.Body); second.StatusCode != c.second || booked.Load() != c.booked {
				t.Errorf("the second: %d %s; %d orders, want %d", second.StatusCode, body, booked.Load(), c.booked)
			}
		})
	}
}

// A repeat that comes while the first runs waits for it, and does not run.
func TestRepeatWhileTheFirstRuns(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		g := newGate()
		r := outliving(t, g.serve, newShelf(t).ledger(t, operation.Config{}), byKey, nil)
		answers := make(chan string, 3)
		for range 3 {
			go func() {
				q, _ := http.NewRequest("POST", r.url("/plant1/orders/x"), strings.NewReader("x"))
				q.Header.Set("Idempotency-Key", "k")
				resp, err := caller.Do(q)
				if err != nil {
					answers <- err.Error()
					return
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				answers <- fmt.Sprint(resp.StatusCode, " ", string(b))
			}()
		}
		<-g.seen
		eventually(t, "all three are there", func() bool { return r.proxy.Active() == 3 })
		close(g.open)
		for range 3 {
			if got := <-answers; got != "201 made of x" {
				t.Errorf("answered %q", got)
			}
		}
		if n := g.calls.Load(); n != 1 {
			t.Errorf("it ran %d times", n)
		}
	})
}

// The wait for the first ends.
func TestRepeatOfWhatTakesLong(t *testing.T) {
	g := newGate()
	r := outliving(t, g.serve, newShelf(t).ledger(t, operation.Config{}), byKey, func(o *connector.Options) { o.PlatformTimeout = 300 * time.Millisecond })
	first := make(chan int, 1)
	go func() {
		q, _ := http.NewRequest("POST", r.url("/plant1/orders/x"), strings.NewReader("x"))
		q.Header.Set("Idempotency-Key", "k")
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			first <- 0
			return
		}
		_ = resp.Body.Close()
		first <- resp.StatusCode
	}()
	<-g.seen
	fields := []string{"Idempotency-Key", "k", "User-Agent", "azure-logic-apps/1.0"}
	wantProblem(t, r.do(t, http.DefaultClient, "POST", "/plant1/orders/x", strings.NewReader("x"), fields...), 409, "still-running", "relay", "no")
	close(g.open)
	if status := <-first; status != 201 {
		t.Errorf("the first: %d", status)
	}
}

// The caller hangs up, and asks again: the call went on, and its answer is there.
func TestCallerComesBack(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		g := newGate()
		r := outliving(t, g.serve, newShelf(t).ledger(t, operation.Config{}), byKey, nil)
		ctx, leave := context.WithCancel(t.Context())
		q, _ := http.NewRequestWithContext(ctx, "POST", r.url("/plant1/orders/x"), strings.NewReader("x"))
		q.Header.Set("Idempotency-Key", "k")
		go func() { <-g.seen; leave() }()
		if resp, err := caller.Do(q); err == nil {
			t.Fatalf("answered %d", resp.StatusCode)
		}
		if e := r.event(); e.Code != "caller-gone" || r.proxy.Active() != 1 {
			t.Errorf("on record as %q, and %d calls under way", e.Code, r.proxy.Active())
		}
		close(g.open)
		resp := r.do(t, caller, "POST", "/plant1/orders/x", strings.NewReader("x"), "Idempotency-Key", "k")
		if body := text(t, resp.Body); resp.StatusCode != 201 || body != "made of x" || resp.Header.Get("Idempotency-Replayed") != "true" || g.calls.Load() != 1 {
			t.Errorf("%d %q, ran %d times", resp.StatusCode, body, g.calls.Load())
		}
	})
}

// The flow's own IDs are a key, for the operations that are named. A repeat after a restart is known.
func TestRepeatOfAFlow(t *testing.T) {
	shelf := newShelf(t)
	var booked atomic.Int32
	settle := func(c *connector.Connector) {
		c.Dedupe = connector.Dedupe{By: connector.DedupeFlow, For: []string{"POST /orders/{id}"}}
	}
	// The same connector: the rig's store is made anew, so its ID is too; one rig serves both processes.
	ledger := shelf.ledger(t, operation.Config{})
	var options *connector.Options
	r := outliving(t, booking(&booked, nil), ledger, settle, func(o *connector.Options) { options = o })
	flow := []string{"X-Ms-Workflow-Run-Id", "0858", "X-Ms-Action-Tracking-Id", "t1"}
	send := func(path string, fields ...string) (int, string) {
		resp := r.do(t, http.DefaultClient, "POST", "/plant1/orders"+path, strings.NewReader("x"), fields...)
		return resp.StatusCode, text(t, resp.Body)
	}
	_, first := send("/orders/7", flow...)
	r.proxy = connector.NewProxy(withOperations(*options, shelf.ledger(t, operation.Config{})))
	if status, again := send("/orders/7", flow...); status != 201 || again != first || booked.Load() != 1 {
		t.Errorf("after a restart: %d %q, want %q; %d booked", status, again, first, booked.Load())
	}
	for what, c := range map[string][]string{
		"another action":      {"/orders/7", "X-Ms-Workflow-Run-Id", "0858", "X-Ms-Action-Tracking-Id", "t2"},
		"no action":           {"/orders/7", "X-Ms-Workflow-Run-Id", "0858"},
		"another operation":   {"/other/7", "X-Ms-Workflow-Run-Id", "0858", "X-Ms-Action-Tracking-Id", "t1"},
		"an Idempotency-Key ": {"/orders/7", "Idempotency-Key", "0858 t1"},
	} {
		before := booked.Load()
		if status, _ := send(c[0], c[1:]...); status != 201 || booked.Load() != before+1 {
			t.Errorf("%s: %d, and %d more", what, status, booked.Load()-before)
		}
	}
}

// A call that has a record does not move to another link when its own dies, as bare ones else do that may run twice.
func TestCallWithARecordRunsOnce(t *testing.T) {
	for name, fields := range map[string][]string{
		"known by its key": {"Idempotency-Key", "k"}, "deferred": {"Prefer", "respond-async"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var second atomic.Int32
			got, die := make(chan struct{}, 1), make(chan struct{})
			l := newShelf(t).ledger(t, operation.Config{})
			r := start(t, func(s *tunnel.Stream) {
				got <- struct{}{}
				<-s.Context().Done()
			}, settings{
				connector: func(c *connector.Connector) {
					c.Dedupe = connector.Dedupe{By: connector.DedupeKey, For: []string{"DELETE /x"}}
				},
				options: func(o *connector.Options) { o.Operations = l },
				second:  func(s *tunnel.Stream) { second.Add(1); respond(200, "from the second")(s) },
			})
			go func() {
				<-got
				<-die
				r.links[0].Close("it dies")
			}()
			if fields[0] == "Idempotency-Key" {
				close(die)
			}
			resp := r.do(t, http.DefaultClient, "DELETE", "/plant1/orders/x", nil, fields...)
			if resp.StatusCode == 202 {
				close(die)
				resp = r.poll(t, http.DefaultClient, operationOf(t, resp))
			}
			wantProblem(t, resp, 502, "link-lost", "relay", "unknown")
			if n := second.Load(); n != 0 {
				t.Errorf("it ran %d times more", n)
			}
		})
	}
}

func withOperations(o connector.Options, l *operation.Ledger) connector.Options {
	o.Operations = l
	return o
}

// A repeat of a call that was deferred is told the same address.
func TestRepeatOfADeferredCall(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		g := newGate()
		r := outliving(t, g.serve, newShelf(t).ledger(t, operation.Config{}), byKey, nil)
		send := func() *http.Response {
			return r.do(t, caller, "POST", "/plant1/orders/x", strings.NewReader("x"), "Idempotency-Key", "k", "Prefer", "respond-async")
		}
		at := operationOf(t, send())
		if again := operationOf(t, send()); again != at {
			t.Errorf("%s, then %s", at, again)
		}
		close(g.open)
		if resp := r.poll(t, caller, at); resp.StatusCode != 201 || text(t, resp.Body) != "made of x" {
			t.Errorf("polled: %d", resp.StatusCode)
		}
		if resp := send(); resp.StatusCode != 201 || text(t, resp.Body) != "made of x" || g.calls.Load() != 1 {
			t.Errorf("repeated: %d, ran %d times", resp.StatusCode, g.calls.Load())
		}
	})
}
