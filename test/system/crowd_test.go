//go:build linux

package system

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An outcome is what became of one call.
type outcome struct {
	id, method string
	status     int
	problem    problem // if the status is no 200
	err        error   // nothing whole came
	began      time.Time
	took       time.Duration
}

func (o outcome) ok() bool { return o.err == nil && o.status == http.StatusOK }

func (o outcome) String() string {
	return fmt.Sprintf("%s %s after %s: %d %s executed=%s %v", o.method, o.id, o.took.Round(time.Millisecond), o.status,
		o.problem.Error.Code, o.problem.Executed, o.err)
}

// callOnce makes one call of /x/once, which counts its runs, under an ID of its own.
func (b *box) callOnce(c *http.Client, method, id string, ms int) outcome {
	o := outcome{id: id, method: method, began: time.Now()}
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("an order")
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.at("web", fmt.Sprintf("/x/once/%s?ms=%d", id, ms)), body)
	if err == nil {
		// net/http repeats by itself what a closed connection cut; here each attempt counts.
		req.GetBody = nil
		var resp *http.Response
		if resp, err = c.Do(req); err == nil {
			defer resp.Body.Close()
			var text []byte
			text, err = io.ReadAll(resp.Body)
			if o.status = resp.StatusCode; o.status != http.StatusOK {
				_ = json.Unmarshal(text, &o.problem)
			} else if string(text) != "done" && err == nil {
				err = fmt.Errorf("the answer is %q", text)
			}
		}
	}
	o.err, o.took = err, time.Since(o.began)
	return o
}

// A crowd is callers that call all the time, each with connections of its own, until they are stopped.
type crowd struct {
	stopping chan struct{}
	running  sync.WaitGroup
	next     atomic.Int64

	mu       sync.Mutex // guards outcomes
	outcomes []outcome
}

// startCrowd lets callers call; pause is between one's calls. Every third call is a POST, the others are GETs.
func (b *box) startCrowd(callers int, pause time.Duration, ms int) *crowd {
	w := &crowd{stopping: make(chan struct{})}
	for range callers {
		c := b.client(1)
		c.Timeout = time.Minute
		w.running.Go(func() {
			for {
				select {
				case <-w.stopping:
					return
				default:
				}
				n := w.next.Add(1)
				method := http.MethodGet
				if n%3 == 0 {
					method = http.MethodPost
				}
				o := b.callOnce(c, method, fmt.Sprint(n), ms)
				w.mu.Lock()
				w.outcomes = append(w.outcomes, o)
				w.mu.Unlock()
				select {
				case <-w.stopping:
				case <-time.After(pause):
				}
			}
		})
	}
	return w
}

// count is how many calls have ended.
func (w *crowd) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.outcomes)
}

// stop ends the crowd and gives all outcomes. What has run more than once is a fault, except for a bare idempotent request,
// which the relay may repeat once.
func (w *crowd) stop(t *testing.T, u *upstream) []outcome {
	t.Helper()
	close(w.stopping)
	w.running.Wait()
	ran := u.timesRun()
	for _, o := range w.outcomes {
		most := 1
		if o.method == http.MethodGet {
			most = 2
		}
		if n := ran[o.id]; n > most {
			t.Errorf("%s: it was run %d times", o, n)
		} else if n == 0 && o.ok() {
			t.Errorf("%s: it was not run", o)
		} else if n > 0 && o.problem.Executed == "no" {
			t.Errorf("%s: it was run", o)
		}
	}
	return w.outcomes
}

func failures(outcomes []outcome) (failed []outcome) {
	for _, o := range outcomes {
		if !o.ok() {
			failed = append(failed, o)
		}
	}
	return failed
}

// show gives the first few.
func show(outcomes []outcome) string {
	var s strings.Builder
	for _, o := range outcomes[:min(len(outcomes), 10)] {
		fmt.Fprintln(&s, o)
	}
	return s.String()
}

// linkStates is what the relay says of its links: by agent, the state of each.
func (b *box) linkStates() (states map[string][]string) {
	b.t.Helper()
	var gateways []struct {
		Agents []struct {
			ID    string
			Links []struct{ State string }
		}
	}
	b.admin(&gateways, "gateway", "list")
	states = map[string][]string{}
	for _, g := range gateways {
		for _, a := range g.Agents {
			for _, l := range a.Links {
				states[a.ID] = append(states[a.ID], l.State)
			}
		}
	}
	return states
}

// awaitLinks waits until so many links are up and can be picked.
func (b *box) awaitLinks(n int) {
	b.t.Helper()
	eventually(b.t, 60*time.Second, fmt.Sprintf("%d links are up", n), func() bool {
		up := 0
		for _, states := range b.linkStates() {
			for _, s := range states {
				if s == "up" {
					up++
				}
			}
		}
		return up == n
	})
}
