package gateway

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzOffer: whatever an agent offers, what is taken has proper names and bounds, and reads back the same.
func FuzzOffer(f *testing.F) {
	f.Add([]byte(`{"apis":[{"name":"orders"},{"name":"stock","new":1}],"policy":"sha256:abc"}`))
	f.Add([]byte(`{"apis":[{"name":"No Name"}]}`))
	f.Add([]byte(`{"apis":null,"policy":"\u0000\u202e"}`))
	f.Add([]byte(`{"apis":[],"policy":"sha256:` + strings.Repeat("0", 200) + `"}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`{"apis":[` + strings.Repeat(`{"name":"a"},`, 2000) + `{"name":"a"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseOffer(body)
		if err != nil {
			return
		}
		if len(o.APIs) > maxAPIs || len(o.Policy) > 128 {
			t.Fatalf("%d APIs, policy of %d bytes", len(o.APIs), len(o.Policy))
		}
		for _, api := range o.APIs {
			if CheckName(api.Name) != nil {
				t.Fatalf("took the name %q", api.Name)
			}
		}
		again, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseOffer(again); err != nil {
			t.Fatalf("what was taken is refused: %v", err)
		}
	})
}

// TestPolicyHashIsKeptWhole: people compare agents by it, and a hash that is cut is another one.
func TestPolicyHashIsKeptWhole(t *testing.T) {
	t.Parallel()
	hash := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	o, err := parseOffer([]byte(`{"apis":[],"policy":"` + hash + `"}`))
	if err != nil || o.Policy != hash {
		t.Errorf("%+v, %v; want the policy %s", o, err, hash)
	}
}

// TestWhoWantsCallersTokens: no API but one whose agent asks for them in so many words, and then from that agent's links alone.
func TestWhoWantsCallersTokens(t *testing.T) {
	t.Parallel()
	o, err := parseOffer([]byte(`{"apis":[{"name":"own","caller_token":true},{"name":"web"},{"name":"not","caller_token":false}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var l Link
	if l.WantsToken("own") {
		t.Error("a link without an offer wants tokens")
	}
	l.offer.Store(o)
	for api, want := range map[string]bool{"own": true, "web": false, "not": false, "other": false} {
		if got := l.WantsToken(api); got != want {
			t.Errorf("%s: %t", api, got)
		}
	}
}
