package connector

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestChangeKeepsTheKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, end := openDirectory(t, dir)
	settings := Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}, Hosts: []string{"orders.example.com"}}
	was := publish(t, d, settings)
	_, secret, err := d.AddKey(t.Context(), "plant1", "orders", "flow", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	underWay := d.ByPath("plant1", "orders")
	settings.Timeout, settings.KeyHeader, settings.API = time.Minute, "X-Orders-Key", "orders-v2"
	_, planned, err := d.PlanChange(settings)
	if err != nil || d.ByPath("plant1", "orders").Timeout != 0 {
		t.Fatalf("a plan: %v; now %+v", err, d.ByPath("plant1", "orders"))
	}
	before, after, err := d.Change(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	want := was
	want.Timeout, want.KeyHeader, want.API = time.Minute, "X-Orders-Key", "orders-v2"
	if diff := cmp.Diff([]Connector{was, want, want}, []Connector{before, after, planned}); diff != "" {
		t.Errorf("before, after and planned (-want +got):\n%s", diff)
	}
	if underWay.Timeout != 0 || underWay.API != "orders" {
		t.Errorf("a call under way sees %+v", underWay.Connector)
	}
	for round, d := range []*Directory{d, reopened(t, dir, end)} {
		p := d.ByPath("plant1", "orders")
		if diff := cmp.Diff(want, p.Connector); diff != "" {
			t.Errorf("round %d (-want +got):\n%s", round, diff)
		}
		if name, ok := p.CheckKey(secret); !ok || name != "flow" {
			t.Errorf("round %d: the key does not work any more", round)
		}
	}
}

func TestChangeRefuses(t *testing.T) {
	t.Parallel()
	d, _ := openDirectory(t, t.TempDir())
	c := publish(t, d, Connector{Gateway: "plant1", Name: "orders", Auth: []string{AuthKey}})
	publish(t, d, Connector{Gateway: "plant1", Name: "stock", Auth: []string{AuthNone}, Hosts: []string{"stock.example.com"}})
	if _, _, err := d.AddKey(t.Context(), "plant1", "orders", "flow", time.Time{}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Connector){
		"open to all with keys": func(c *Connector) { c.Auth = []string{AuthNone} },
		"another's host":        func(c *Connector) { c.Hosts = []string{"stock.example.com"} },
		"not there":             func(c *Connector) { c.Name = "nothing" },
	} {
		bad := c
		change(&bad)
		_, _, planned := d.PlanChange(bad)
		_, _, err := d.Change(t.Context(), bad)
		_, invalid := errors.AsType[*Invalid](err)
		if planned == nil || !invalid && !errors.Is(err, ErrUnknownConnector) {
			t.Errorf("%s: planned %v, changed %v", name, planned, err)
		}
	}
	if diff := cmp.Diff(c, d.ByPath("plant1", "orders").Connector); diff != "" {
		t.Errorf("changed all the same (-want +got):\n%s", diff)
	}
	if _, err := d.PlanPublish(c); !errors.Is(err, ErrExists) {
		t.Errorf("planning what is there: %v", err)
	}
	c.Name = "later"
	if _, err := d.PlanPublish(c); err != nil || d.ByPath("plant1", "later") != nil {
		t.Errorf("planning what is not there: %v", err)
	}
}

func TestDifferencesNameEverySetting(t *testing.T) {
	t.Parallel()
	before := Connector{API: "a", Auth: []string{AuthKey}, Hosts: []string{"a.example.com", "b.example.com"}, OutcomeUnknown: OutcomeAuto}
	after := Connector{
		API: "b", Auth: []string{AuthNone}, KeyHeader: "X-Orders-Key", KeyQuery: "key", CORSOrigins: []string{"*"},
		BodyLimit: 1 << 20, Timeout: time.Minute, Rate: Rate{Calls: 5, Per: time.Second}, Concurrent: 7, OutcomeUnknown: OutcomeConflict,
	}
	want := []Difference{
		{"API", "a", "b"},
		{"auth", "key", "none"},
		{"header", "X-Api-Key", "X-Orders-Key"},
		{"query", "none", "key"},
		{"host", "a.example.com, b.example.com", "none"},
		{"cors-origin", "none", "*"},
		{"body-limit", "the relay's", "1MiB"},
		{"timeout", "the relay's", "1m0s"},
		{"rate", "none", "5/s"},
		{"concurrent", "the relay's", "7"},
		{"outcome-unknown", "auto", "409"},
	}
	if diff := cmp.Diff(want, after.Differences(&before)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if same := after.Differences(&after); len(same) != 0 {
		t.Errorf("differs from itself in %v", same)
	}
}
