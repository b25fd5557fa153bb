//go:build linux

package system

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"sallyport/test/loud"
)

// The Postman collection of a connector runs green in newman, through relay, agent and API; with a wrong key it does not.
func TestNewman(t *testing.T) {
	t.Parallel()
	newman := loud.NeedsProgram(t, "newman", "an exported Postman collection is not run (npm install newman; test.sh does)")
	b, key := shop(t)
	dir := b.path("postman")
	b.admin(nil, "connector", "export", gatewayName+"/shop", "--format", "postman", "--out", dir)
	run := func(key string) (said string, err error) {
		variables, err := json.Marshal(map[string]any{"name": "box", "values": []any{map[string]any{"key": "key", "value": key, "enabled": true}}})
		if err != nil {
			t.Fatal(err)
		}
		write(t, b.path("environment.json"), variables)
		out, err := b.command("", nil, newman, "run", dir+"/shop.postman_collection.json", "--environment", b.path("environment.json"),
			"--ssl-extra-ca-certs", b.path("ca.pem"), "--color", "off", "--timeout-request", "30000",
			"--reporters", "cli,json", "--reporter-json-export", b.path("newman.json"))
		if err != nil {
			return string(out), err
		}
		var made struct {
			Run struct {
				Stats struct {
					Requests, Assertions struct{ Total, Failed int }
				}
				Executions []struct {
					Item     struct{ Name string }
					Response struct{ Code int }
				}
			}
		}
		report, err := os.ReadFile(b.path("newman.json"))
		if err == nil {
			err = json.Unmarshal(report, &made)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s := made.Run.Stats; s.Requests.Total != 4 || s.Requests.Failed != 0 || s.Assertions.Total < 4 || s.Assertions.Failed != 0 {
			t.Errorf("newman: %+v\n%s", s, out)
		}
		for _, one := range made.Run.Executions {
			if one.Response.Code/100 != 2 {
				t.Errorf("%s is answered %d", one.Item.Name, one.Response.Code)
			}
		}
		return string(out), nil
	}
	if out, err := run(key); err != nil {
		t.Errorf("newman: %v\n%s", err, out)
	}
	if out, err := run("sp_wrong"); err == nil || !strings.Contains(out, "401") {
		t.Errorf("newman is green with a wrong key: %v\n%s", err, out)
	}
}
