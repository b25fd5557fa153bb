package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/relay/admin"
	"sallyport/relay/connector"
)

func changes(t *testing.T, c *admin.Client, l admin.LogQuery) (out []admin.Change) {
	t.Helper()
	l.Kind = admin.KindAdmin
	err := c.Log(t.Context(), l, func(event []byte) error {
		var change admin.Change
		out = append(out, change)
		return json.Unmarshal(event, &out[len(out)-1])
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestChangesAreKept: who did what on what, and what was refused; no secret, nothing that was only asked.
func TestChangesAreKept(t *testing.T) {
	t.Parallel()
	path, _, _ := serve(t)
	c, ctx := admin.NewClient(path), t.Context()
	join, err := c.AddGateway(ctx, "plant1", admin.NewJoin{})
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, 409, second(c.AddGateway(ctx, "plant1", admin.NewJoin{})))
	if _, err := c.Publish(ctx, connector.Connector{Gateway: "plant1", Name: "orders", Auth: []string{"key"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PlanPublish(ctx, connector.Connector{Gateway: "plant1", Name: "stock", Auth: []string{"key"}}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, 400, second(c.PlanPublish(ctx, connector.Connector{Gateway: "plant1", Name: "stock"})))
	wantStatus(t, 404, second(c.Keys(ctx, "plant1", "stock"))) // who only looks is not on record
	key, err := c.AddKey(ctx, "plant1", "orders", admin.AddKey{Name: "flow"})
	if err != nil {
		t.Fatal(err)
	}
	got := changes(t, c, admin.LogQuery{})
	want := []string{
		"done: gateway added map[approve:false code:" + join.Code + " gateway:plant1 uses:1]", "refused: POST /v1/gateways map[]",
		"done: connector published map[auth:[key] connector:orders gateway:plant1]",
		"done: key added map[connector:orders gateway:plant1 key:flow key_id:" + key.ID + "]",
	}
	if len(got) != len(want) {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	for i, change := range got {
		if line := fmt.Sprintf("%s: %s %v", change.Outcome, change.Event, change.On); line != want[i] {
			t.Errorf("event %d is %s, want %s", i, line, want[i])
		}
		if change.Actor != fmt.Sprintf("uid:%d", os.Getuid()) || time.Since(change.Time) > time.Minute {
			t.Errorf("event %d by %s at %s", i, change.Actor, change.Time)
		}
		if text, _ := json.Marshal(change); strings.Contains(string(text), key.Key) || strings.Contains(string(text), join.JoinString) {
			t.Errorf("event %d holds a secret", i)
		}
	}
	if !strings.Contains(got[1].Detail, "exists already") {
		t.Errorf("why it was refused: %q", got[1].Detail)
	}
	if got := changes(t, c, admin.LogQuery{Connector: "orders"}); len(got) != 2 {
		t.Errorf("of the connector: %+v", got)
	}
	if got := changes(t, c, admin.LogQuery{Gateway: "plant2"}); len(got) != 0 {
		t.Errorf("of another gateway: %+v", got)
	}
}

// TestFollowersHearAtOnceAndEndWithTheRelay: and those who ask for too much or what is not are told.
func TestFollowersHearAtOnceAndEndWithTheRelay(t *testing.T) {
	t.Parallel()
	path, _, end := serve(t)
	c, ctx := admin.NewClient(path), t.Context()
	seen := make(chan string, 10)
	ended := make(chan error, 8)
	for range cap(ended) {
		go func() {
			ended <- c.Log(ctx, admin.LogQuery{Kind: admin.KindAdmin, Follow: true}, func(event []byte) error {
				seen <- string(event)
				return nil
			})
		}()
	}
	if _, err := c.AddGateway(ctx, "plant1", admin.NewJoin{}); err != nil {
		t.Fatal(err)
	}
	for range cap(ended) {
		select {
		case event := <-seen:
			if !strings.Contains(event, "gateway added") {
				t.Errorf("followed %s", event)
			}
		case err := <-ended:
			t.Fatalf("a follower ended: %v", err)
		case <-time.After(20 * time.Second):
			t.Fatal("a follower heard nothing")
		}
	}
	wantStatus(t, 503, c.Log(ctx, admin.LogQuery{}, func([]byte) error { return nil }))
	for _, wrong := range []admin.LogQuery{{Kind: "x"}, {Status: "5x"}, {Status: "x05"}, {Kind: admin.KindAdmin, Status: "200"}} {
		wantStatus(t, 400, c.Log(ctx, wrong, nil))
	}
	began := time.Now()
	end()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("followers held up the end for %s", took)
	}
	for range cap(ended) {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("a follower at the end: %v", err)
		}
	}
}
