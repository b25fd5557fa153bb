package agent

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// documents is an API that describes itself at /swagger/v1/swagger.json, with an ETag.
type documents struct {
	body   atomic.Pointer[string]
	status atomic.Int32 // in place of 200
	full   atomic.Int32 // how often the whole document was sent
}

func (d *documents) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body := *d.body.Load()
	w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256([]byte(body)))))
	switch {
	case q.URL.Path != "/swagger/v1/swagger.json":
		w.WriteHeader(http.StatusNotFound)
	case d.status.Load() != 0:
		w.WriteHeader(int(d.status.Load()))
	case q.Header.Get("If-None-Match") == w.Header().Get("ETag"):
		w.WriteHeader(http.StatusNotModified)
	default:
		d.full.Add(1)
		_, _ = io.WriteString(w, body)
	}
}

func described(path string) string {
	return `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"` + path + `":{"get":{"responses":{"200":{"description":"ok"}}}}}}`
}

// A document on the API is fetched whole when it has changed, and only then; one that cannot be used, or an API that fails,
// leaves the one before in place and is asked again sooner.
func TestDefinitionOnTheUpstream(t *testing.T) {
	t.Parallel()
	d := &documents{}
	set := func(body string) { d.body.Store(&body) }
	set(described("/a"))
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	config := "relay: https://relay.example.com\ngateway: plant1\napis:\n  - name: orders\n    url: " + srv.URL +
		"\n    auth: none\n    definition: /swagger/v1/swagger.json\n    allow: [GET /a, GET /b]\n"
	c, err := ParseConfig("agent.yaml", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{config: *c, deps: Deps{Log: slog.New(slog.DiscardHandler)}, log: slog.New(slog.DiscardHandler), ship: newShipper()}
	one, err := a.buildAPI(c, &c.APIs[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(one.transport.Close)
	w := &watched{}
	look := func(what string, changed bool, full int32, next time.Duration) {
		t.Helper()
		w.due = time.Time{}
		if got := a.look(t.Context(), w, one); got != changed || d.full.Load() != full {
			t.Errorf("%s: changed %v, fetched %d times; want %v, %d", what, got, d.full.Load(), changed, full)
		}
		if left := time.Until(w.due); left > next || left < next-30*time.Second {
			t.Errorf("%s: asked again in %s, want %s", what, left, next)
		}
	}
	look("the first time", true, 1, refetchEvery)
	first := a.ship.get("orders").digest
	look("unchanged", false, 1, refetchEvery)
	set(described("/b"))
	look("changed", true, 2, refetchEvery)
	second := a.ship.get("orders").digest
	if first == second {
		t.Error("another document has the same digest")
	}
	d.status.Store(503)
	look("the API fails", false, 2, retryEvery)
	d.status.Store(0)
	look("it is back", false, 2, refetchEvery)
	set(`{"swagger":`)
	look("broken", false, 3, retryEvery)
	look("still broken: that is no success", false, 4, retryEvery)
	if got := a.ship.get("orders").digest; got != second || w.said == "" {
		t.Errorf("after a broken document: %s, %q", got, w.said)
	}
	set(described("/a"))
	look("mended", true, 5, refetchEvery)
	if got := a.ship.get("orders").digest; got != first {
		t.Errorf("mended: %s", got)
	}
	if w.said != "" {
		t.Errorf("a fault stays: %q", w.said)
	}
}
