package definition

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBadDocuments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, says string }{
		"empty":       {"", "empty"},
		"comma":       {"{\n \"swagger\": \"2.0\",\n}", "line 2"},
		"cut":         {`{"swagger": "2.0", "paths": {`, "ends too early"},
		"two":         {`{"swagger": "2.0", "paths": {}} {}`, "after the document's end"},
		"utf16":       {"\xff\xfe{\x00", "UTF-16"},
		"latin1":      {"{\n\"swagger\": \"\xe9\"}", "line 2, column 13: byte 0xe9 is not UTF-8"},
		"list":        {"[]", "no object"},
		"other":       {`{"a": 1}`, "neither OpenAPI"},
		"version":     {`{"openapi": "4.0.0", "paths": {}}`, "/openapi"},
		"no paths":    {`{"swagger": "2.0"}`, "/paths"},
		"yaml":        {"openapi: 3.0.0\npaths: [\n", "line"},
		"yaml tabs":   {"openapi: 3.0.0\npaths:\n\t/x: {}\n", "line"},
		"no requests": {`{"info": {"schema": "https://schema.getpostman.com/x"}, "item": []}`, "no request"},
	} {
		_, err := Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want it to say %q", name, err, c.says)
		}
	}
}

// Documents that grow without measure, or never end, are refused or bounded.
func TestBombs(t *testing.T) {
	t.Parallel()
	var aliases strings.Builder
	aliases.WriteString("openapi: 3.0.0\nx0: &a0 [1,1,1,1,1,1,1,1,1,1]\n")
	for i := range 9 {
		fmt.Fprintf(&aliases, "x%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i+1, i+1, i, i, i, i, i, i, i, i, i, i)
	}
	aliases.WriteString("paths: {}\n")
	for name, text := range map[string]string{
		"nested JSON":   strings.Repeat(`{"a":`, 100000),
		"nested YAML":   "openapi: " + strings.Repeat("[", 100000),
		"nested dashes": "a:\n  " + strings.Repeat("- ", 100000),
		"aliases":       aliases.String(),
		"large":         `{"openapi":"` + strings.Repeat("x", MaxSize) + `"}`,
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: it was read", name)
		} else if _, ok := errors.AsType[*SyntaxError](err); !ok {
			t.Errorf("%s: %T %v", name, err, err)
		}
	}
}

// Compositions of compositions, loops of references, and references to elsewhere.
func TestComposed(t *testing.T) {
	t.Parallel()
	var schemas strings.Builder
	for i := range 40 {
		next := fmt.Sprintf(`{"$ref":"#/components/schemas/S%d"}`, i+1)
		fmt.Fprintf(&schemas, `"S%d":{"allOf":[%s,%s,{"properties":{"p%d":%s}}]},`, i, next, next, i, next)
	}
	schemas.WriteString(`"S40":{"$ref":"#/components/schemas/S40"},"Self":{"allOf":[{"$ref":"#/components/schemas/Self"}]},` +
		`"A":{"$ref":"#/components/schemas/B"},"B":{"$ref":"#/components/schemas/A"}`)
	body := func(ref string) string {
		return fmt.Sprintf(`{"responses":{"200":{"description":"x","content":{"application/json":{"schema":{"$ref":%q}}}}}}`, ref)
	}
	text := `{"openapi":"3.0.0","info":{"title":"x","version":"1"},"paths":{` +
		`"/a":{"get":` + body("#/components/schemas/S0") + `},"/b":{"get":` + body("#/components/schemas/A") + `},` +
		`"/c":{"get":` + body("#/components/schemas/Self") + `},"/d":{"get":` + body("http://127.0.0.1:1/x.json#/y") + `},` +
		`"/e":{"get":` + body("file:///etc/passwd") + `},"/f":{"$ref":"#/paths/~1f"}},` +
		`"components":{"schemas":{` + schemas.String() + `}}}`
	f, _ := made(t, text)
	if len(f.Operations) != 6 { // the path that refers to itself is left out, the test of the connection is there
		t.Errorf("operations %v", f.Operations)
	}
	for _, finding := range Lint(f.Definition) {
		t.Errorf("%+v", finding)
	}
	if strings.Contains(string(f.Definition), "passwd") || !strings.Contains(f.Report.String(), "leads nowhere") {
		t.Errorf("a reference to elsewhere: %s", f.Report.String())
	}
}

// A body larger than Power Platform takes, and more operations than it takes.
func TestLimits(t *testing.T) {
	t.Parallel()
	var paths, props strings.Builder
	for i := range 300 {
		fmt.Fprintf(&paths, `,"/p%d":{"get":{"deprecated":%t,"responses":{"200":{"description":"x"}}}}`, i, i == 0)
	}
	for i := range 600 {
		fmt.Fprintf(&props, `,"m%d":{"type":"string","description":%q}`, i, strings.Repeat("long ", 800))
	}
	f, root := made(t, `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/big":{"get":{"responses":{"200":{"description":"x",`+
		`"schema":{"type":"object","properties":{"first":{"type":"string"}`+props.String()+`}}}}}}`+paths.String()+`}}`)
	if len(f.Operations) != MaxOperations {
		t.Errorf("%d operations", len(f.Operations))
	}
	if root.object("paths").has("/p0") {
		t.Error("a deprecated operation was kept, others were not")
	}
	body := root.object("paths").object("/big").object("get").object("responses").object("200").object("schema").object("properties")
	if body.len() != MaxBodySchemas-1 {
		t.Errorf("%d members", body.len())
	}
	if len(f.Report.Steps) < 3 {
		t.Errorf("steps %q", f.Report.Steps)
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/openapi/*", "testdata/postman/*"} {
		files, _ := filepath.Glob(pattern)
		for _, path := range files {
			if data, err := os.ReadFile(path); err == nil {
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		Lint(data)
		d, err := Parse(data)
		if err != nil {
			return
		}
		files, err := PowerPlatform(d, target())
		if err != nil {
			return
		}
		checkFiles(t, "output", files)
		if _, err := Parse(files.Definition); err != nil {
			t.Errorf("what was written cannot be read: %v", err)
		}
		if _, _, err := Postman(d, target()); err != nil {
			t.Errorf("no collection: %v", err)
		}
	})
}
