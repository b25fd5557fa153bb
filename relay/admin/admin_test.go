package admin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

// serve runs the admin API on a socket and returns its path and its log, which is complete after end.
func serve(t *testing.T) (path string, log *bytes.Buffer, end func()) {
	t.Helper()
	path, log, end, _ = serveWithStore(t)
	return path, log, end
}

func serveWithStore(t *testing.T) (path string, log *bytes.Buffer, end func(), st *store.Store) {
	t.Helper()
	dir := t.TempDir()
	log = &bytes.Buffer{}
	logger := slog.New(slog.NewJSONHandler(log, nil))
	st, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(dir, "store"), Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	gateways, err := gateway.New(t.Context(), st, gateway.Config{URL: "https://relay.example", Dir: dir, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	connectors, err := connector.NewDirectory(t.Context(), st, logger)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "a.sock")
	l, err := admin.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	a := admin.New(admin.Config{
		Gateways: gateways, Connectors: connectors, Store: st, URL: "https://relay.example", Version: "1.2.3", Log: logger,
	})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	end = sync.OnceFunc(func() {
		stop()
		wg.Wait()
		if err := st.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return path, log, end, st
}

func TestEveryCall(t *testing.T) {
	t.Parallel()
	path, log, end, st := serveWithStore(t)
	c, ctx := admin.NewClient(path), t.Context()
	join, err := c.AddGateway(ctx, "plant1", admin.NewJoin{Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := tunnel.ParseJoinString(join.JoinString)
	if err != nil || parsed.Relay != "https://relay.example" || parsed.Gateway != "plant1" {
		t.Errorf("join string: %v, %v", parsed, err)
	}
	wantStatus(t, 409, second(c.AddGateway(ctx, "plant1", admin.NewJoin{})))
	wantStatus(t, 400, second(c.AddGateway(ctx, "No Name", admin.NewJoin{})))
	wantStatus(t, 400, second(c.AddGateway(ctx, "plant2", admin.NewJoin{Expires: 9999 * time.Hour})))
	wantStatus(t, 404, second(c.NewJoin(ctx, "plant2", admin.NewJoin{})))
	if _, err := c.NewJoin(ctx, "plant1", admin.NewJoin{}); err != nil {
		t.Error(err)
	}
	wantStatus(t, 404, second(c.Publish(ctx, connector.Connector{Gateway: "plant2", Name: "x", Auth: []string{"none"}})))
	wantStatus(t, 400, second(c.Publish(ctx, connector.Connector{Gateway: "plant1", Name: "x"})))
	p, err := c.Publish(ctx, connector.Connector{Gateway: "plant1", Name: "orders", Auth: []string{"key"}, Hosts: []string{"o.example.com"}})
	if err != nil || p.URL != "https://relay.example/plant1/orders" || p.HostURLs[0] != "https://o.example.com" || p.Unavailable == "" {
		t.Errorf("published %+v, %v", p, err)
	}
	checkChange(t, c)
	wantStatus(t, 404, second(c.Definition(ctx, "plant1", "stock")))
	body := []byte(`{"swagger":"2.0"}`)
	err = st.Definitions().Put(ctx, "plant1", "orders", store.Definition{Digest: store.DigestOf(body), Body: body, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := c.Definition(ctx, "plant1", "orders"); err != nil || string(d.Body) != `{"swagger":"2.0"}` || d.API != "orders" {
		t.Errorf("definition %+v, %v", d, err)
	}
	key, err := c.AddKey(ctx, "plant1", "orders", admin.AddKey{Name: "flow", Expires: time.Hour})
	if err != nil || !strings.HasPrefix(key.Key, "sp_") || key.Expires.IsZero() {
		t.Errorf("key %+v, %v", key.KeyInfo, err)
	}
	wantStatus(t, 400, second(c.AddKey(ctx, "plant1", "orders", admin.AddKey{Name: "past", Expires: -time.Hour})))
	wantStatus(t, 404, second(c.Keys(ctx, "plant1", "stock")))
	if keys, err := c.Keys(ctx, "plant1", "orders"); err != nil || len(keys) != 1 || keys[0].Name != "flow" {
		t.Errorf("keys %+v, %v", keys, err)
	}
	wantStatus(t, 404, c.RevokeKey(ctx, "plant1", "orders", "../../.."))
	wantStatus(t, 404, c.RevokeAgent(ctx, "nobody"))
	wantStatus(t, 404, c.RemoveAgent(ctx, "nobody"))
	if s, err := c.Status(ctx); err != nil || s.Version != "1.2.3" || s.Connectors != 1 || len(s.Gateways) != 1 || s.Gateways[0].OpenCodes != 2 {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := errors.Join(c.RevokeKey(ctx, "plant1", "orders", "flow"), c.Unpublish(ctx, "plant1", "orders"), c.RemoveGateway(ctx, "plant1")); err != nil {
		t.Error(err)
	}
	wantStatus(t, 404, c.RemoveGateway(ctx, "plant1"))
	end()
	checkLog(t, log.String(), join.JoinString, parsed.Code, key.Key)
}

// checkChange changes the timeout of plant1/orders: first only asked, then done, then done again.
func checkChange(t *testing.T, c *admin.Client) {
	t.Helper()
	ctx := t.Context()
	orders := connector.Connector{Gateway: "plant1", Name: "orders", Auth: []string{"key"}, Hosts: []string{"o.example.com"}, Timeout: time.Minute}
	wantStatus(t, 409, second(c.Publish(ctx, orders)))
	wantStatus(t, 409, second(c.PlanPublish(ctx, orders)))
	wantStatus(t, 404, second(c.Change(ctx, connector.Connector{Gateway: "plant1", Name: "stock", Auth: []string{"key"}})))
	wantStatus(t, 400, second(c.PlanChange(ctx, connector.Connector{Gateway: "plant1", Name: "orders"})))
	want := []connector.Difference{{Setting: "timeout", Before: "the relay's", After: "1m0s"}}
	timeout := func() time.Duration {
		list, err := c.Connectors(ctx)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].Timeout
	}
	if o, err := c.PlanChange(ctx, orders); err != nil || o.Action != admin.ActionChanged || !o.DryRun || !slices.Equal(o.Changes, want) || timeout() != 0 {
		t.Errorf("planned %+v, %v; the timeout is %s", o, err, timeout())
	}
	if o, err := c.Change(ctx, orders); err != nil || o.Action != admin.ActionChanged || o.DryRun || !slices.Equal(o.Changes, want) || timeout() != time.Minute {
		t.Errorf("changed %+v, %v; the timeout is %s", o, err, timeout())
	}
	if o, err := c.Change(ctx, orders); err != nil || o.Action != admin.ActionUnchanged || len(o.Changes) != 0 {
		t.Errorf("changed again %+v, %v", o, err)
	}
	orders.Name = "later"
	orders.Hosts = nil
	if o, err := c.PlanPublish(ctx, orders); err != nil || o.Action != admin.ActionPublished || !o.DryRun || timeout() == 0 {
		t.Errorf("planned %+v, %v", o, err)
	}
}

func second[T any](_ T, err error) error { return err }

func wantStatus(t *testing.T, status int, err error) {
	t.Helper()
	p, ok := errors.AsType[*admin.Problem](err)
	if !ok || p.Status != status || p.Detail == "" {
		t.Errorf("error %v, want a problem with the status %d", err, status)
	}
}

// checkLog wants each change with who made it, and no secret.
func checkLog(t *testing.T, log string, secrets ...string) {
	t.Helper()
	actor := fmt.Sprintf(`"actor":"uid:%d"`, os.Getuid())
	for _, event := range []string{
		"gateway added", "join code made", "connector published", "key added", "key revoked", "connector unpublished", "gateway removed",
	} {
		found := false
		for line := range strings.Lines(log) {
			found = found || strings.Contains(line, "admin: "+event) && strings.Contains(line, actor)
		}
		if !found {
			t.Errorf("the log lacks %q with %s", event, actor)
		}
	}
	for i, s := range secrets {
		if strings.Contains(log, s) {
			t.Errorf("secret %d is in the log", i)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	path, _, _ := serve(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/gateways", ``, 400},
		{"POST", "/v1/gateways", `{"name":"a","nome":"b"}`, 400},
		{"POST", "/v1/gateways", `{"name":"a"} {"name":"b"}`, 400},
		{"POST", "/v1/gateways", `{"name":"` + strings.Repeat("a", 1<<20) + `"}`, 400},
		{"PUT", "/v1/gateways", `{}`, 405},
		{"GET", "/v2/status", ``, 404},
		{"GET", "/v1/status", ``, 200},
	} {
		q, err := http.NewRequestWithContext(t.Context(), c.method, "http://relay"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(q)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s %.40s: %d, want %d: %s", c.method, c.path, c.body, resp.StatusCode, c.status, text)
		}
		if kind := resp.Header.Get("Content-Type"); resp.StatusCode == 400 && kind != "application/problem+json" {
			t.Errorf("%s %s: an error of the type %q", c.method, c.path, kind)
		}
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	path, _, end := serve(t)
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket's mode: %v, %v", info, err)
	}
	if _, err := admin.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another relay answers") {
		t.Errorf("a second relay: %v", err)
	}
	end()
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 2 { // the key and the store
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := admin.NewClient(path).Status(t.Context()); !errors.Is(err, admin.ErrNotRunning) {
		t.Errorf("no relay: %v", err)
	}

	// A socket left by a process that was killed: the file is there, nobody listens.
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := admin.NewClient(path).Status(t.Context()); !errors.Is(err, admin.ErrNotRunning) {
		t.Errorf("a stale socket: %v", err)
	}
	fresh, err := admin.Listen(t.Context(), path)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	fresh.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Listen(t.Context(), path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("a file that is no socket was removed")
	}
}
