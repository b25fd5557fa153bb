package connector

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sallyport/relay/store"
)

// openDirectory opens a directory; the function ends it as a relay does.
func openDirectory(t *testing.T, dir string) (*Directory, func()) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDirectory(t.Context(), st, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	end := sync.OnceFunc(func() {
		stop()
		wg.Wait()
		if err := st.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return d, end
}

func publish(t *testing.T, d *Directory, c Connector) Connector {
	t.Helper()
	c, err := d.Publish(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDirectoryFindsWhatIsPublished(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, end := openDirectory(t, dir)
	orders := publish(t, d, Connector{
		Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}, KeyHeader: "x-orders-key",
		Hosts: []string{"Orders.Example.com"}, CORSOrigins: []string{"HTTPS://App.example.com/"}, BodyLimit: 1 << 20, Timeout: time.Minute,
	})
	want := Connector{
		Gateway: "plant1", Name: "orders", API: "orders", Auth: []string{AuthKey}, KeyHeader: "X-Orders-Key",
		Hosts: []string{"orders.example.com"}, CORSOrigins: []string{"https://app.example.com"},
		BodyLimit: 1 << 20, Timeout: time.Minute, OutcomeUnknown: OutcomeAuto,
	}
	if diff := cmp.Diff(want, orders, cmpopts.IgnoreFields(Connector{}, "ID", "Created")); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	publish(t, d, Connector{Gateway: "plant1", Name: "free", API: "orders", Auth: []string{AuthNone}})
	_, secret, err := d.AddKey(t.Context(), "plant1", "orders", "flow", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for round, d := range []*Directory{d, reopened(t, dir, end)} {
		p := d.ByPath("plant1", "orders")
		if p == nil || p.ID != orders.ID {
			t.Fatalf("round %d: ByPath gives %v", round, p)
		}
		if name, ok := p.CheckKey(secret); !ok || name != "flow" {
			t.Errorf("round %d: CheckKey gives %q, %v", round, name, ok)
		}
		for _, host := range []string{"orders.example.com", "ORDERS.example.com:8443"} {
			if d.ByHost(host) != p {
				t.Errorf("round %d: ByHost(%q) does not find it", round, host)
			}
		}
		if d.ByHost("example.com") != nil || d.ByPath("plant1", "none") != nil || d.ByPath("plant2", "orders") != nil {
			t.Errorf("round %d: found what was not published", round)
		}
		if p := d.ByPath("plant1", "free"); p == nil || p.API != "orders" || !p.Allows(AuthNone) || p.Allows(AuthKey) {
			t.Errorf("round %d: free is %+v", round, p)
		}
	}
}

func reopened(t *testing.T, dir string, end func()) *Directory {
	end()
	d, _ := openDirectory(t, dir)
	return d
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	d, _ := openDirectory(t, t.TempDir())
	publish(t, d, Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthNone}, Hosts: []string{"orders.example.com"}})
	ok := Connector{Gateway: "plant1", Name: "stock", Auth: []string{AuthKey}}
	for name, c := range map[string]struct {
		change func(*Connector)
		want   string
	}{
		"no auth":          {func(c *Connector) { c.Auth = nil }, "say who may call"},
		"unknown auth":     {func(c *Connector) { c.Auth = []string{"kerberos"} }, `"kerberos" is not known`},
		"key and none":     {func(c *Connector) { c.Auth = []string{AuthKey, AuthNone} }, "exclude each other"},
		"auth twice":       {func(c *Connector) { c.Auth = []string{AuthKey, AuthKey} }, "given twice"},
		"bad name":         {func(c *Connector) { c.Name = "a/b" }, "connector:"},
		"own path":         {func(c *Connector) { c.Name = "_" }, "connector:"},
		"bad gateway":      {func(c *Connector) { c.Gateway = ".." }, "gateway:"},
		"header unneeded":  {func(c *Connector) { c.Auth, c.KeyHeader = []string{AuthNone}, "X-Key" }, "with key only"},
		"header of HTTP":   {func(c *Connector) { c.KeyHeader = "transfer-encoding" }, "meaning of its own"},
		"header of ours":   {func(c *Connector) { c.KeyHeader = "X-Forwarded-For" }, "meaning of its own"},
		"Authorization":    {func(c *Connector) { c.KeyHeader = "authorization" }, "Basic and bearer"},
		"header with CRLF": {func(c *Connector) { c.KeyHeader = "X-Key\r\nX-Evil: 1" }, "letters, digits and hyphens"},
		"header with _":    {func(c *Connector) { c.KeyHeader = "X_Key" }, "letters, digits and hyphens"},
		"query with &":     {func(c *Connector) { c.KeyQuery = "a&b" }, "query:"},
		"host with scheme": {func(c *Connector) { c.Hosts = []string{"https://x.example.com"} }, "not a host name"},
		"host with port":   {func(c *Connector) { c.Hosts = []string{"x.example.com:443"} }, "not a host name"},
		"wildcard host":    {func(c *Connector) { c.Hosts = []string{"*.example.com"} }, "not a host name"},
		"address":          {func(c *Connector) { c.Hosts = []string{"10.0.0.1"} }, "not a host name"},
		"one label":        {func(c *Connector) { c.Hosts = []string{"localhost"} }, "not a host name"},
		"host taken":       {func(c *Connector) { c.Hosts = []string{"ORDERS.example.com"} }, "belongs to the connector plant1/orders"},
		"host twice":       {func(c *Connector) { c.Hosts = []string{"a.example.com", "A.example.com"} }, "given twice"},
		"origin with path": {func(c *Connector) { c.CORSOrigins = []string{"https://x.example.com/app"} }, "not an origin"},
		"null origin":      {func(c *Connector) { c.CORSOrigins = []string{"null"} }, "not an origin"},
		"any and one":      {func(c *Connector) { c.CORSOrigins = []string{"*", "https://x.example.com"} }, "any origin"},
		"negative body":    {func(c *Connector) { c.BodyLimit = -1 }, "body limit"},
		"endless timeout":  {func(c *Connector) { c.Timeout = 1000 * time.Hour }, "timeout"},
		"outcome":          {func(c *Connector) { c.OutcomeUnknown = "200" }, "outcome-unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := ok
			c.change(&bad)
			_, err := d.Publish(t.Context(), bad)
			if _, is := errors.AsType[*Invalid](err); !is || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Publish: %v; want %q in it", err, c.want)
			}
		})
	}
	if _, err := d.Publish(t.Context(), Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}}); !errors.Is(err, ErrExists) {
		t.Errorf("publishing twice: %v", err)
	}
	if got := len(d.List()); got != 1 {
		t.Errorf("%d connectors, want 1", got)
	}
	publish(t, d, ok)
}

func TestUnpublishTakesTheKeysAlong(t *testing.T) {
	t.Parallel()
	d, _ := openDirectory(t, t.TempDir())
	publish(t, d, Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}})
	_, secret, err := d.AddKey(t.Context(), "plant1", "orders", "flow", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unpublish(t.Context(), "plant1", "orders"); err != nil {
		t.Fatal(err)
	}
	if d.ByPath("plant1", "orders") != nil {
		t.Error("it is still there")
	}
	if err := d.Unpublish(t.Context(), "plant1", "orders"); !errors.Is(err, ErrUnknownConnector) {
		t.Errorf("unpublishing twice: %v", err)
	}
	publish(t, d, Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}})
	if _, ok := d.ByPath("plant1", "orders").CheckKey(secret); ok {
		t.Error("the old key opens the new connector")
	}
}
