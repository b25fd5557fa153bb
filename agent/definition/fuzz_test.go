package definition_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport/agent/definition"
)

// FuzzCut demands of whatever comes: no crash, JSON out, no operation that is not allowed, no name of a host inside.
func FuzzCut(f *testing.F) {
	for _, seed := range []string{openapi3, collection, `{"swagger":"2.0","paths":{"/a":{"get":{"$ref":"#/paths/~1a"}}}}`, "a: &a [*a]", "? x\n: y"} {
		f.Add([]byte(seed))
	}
	o := options(f, "http://erp.corp.example/api/v2", "GET /orders/{id}", "GET /a/**")
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"x.json", "x.yaml"} {
			r, err := definition.Cut(name, data, o)
			if err != nil {
				continue
			}
			var tree struct {
				Paths map[string]map[string]any `json:"paths"`
			}
			if !json.Valid(r.Body) {
				t.Fatalf("not JSON: %s", r.Body)
			}
			if strings.Contains(strings.ToLower(string(r.Body)), "corp.example") {
				t.Fatalf("a host leaves: %s", r.Body)
			}
			if json.Unmarshal(r.Body, &tree) != nil {
				continue
			}
			for path, item := range tree.Paths {
				for _, m := range []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"} {
					path, _, _ := strings.Cut(path, "?")
					path, _, _ = strings.Cut(path, "#")
					if item[m] != nil && !o.Allowed(strings.ToUpper(m), path) {
						t.Fatalf("%s %s leaves", m, path)
					}
				}
			}
		}
	})
}

func FuzzDraftRules(f *testing.F) {
	for _, seed := range []string{openapi3, collection} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := definition.DraftRules("x.yaml", data, []string{"GET"}, nil, func(string) error { return nil })
		if err == nil && d == nil {
			t.Fatal("nothing, and no error")
		}
	})
}
