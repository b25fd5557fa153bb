package connector

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOutliveSettings(t *testing.T) {
	t.Parallel()
	d, _ := openDirectory(t, t.TempDir())
	good := Connector{
		Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}, Async: Async{After: 90 * time.Second, Limit: 2 * time.Hour},
		Dedupe: Dedupe{By: DedupeFlow, For: []string{" POST  /orders ", "POST /orders"}}, Webhooks: []string{"POST /hooks"},
	}
	was := publish(t, d, Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}})
	_, after, err := d.Change(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	var changed []string
	for _, diff := range after.Differences(&was) {
		changed = append(changed, diff.Setting+": "+diff.Before+" > "+diff.After)
	}
	want := []string{
		"async-after: when asked for > 1m30s", "async-limit: 1h0m0s > 2h0m0s", "dedupe: none > flow",
		"dedupe-for: none > POST /orders", "webhooks: none > POST /hooks",
	}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Error(diff)
	}
	for says, change := range map[string]func(*Connector){
		"async-after":     func(c *Connector) { c.Async.After = time.Millisecond },
		"async-limit":     func(c *Connector) { c.Async.Limit = 13 * time.Hour },
		"above":           func(c *Connector) { c.Async.Limit = time.Minute },
		"off and a time":  func(c *Connector) { c.Async.Off = true },
		"is not one of":   func(c *Connector) { c.Dedupe.By = "body" },
		"say by what":     func(c *Connector) { c.Dedupe.By = "" },
		"dedupe-for: \"x": func(c *Connector) { c.Dedupe.For = []string{"x"} },
		"webhooks: 65":    func(c *Connector) { c.Webhooks = slices.Repeat([]string{"POST /x"}, 65) },
	} {
		c := good
		change(&c)
		if _, _, err := d.PlanChange(c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
