package gateway_test

import (
	"errors"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

// What is known of a removed gateway's APIs is not left to another gateway of its name.
func TestDefinitionsGoWithTheGateway(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	definitions := g.st.Definitions()
	put := func() {
		t.Helper()
		body := []byte(`{"swagger":"2.0"}`)
		err := definitions.Put(t.Context(), "plant1", "orders", store.Definition{Digest: store.DigestOf(body), Body: body, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
	}
	gone := func(when string) {
		t.Helper()
		if _, err := definitions.Get(t.Context(), "plant1", "orders"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", when, err)
		}
	}
	add := func() error { _, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{}); return err }

	if err := add(); err != nil {
		t.Fatal(err)
	}
	put()
	if err := add(); err == nil {
		t.Error("a second gateway of the same name")
	}
	if _, err := definitions.Get(t.Context(), "plant1", "orders"); err != nil {
		t.Errorf("after a refused addition: %v", err)
	}
	if err := g.r.RemoveGateway(t.Context(), "plant1"); err != nil {
		t.Fatal(err)
	}
	gone("removed")
	put() // one that was still on its way
	if err := add(); err != nil {
		t.Fatal(err)
	}
	gone("added anew")
}
