package manifest

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sallyport/internal/bearer"
	"sallyport/relay/connector"
)

// TestEverySettingIsInTheFile: a setting that the file does not know would be lost by an export and reset by an apply, who may
// call among them.
func TestEverySettingIsInTheFile(t *testing.T) {
	t.Parallel()
	var full connector.Connector
	fill(t, reflect.ValueOf(&full).Elem())
	got := entry(full).settings(full.Gateway)
	full.ID, full.Created = "", time.Time{} // the relay's own
	if diff := cmp.Diff(full, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("lost on the way through the file (-relay +file):\n%s", diff)
	}
}

// fill gives every field a value.
func fill(t *testing.T, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Field(i)
		switch {
		case field.Type() == reflect.TypeFor[time.Time]():
			field.Set(reflect.ValueOf(time.Now()))
		case field.Kind() == reflect.String:
			field.SetString("x" + strings.ToLower(v.Type().Field(i).Name))
		case field.Kind() == reflect.Int64:
			field.SetInt(int64(i+1) * int64(time.Second))
		case field.Type() == reflect.TypeFor[[]string]():
			field.Set(reflect.ValueOf([]string{"a", "b"}))
		case field.Type() == reflect.TypeFor[[]netip.Prefix]():
			field.Set(reflect.ValueOf([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}))
		case field.Type() == reflect.TypeFor[connector.Rate]():
			field.Set(reflect.ValueOf(connector.Rate{Calls: 5, Per: time.Minute}))
		case field.Kind() == reflect.Int:
			field.SetInt(int64(i + 1))
		case field.Kind() == reflect.Bool:
			field.SetBool(true)
		case field.Kind() == reflect.Struct:
			fill(t, field)
		default:
			t.Fatalf("this test does not know the kind of %s", v.Type().Field(i).Name)
		}
	}
}

func TestWhatIsWrittenIsReadTheSame(t *testing.T) {
	t.Parallel()
	f := Of([]string{"plant2", "plant1", "empty"}, []connector.Connector{
		{Gateway: "plant1", Name: "stock", API: "stock", Auth: []string{"none"}, CORSOrigins: []string{"*"}, OutcomeUnknown: "409"},
		{
			Gateway: "plant1", Name: "orders", API: "erp", Auth: []string{"key"}, KeyHeader: "X-Orders-Key", KeyQuery: "code",
			Hosts: []string{"orders.example.com", "7.example.com"}, CORSOrigins: []string{"https://app.example.com:8443"},
			BodyLimit: 20_000_000, Timeout: 90 * time.Second, OutcomeUnknown: "auto",
		},
		{
			Gateway: "plant2", Name: "on", API: "on", Auth: []string{"key"}, BodyLimit: 1000, OutcomeUnknown: "auto",
			Async: connector.Async{After: 90 * time.Second, Limit: 2 * time.Hour}, Webhooks: []string{"POST /hooks"},
			Dedupe: connector.Dedupe{By: connector.DedupeFlow, For: []string{"POST /orders"}},
		},
		{Gateway: "plant2", Name: "other", API: "other", Auth: []string{"key+oauth2"}, OAuth2: bearer.Rule{
			Tenant: "72f988bf-86f1-41af-91ab-2d7cd011db47", Audience: []string{"api://orders"}, Callers: "user", Guests: true,
			Claims: []string{"department=sales, east"}, Leeway: 2 * time.Minute,
		}},
		{Gateway: "plant2", Name: "own", API: "own", Auth: []string{"key"}, Async: connector.Async{Off: true}},
	})
	want := `gateways:
  - name: empty
  - name: plant1
    connectors:
      - name: orders
        api: erp
        auth: [key]
        header: X-Orders-Key
        query: code
        hosts: [orders.example.com, "7.example.com"]
        cors_origins: ["https://app.example.com:8443"]
        body_limit: 20MB
        timeout: 1m30s
      - name: stock
        auth: [none]
        cors_origins: ["*"]
        outcome_unknown: "409"
  - name: plant2
    connectors:
      - name: "on"
        auth: [key]
        body_limit: 1kB
        async_after: 1m30s
        async_limit: 2h0m0s
        dedupe: flow
        dedupe_for: ["POST /orders"]
        webhooks: ["POST /hooks"]
      - name: other
        auth: ["key+oauth2"]
        oauth2:
          entra_tenant: "72f988bf-86f1-41af-91ab-2d7cd011db47"
          audience: ["api://orders"]
          claims: ["department=sales, east"]
          callers: user
          guests: true
          leeway: 2m0s
      - name: own
        auth: [key]
        async: "off"
`
	if diff := cmp.Diff(want, string(f.YAML())); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	got, err := Load("f.yaml", f.YAML())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	if got, err := Load("f.yaml", File{}.YAML()); err != nil || len(got.Gateways) != 0 {
		t.Errorf("an empty file: %+v, %v", got, err)
	}
}

func TestFilesAreReadStrictly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"gateway: []":                             `f.yaml:1:1: unknown key "gateway"`,
		"gateways:\n  - name: Plant 1":            `f.yaml:2:11: "Plant 1" cannot be a name`,
		"gateways:\n  - connectors: []":           `f.yaml:2:5: name is missing`,
		"gateways:\n  - {name: a}\n  - {name: a}": `f.yaml:3:12: the gateway a stands here a second time`,
		"gateways:\n  - name: a\n    connectors:\n      - {name: x, auth: [keys]}":        `f.yaml:4:9: auth: "keys" is not known`,
		"gateways:\n  - name: a\n    connectors:\n      - {name: x}":                      `f.yaml:4:9: auth is missing`,
		"gateways:\n  - name: a\n    connectors:\n      - {name: x, auth: [key], key: s}": `unknown key "key"`,
		"gateways:\n  - name: a\n    connectors:\n      - {name: x, auth: [key], hosts: [a.example.com]}\n" +
			"      - {name: y, auth: [key], hosts: [A.example.com]}": `host a.example.com belongs to a/x`,
		"gateways:\n  - name: a\n    connectors:\n      - {name: x, auth: [key]}\n      - {name: x, auth: [key]}": `f.yaml:5:16: the connector a/x stands here a second time`,
	} {
		if _, err := Load("f.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v; want %s", text, err, want)
		}
	}
}
