package definition_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"sallyport/agent/definition"
)

// largeAllocations is how many bytes may be allocated for one byte of a document; docs/agent.md states what that means for
// the largest.
const largeAllocations = 300

func large(yaml bool, size int) string {
	var b strings.Builder
	if yaml {
		b.WriteString("openapi: 3.0.0\nservers:\n  - url: http://erp.corp.example/api\npaths:\n")
	} else {
		b.WriteString(`{"openapi":"3.0.0","servers":[{"url":"http://erp.corp.example/api"}],"paths":{`)
	}
	i := 0
	for ; b.Len() < size; i++ {
		if yaml {
			fmt.Fprintf(&b, "  /orders%d/{id}:\n    get:\n      operationId: op%d\n      description: |\n        Of http://erp.corp.example/x and\n        more\n"+
				"      parameters:\n        - name: id\n          in: path\n          required: true\n          schema: {type: string}\n      responses:\n"+
				"        '200':\n          description: ok\n          content:\n            application/json:\n              schema:\n                $ref: '#/components/schemas/X%d'\n", i, i, i)
			continue
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"/orders%d/{id}":{"get":{"operationId":"op%d","description":"Of http://erp.corp.example/x and more","parameters":[{"name":"id","in":"path","required":true,`+
			`"schema":{"type":"string"}}],"responses":{"200":{"description":"ok","content":{"application/json":{"schema":{"$ref":"#/components/schemas/X%d"}}}}}}}`, i, i, i)
	}
	if yaml {
		b.WriteString("components:\n  schemas:\n")
	} else {
		b.WriteString(`},"components":{"schemas":{`)
	}
	for k := range i {
		switch {
		case yaml:
			fmt.Fprintf(&b, "    X%d: {type: object}\n", k)
		case k > 0:
			b.WriteByte(',')
			fallthrough
		default:
			fmt.Fprintf(&b, `"X%d":{"type":"object"}`, k)
		}
	}
	if !yaml {
		b.WriteString("}}}")
	}
	return b.String()
}

// TestLargeDocuments is not parallel, for its measurement of memory.
func TestLargeDocuments(t *testing.T) {
	for _, c := range []struct {
		name string
		yaml bool
	}{{"x.json", false}, {"x.yaml", true}} {
		doc := large(c.yaml, 3<<20)
		o := options(t, "http://erp.corp.example/api", "GET /orders1/{id}", "GET /orders777/{id}", "GET /orders2000/{id}")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := definition.Cut(c.name, []byte(doc), o)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		if r.Report.Operations != 3 || len(r.Body) > 2000 || strings.Contains(string(r.Body), "corp") {
			t.Errorf("%d operations, %d bytes", r.Report.Operations, len(r.Body))
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > largeAllocations*uint64(len(doc)) {
			t.Errorf("%s: %d bytes allocated for %d", c.name, allocated, len(doc))
		}
	}
}

// BenchmarkLargest measures the largest documents that are taken.
func BenchmarkLargest(b *testing.B) {
	for _, c := range []struct {
		name string
		yaml bool
	}{{"x.json", false}, {"x.yaml", true}} {
		b.Run(c.name, func(b *testing.B) {
			doc := large(c.yaml, 27<<20)
			o := options(b, "http://erp.corp.example/api", "GET /orders1/{id}", "GET /orders777/{id}", "GET /orders20000/{id}")
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := definition.Cut(c.name, []byte(doc), o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
