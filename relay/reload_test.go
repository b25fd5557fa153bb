package relay

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/gateway"
)

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to be: %s", what)
		}
	}
}

// A reload puts in force what can change, names what cannot, and a broken file changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	var log lockedLog
	level := new(slog.LevelVar)
	config := Config{Listen: "127.0.0.1:0", Data: t.TempDir()}
	config.AccessLog.To = "off"
	next, broken := config, error(nil)
	var mu sync.Mutex // guards next and broken
	again, ended := make(chan struct{}), make(chan struct{}, 10)
	r, err := Open(t.Context(), config, Deps{
		Version: "test", Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level})), Level: level, Again: again,
		Read: func() (Config, error) {
			mu.Lock()
			defer mu.Unlock()
			return next, broken
		},
		Rereading: func() func() { return func() { ended <- struct{}{} } },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	reload := func(change func()) {
		t.Helper()
		mu.Lock()
		change()
		mu.Unlock()
		again <- struct{}{}
		<-ended
	}

	reload(func() { next.Log.Level, next.Timeouts.Drain = "debug", 7*time.Minute })
	if level.Level() != slog.LevelDebug || r.DrainLimit() != 7*time.Minute {
		t.Errorf("after a reload: level %s, drain %s", level.Level(), r.DrainLimit())
	}
	if strings.Contains(log.String(), "restart the relay") {
		t.Errorf("what was put in force wants a restart:\n%s", &log)
	}
	reload(func() { next.Limits.Connections, next.PublicURL = 5, "https://other.example.com" })
	if !strings.Contains(log.String(), `settings="public_url, limits.connections"`) {
		t.Errorf("the log does not say what waits for a restart:\n%s", &log)
	}
	reload(func() {
		next.Log.Level, broken = "error", errors.New("relay.yaml:1:1: unknown key\nrelay.yaml:2:1: another")
	})
	if level.Level() != slog.LevelDebug || !strings.Contains(log.String(), `error="relay.yaml:2:1: another"`) {
		t.Errorf("after a broken file: level %s\n%s", level.Level(), &log)
	}
	if resp, err := http.Get(r.URL() + "/_/readyz"); err != nil || resp.Body.Close() != nil || resp.StatusCode != 200 {
		t.Errorf("after the reloads: %v, %v", resp, err)
	}

	// A limit counts at once: without an agent a call is answered 503, and one with too large a body 413 before that.
	if _, err := r.gateways.AddGateway(ctx, "plant1", gateway.CodeUse{Life: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.connectors.Publish(ctx, connector.Connector{Gateway: "plant1", Name: "orders", Auth: []string{"none"}}); err != nil {
		t.Fatal(err)
	}
	post := func() int {
		resp, err := http.Post(r.URL()+"/plant1/orders/x", "text/plain", strings.NewReader("more than five bytes"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	before := post()
	reload(func() { next.Limits.Body, broken = 5, nil })
	if after := post(); before == http.StatusRequestEntityTooLarge || after != http.StatusRequestEntityTooLarge {
		t.Errorf("limits.body: %d before the reload and %d after it", before, after)
	}

	// What an admin has told goes before the file, until that is taken back.
	c := admin.NewClient(config.SocketPath())
	if _, err := c.SetLogLevel(t.Context(), admin.LogLevel{Level: "warn"}); err != nil || level.Level() != slog.LevelWarn {
		t.Errorf("told warn: %s, %v", level.Level(), err)
	}
	reload(func() { next.Log.Level, broken = "error", nil })
	if level.Level() != slog.LevelWarn {
		t.Errorf("a reload takes back what an admin told: %s", level.Level())
	}
	if _, err := c.SetLogLevel(t.Context(), admin.LogLevel{Level: "debug", For: 50 * time.Millisecond}); err != nil {
		t.Error(err)
	}
	eventually(t, "the level of the file is back", func() bool { return level.Level() == slog.LevelError })
	for _, l := range []admin.LogLevel{{Level: "loud"}, {Level: "info", For: -1}, {Level: "usual", For: 1}, {}} {
		if _, err := c.SetLogLevel(t.Context(), l); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTheLevelGoesBackByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		live := new(slog.LevelVar)
		l := newLogLevel(live, slog.New(slog.DiscardHandler), "warn")
		l.usually("warn")
		debug, failed := slog.LevelDebug, slog.LevelError
		l.tell(&debug, time.Minute)
		time.Sleep(30 * time.Second)
		l.tell(&failed, time.Minute) // the first minute no longer counts
		until := time.Now().Add(time.Minute)
		time.Sleep(45 * time.Second)
		if live.Level() != slog.LevelError {
			t.Errorf("after 45 s of a minute: %s", live.Level())
		}
		if now := *l.inForce(); now.Level != "error" || now.Usual != "warn" || !now.Told || !now.Until.Equal(until) {
			t.Errorf("after 45 s of a minute that ends at %s it says %+v", until, now)
		}
		time.Sleep(16 * time.Second)
		if live.Level() != slog.LevelWarn {
			t.Errorf("after the minute: %s", live.Level())
		}
		if now := *l.inForce(); now != (admin.LevelInForce{Level: "warn", Usual: "warn"}) {
			t.Errorf("after the minute it says %+v", now)
		}
		l.tell(&debug, time.Minute)
		l.tell(nil, 0)
		if live.Level() != slog.LevelWarn {
			t.Errorf("taken back: %s", live.Level())
		}
		if now := *l.inForce(); now != (admin.LevelInForce{Level: "warn", Usual: "warn"}) {
			t.Errorf("taken back it says %+v", now)
		}
		l.tell(&debug, time.Minute)
		l.close()
		time.Sleep(2 * time.Minute)
		if live.Level() != slog.LevelDebug {
			t.Errorf("after the end the clock went on: %s", live.Level())
		}
	})
}

func TestEachReloadableSettingIsOne(t *testing.T) {
	t.Parallel()
	is := Config{
		Limits:   Limits{Body: 1, Calls: 1, CallsPerConnector: 1},
		Timeouts: Timeouts{Answer: 1, PowerPlatform: 1, Idle: 1, Drain: 1}, Log: Log{Level: "debug"},
	}
	got := differences("", reflect.ValueOf(Config{}), reflect.ValueOf(is))
	want := slices.Clone(reloadable[:])
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the settings have other names:\n%s", diff)
	}
	if rest := changed(Config{}, is); len(rest) > 0 {
		t.Errorf("%q wait for a restart", rest)
	}
	more := Config{TLS: &TLS{Cert: "a"}, TrustedProxies: []string{"10.0.0.1"}, Log: Log{Format: "json"}}
	if diff := cmp.Diff([]string{"tls", "trusted_proxies", "log.format"}, changed(Config{}, more)); diff != "" {
		t.Error(diff)
	}
}
