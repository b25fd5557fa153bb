package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/store"
)

func definition(body string) store.Definition {
	return store.Definition{Digest: store.DigestOf([]byte(body)), Body: []byte(body), At: time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)}
}

func put(t *testing.T, d *store.Definitions, gateway, api, body string) {
	t.Helper()
	if err := d.Put(t.Context(), gateway, api, definition(body)); err != nil {
		t.Fatal(err)
	}
}

func TestDefinitionsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	st := open(t, dir)
	d := st.Definitions()
	if _, err := d.Get(ctx, "plant1", "orders"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of nothing: %v", err)
	}
	if _, err := d.Info(ctx, "plant1", "orders"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Info of nothing: %v", err)
	}
	put(t, d, "plant1", "orders", `{"swagger":"2.0"}`)
	put(t, d, "plant1", "orders", `{"openapi":"3.0.3"}`)
	put(t, d, "plant2", "orders", `{"openapi":"3.1.0"}`)
	closeStore(t, st)

	d = open(t, dir).Definitions()
	got, err := d.Get(ctx, "plant1", "orders")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(definition(`{"openapi":"3.0.3"}`), got); diff != "" {
		t.Error(diff)
	}
	list, err := d.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i].Stored = 0
	}
	want := []store.DefinitionInfo{
		{Gateway: "plant1", API: "orders", Digest: got.Digest, Size: 19, At: got.At},
		{Gateway: "plant2", API: "orders", Digest: store.DigestOf([]byte(`{"openapi":"3.1.0"}`)), Size: 19, At: got.At},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
}

func TestDefinitionsGoWithTheirGateway(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := open(t, t.TempDir()).Definitions()
	for _, of := range []string{"plant1", "plant10"} {
		put(t, d, of, "a", `{}`)
		put(t, d, of, "b", `{}`)
	}
	if err := d.Delete(ctx, "plant10", "b"); err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(ctx, "plant10", "b"); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if err := d.DeleteGateway(ctx, "plant1"); err != nil {
		t.Fatal(err)
	}
	list, err := d.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Gateway != "plant10" || list[0].API != "a" {
		t.Errorf("left: %+v", list)
	}
	if _, err := d.Get(ctx, "plant1", "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of a removed gateway's: %v", err)
	}
}

func TestDefinitionsAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := open(t, t.TempDir()).Definitions()
	big := definition(strings.Repeat(" ", store.MaxDefinition))
	if err := d.Put(ctx, "plant1", "big", big); err != nil {
		t.Errorf("the largest: %v", err)
	}
	got, err := d.Get(ctx, "plant1", "big")
	if err != nil || !bytes.Equal(got.Body, big.Body) {
		t.Errorf("the largest came back with %d bytes, %v", len(got.Body), err)
	}
	if err := d.Put(ctx, "plant1", "big", definition(string(big.Body)+" ")); err == nil {
		t.Error("one byte more was taken")
	}
	wrong := definition(`{}`)
	wrong.Body = []byte(`{"a":1}`)
	if err := d.Put(ctx, "plant1", "wrong", wrong); err == nil {
		t.Error("another body than the digest's was taken")
	}
}

func TestOneGatewayCannotTakeAllTheRoom(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := open(t, t.TempDir()).Definitions()
	d.Limit(t, 3)
	for i := range 3 {
		put(t, d, "plant1", fmt.Sprint("api", i), `{}`)
	}
	if err := d.Put(ctx, "plant1", "api3", definition(`{}`)); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("one more than a gateway can have: %v", err)
	}
	put(t, d, "plant1", "api2", `{"a":1}`) // in place of another
	put(t, d, "plant2", "api3", `{}`)
}

// What a crash leaves in the middle of a write is gone after the next start.
func TestPiecesOfADefinitionAreSwept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	put(t, st.Definitions(), "plant1", "orders", `{"kept":true}`)
	before := st.Pieces(t)
	st.LeavePiece(t)
	if got := st.Pieces(t); got != before+1 {
		t.Fatalf("%d pieces, want %d", got, before+1)
	}
	closeStore(t, st)
	st = open(t, dir)
	if got := st.Pieces(t); got != before {
		t.Errorf("%d pieces after the start, want %d", got, before)
	}
	if _, err := st.Definitions().Get(t.Context(), "plant1", "orders"); err != nil {
		t.Error(err)
	}
}

// A damaged definition is an error of its own, not of the store: the relay can have it again.
func TestDamagedDefinition(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	marker := "what an agent has shipped"
	put(t, st.Definitions(), "plant1", "orders", `{"x":"`+marker+`"}`)
	closeStore(t, st)
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "*", "streams", "OBJ_definitions", "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("%v %v", blocks, err)
	}
	data, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte{0x1f, 0x8b, 8}) // gzip's first bytes
	if at < 0 {
		t.Fatal("the definition is not compressed")
	}
	data[at+20] ^= 0x55
	if err := os.WriteFile(blocks[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err = store.Open(t.Context(), store.Config{Dir: dir, Log: testLog(t)})
	if err != nil {
		t.Fatalf("the store does not open: %v", err)
	}
	defer closeStore(t, st)
	if d, err := st.Definitions().Get(t.Context(), "plant1", "orders"); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a damaged definition: %q, %v", d.Body, err)
	}
}
