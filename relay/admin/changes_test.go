package admin_test

import (
	"errors"
	"testing"
	"time"

	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/store"
)

// What an agent sends is compared with what makers had last; what breaks comes first, and nothing is taken for known that
// has changed meanwhile.
func TestChangesSinceTheExport(t *testing.T) {
	t.Parallel()
	path, _, _, st := serveWithStore(t)
	c, ctx := admin.NewClient(path), t.Context()
	if _, err := c.AddGateway(ctx, "plant1", admin.NewJoin{Expires: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(ctx, connector.Connector{Gateway: "plant1", Name: "orders", Auth: []string{"key"}}); err != nil {
		t.Fatal(err)
	}
	send := func(body string) string {
		d := store.Definition{Digest: store.DigestOf([]byte(body)), Body: []byte(body), At: time.Now()}
		if err := st.Definitions().Put(ctx, "plant1", "orders", d); err != nil {
			t.Fatal(err)
		}
		return d.Digest
	}
	published := func() admin.Published {
		list, err := c.Connectors(ctx)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0]
	}
	wantStatus(t, 404, second(c.Changes(ctx, "plant1", "stock")))
	first := send(`{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/a":{"get":{"operationId":"A","responses":{"200":{"description":"ok"}}}},
		"/b":{"get":{"operationId":"B","responses":{"200":{"description":"ok"}}}}}}`)
	if got, err := c.Changes(ctx, "plant1", "orders"); err != nil || got.Known || published().Exported != nil {
		t.Errorf("before the first export: %+v %v", got, err)
	}
	if err := c.Exported(ctx, "plant1", "orders", first); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Changes(ctx, "plant1", "orders"); err != nil || !got.Known || len(got.Changes) != 0 {
		t.Errorf("just exported: %+v %v", got, err)
	}
	if p := published(); p.Exported == nil || p.Changed() {
		t.Errorf("just exported: %+v", p)
	}
	changed := send(`{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/a":{"get":{"operationId":"A","responses":{"200":{"description":"ok"}}}},
		"/c":{"get":{"operationId":"C","responses":{"200":{"description":"ok"}}}}}}`)
	got, err := c.Changes(ctx, "plant1", "orders")
	if p := published(); err != nil || got.Breaking != 1 || len(got.Changes) != 2 || got.Changes[0].Operation != "B" || !got.Changes[0].Breaking || !p.Changed() {
		t.Errorf("after a change: %+v %v", got, err)
	}
	wantStatus(t, 409, c.Exported(ctx, "plant1", "orders", first))
	if err := c.Exported(ctx, "plant1", "orders", changed); err != nil {
		t.Errorf("exported again: %v", err)
	}
	if p := published(); p.Changed() {
		t.Errorf("exported again: %+v", p)
	}

	if err := st.Definitions().DeleteGateway(ctx, "plant1"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Definitions().GetExported(ctx, "plant1", "orders"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was exported stays when the gateway goes: %v", err)
	}
}
