package agent

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/state"
	"sallyport/tunnel"
)

// What an admin pauses is not called, is offered as paused, and is on record, until it is resumed.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	if resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/1"}); resp.Status != 200 {
		t.Fatalf("before: %d", resp.Status)
	}
	tell := func(change func(*Told)) {
		t.Helper()
		if err := Tell(t.Context(), r.state, func(told *Told) error { change(told); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, api := range []string{"orders", ""} {
		tell(func(told *Told) { told.Pause(Pause{API: api, Since: time.Now(), Reason: "ERP update"}) })
		r.until("the offer says that it is paused", func() bool { o := r.offered(); return strings.Contains(o[len(o)-1], `"paused":true`) })
		calls := len(r.requests())
		resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/1"})
		if resp.Status != http.StatusServiceUnavailable || resp.Problem == nil || resp.Problem.Code != "paused" || resp.Problem.Executed != tunnel.ExecutedNo {
			t.Errorf("%q is paused: %d %+v", api, resp.Status, resp.Problem)
		}
		if strings.Contains(resp.Problem.Detail, "ERP") {
			t.Error("the caller sees the reason")
		}
		if len(r.requests()) != calls {
			t.Error("the API was called")
		}
		tell(func(told *Told) { told.Resume(api) })
		r.until("the offer is as before", func() bool { o := r.offered(); return !strings.Contains(o[len(o)-1], "paused") })
		if resp, _ := r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/1"}); resp.Status != 200 {
			t.Errorf("%q is resumed: %d", api, resp.Status)
		}
	}
	r.stop()
	var paused, resumed, refused int
	for _, e := range r.events() {
		switch {
		case e.Kind == audit.Pause && e.Detail == "ERP update":
			paused++
		case e.Kind == audit.Resume:
			resumed++
		case e.Kind == audit.Call && e.Problem == "paused" && e.Verdict == audit.Refused:
			refused++
		}
	}
	if paused != 2 || resumed != 2 || refused != 2 {
		t.Errorf("on record: %d paused, %d resumed, %d refused", paused, resumed, refused)
	}
}

// A pause outlives a restart: the API is never offered in between.
func TestPauseOutlivesARestart(t *testing.T) {
	t.Parallel()
	dir, err := state.Open(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	for _, api := range []string{"orders", "stock", "orders"} {
		if err := Tell(t.Context(), dir, func(told *Told) error { told.Pause(Pause{API: api}); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	told, err := ReadTold(dir)
	if err != nil || len(told.Paused) != 2 || !told.paused("orders") || told.paused("other") {
		t.Fatalf("%+v, %v", told, err)
	}
	if !told.Resume("orders") || told.Resume("orders") || !told.Resume("") || told.paused("stock") {
		t.Errorf("resumed: %+v", told)
	}
	if err := os.WriteFile(dir.Path(toldFile), []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTold(dir); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("a broken file: %v", err)
	}
}

// The level of the log changes while the agent runs, and goes back by itself.
func TestLogLevelWhileItRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.link()
	set := func(level string, until time.Time) {
		t.Helper()
		if err := Tell(t.Context(), r.state, func(told *Told) error { told.LogLevel, told.LogUntil = level, until; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	set("error", time.Time{})
	r.until("the level is error", func() bool { return r.level.Level() == slog.LevelError })
	set("warn", time.Now().Add(2*time.Second))
	r.until("the level is warn", func() bool { return r.level.Level() == slog.LevelWarn })
	r.until("the level is the usual one", func() bool { return r.level.Level() == slog.LevelDebug })
}

// Commands at once, as a script may give them, lose none of what they say.
func TestTellingAtOnce(t *testing.T) {
	t.Parallel()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := Tell(t.Context(), dir, func(told *Told) error { told.Pause(Pause{API: fmt.Sprint("a", i)}); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if told, err := ReadTold(dir); err != nil || len(told.Paused) != 20 {
		t.Errorf("%d pauses of 20: %v", len(told.Paused), err)
	}
}

// A damaged status comes with its mend.
func TestADamagedStatus(t *testing.T) {
	t.Parallel()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Write(statusFile, []byte("junk")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStatus(dir); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("%v", err)
	}
}
