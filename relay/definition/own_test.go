package definition

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What the platform follows up at the relay is declared where the connector has it, out of makers' sight, and counts
// towards the limit; an export that comes in again has it once.
func TestOwnOperations(t *testing.T) {
	t.Parallel()
	var paths strings.Builder
	for i := range 300 {
		fmt.Fprintf(&paths, `%s"/p%d":{"get":{"responses":{"200":{"description":"ok"}}}}`, map[bool]string{true: ","}[i > 0], i)
	}
	at := target()
	at.Deferred, at.Hooks = true, true
	f, err := PowerPlatform(parse(t, []byte(`{"swagger":"2.0","info":{"title":"Many","version":"1"},"paths":{`+paths.String()+`}}`)), at)
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, "output", f)
	var own []string
	for _, op := range f.Operations {
		if strings.HasPrefix(op.Path, "/_/") {
			own = append(own, op.Method+" "+op.Path+" "+op.ID)
		}
	}
	want := "GET /_/ping TestConnection, GET /_/operations/{token} GetDeferredAnswer, DELETE /_/operations/{token} CancelDeferredCall, " +
		"DELETE /_/hooks/{token} EndWebhook"
	if got := strings.Join(own, ", "); got != want || len(f.Operations) != MaxOperations {
		t.Errorf("%d operations, the relay's are %s, want %s", len(f.Operations), got, want)
	}
	if findings := Lint(f.Definition); len(findings) > 0 {
		t.Errorf("findings %v", findings)
	}
	if n := bytes.Count(f.Definition, []byte(`"x-ms-visibility": "internal"`)); n != 4 {
		t.Errorf("%d operations are internal", n)
	}
	again, err := PowerPlatform(parse(t, f.Definition), at)
	if err != nil || !slices.Equal(again.Operations, f.Operations) {
		t.Errorf("an export of an export has other operations: %v", err)
	}
	open, _, err := OpenAPI3(parse(t, f.Definition), at)
	if err != nil || bytes.Contains(open, []byte("/_/")) {
		t.Errorf("OpenAPI 3 for other callers: %v\n%s", err, open[:200])
	}
}

// The author's example of a parameter is what a collection sends, and leaves no trace in the other formats.
func TestSampleOfAParameter(t *testing.T) {
	t.Parallel()
	doc := parse(t, []byte(`{"openapi":"3.0.3","info":{"title":"x","version":"1"},"paths":{"/a/{id}":{"get":{"parameters":[
		{"name":"id","in":"path","required":true,"example":"4711","schema":{"type":"string"}}],"responses":{"200":{"description":"ok"}}}}}}`))
	collection, _, err := Postman(doc, target())
	if err != nil || !bytes.Contains(collection, []byte("4711")) || bytes.Contains(collection, []byte(sampleKey)) {
		t.Errorf("%v\n%s", err, collection)
	}
	f, err := PowerPlatform(doc, target())
	if err != nil || bytes.Contains(f.Definition, []byte("x-sallyport")) {
		t.Errorf("%v\n%s", err, f.Definition)
	}
}
