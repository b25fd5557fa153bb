package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/relay/store"
	"sallyport/tunnel"
)

// TestFirstOfTwoClonesStays: both have passed the handshake before either was attached, so neither saw the other there.
func TestFirstOfTwoClonesStays(t *testing.T) {
	t.Parallel()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close(context.Background()) })
	r, err := New(t.Context(), st, Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.records.Create(t.Context(), "plant1", Record{Name: "plant1", Agents: []Agent{{ID: "a"}}}); err != nil {
		t.Fatal(err)
	}
	first, second, successor := bareLink(t, "process-1"), bareLink(t, "process-2"), bareLink(t, "process-3")
	second.Since = first.Since.Add(time.Second)
	if replaced, err := r.attach(first); err != nil || len(replaced) != 0 {
		t.Fatal(replaced, err)
	}
	r.serve(t.Context(), second)
	if err := second.Err(); err == nil || !strings.Contains(err.Error(), errClone.Error()) {
		t.Errorf("the second ended with %v", err)
	}
	if first.Err() != nil || !first.Usable() {
		t.Errorf("the first was given up: %v", first.Err())
	}
	if s := r.Status()[0].Agents[0]; len(s.Links) != 1 || s.Clone == nil {
		t.Errorf("status %+v", s)
	}
	// One that was asked and gave no answer does give way.
	successor.silent = []*Link{first}
	if replaced, err := r.attach(successor); err != nil || len(replaced) != 1 || replaced[0] != first {
		t.Errorf("the successor of a silent link: %v, %v", replaced, err)
	}
	// An agent that is gone takes the memory of its clones along.
	if err := r.RemoveAgent(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if n := len((*r.sites.Load())["plant1"].clones); n != 0 {
		t.Errorf("%d clones of agents that are gone", n)
	}
	r.serving.Wait()
}

// bareLink is a link of agent a's that has passed the handshake; nobody runs its other side.
func bareLink(t *testing.T, instance string) *Link {
	t.Helper()
	got := make(chan *tunnel.Link, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil)
		if err != nil {
			t.Error(err)
		}
		got <- tunnel.New(ws, tunnel.RelaySide, tunnel.Options{})
	}))
	ws, resp, err := tunnel.NewDialer().Dial("ws"+strings.TrimPrefix(srv.URL, "http")+tunnel.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	l := <-got
	t.Cleanup(func() { _ = ws.Close(); l.Close("the test is over"); srv.Close() })
	link := &Link{Link: l, Gateway: "plant1", Agent: "a", Since: time.Now(), claim: tunnel.Claim{
		Gateway: "plant1", Agent: "a", Instance: instance, Generation: 1,
	}}
	link.proved.Store(&proof{})
	return link
}
