//go:build linux

package system

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestCallsThatLeadBackIntoTheRelay: an API that calls its own connector for each call it gets ends at the bound of its calls at
// once, with an answer that says so, and is as good as before afterwards.
func TestCallsThatLeadBackIntoTheRelay(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	var again atomic.Pointer[func() (*http.Response, error)]
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !strings.HasSuffix(q.URL.Path, "/loop") {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		calls.Add(1)
		resp, err := (*again.Load())()
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(u.Close)
	b := ready(t, racy, []string{"web"}, api("web", u.URL, "limits: {concurrent: 20}\n", everything))
	client := b.client(1)
	client.Timeout = time.Minute
	loop := func() (*http.Response, error) { return client.Get(b.at("web", "/x/loop")) }
	again.Store(&loop)
	resp, err := loop()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p problem // that of the innermost call, as the API has handed it on
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls, then %d %s: %s", calls.Load(), p.Status, p.Error.Code, p.Detail)
	if n := calls.Load(); n == 0 || n > 20 || p.Status != http.StatusServiceUnavailable && p.Status != http.StatusTooManyRequests {
		t.Errorf("%d calls, then %+v; want 20 at most, and that there are too many at once", n, p)
	}
	resp, err = client.Get(b.at("web", "/x/status/204"))
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Errorf("afterwards: %v, %v", resp, err)
	}
	b.nothingIsLeft(b.relay)
}
