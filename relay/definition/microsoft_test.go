package definition

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are Microsoft's, with what certified connectors use and the schemas lack (testdata/microsoft/README.md).
type schemas struct{ definition, properties, settings *jsonschema.Schema }

var microsoftSchemas = sync.OnceValues(func() (schemas, error) {
	var s schemas
	for file, into := range map[string]**jsonschema.Schema{
		"apiDefinition.swagger.schema.json": &s.definition,
		"paconn-apiProperties.schema.json":  &s.properties,
		"paconn-settings.schema.json":       &s.settings,
	} {
		data, err := os.ReadFile(filepath.Join("testdata/microsoft", file))
		if err != nil {
			return s, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return s, err
		}
		amend(file, doc.(map[string]any))
		c := jsonschema.NewCompiler()
		c.UseRegexpEngine(ecma)
		if err := c.AddResource("file:///"+file, doc); err != nil {
			return s, err
		}
		if *into, err = c.Compile("file:///" + file); err != nil {
			return s, err
		}
	}
	return s, nil
})

// ecma reads the one expression of the schemas that Go's engine lacks, and takes others that are not its own.
func ecma(expr string) (jsonschema.Regexp, error) { return newLookahead(expr) }

// amend adds what the schemas lack.
func amend(file string, doc map[string]any) {
	delete(doc, "id") // an address that nobody fetches
	switch file {
	case "apiDefinition.swagger.schema.json":
		operation := doc["definitions"].(map[string]any)["operation"].(map[string]any)["properties"].(map[string]any)
		for _, key := range []string{"x-ms-openai-data", "x-ms-openai-manifest", "x-ms-require-user-confirmation"} {
			operation[key] = map[string]any{}
		}
		root := doc["properties"].(map[string]any)
		info := doc["definitions"].(map[string]any)["info"].(map[string]any)["properties"].(map[string]any)
		for _, key := range []string{"x-ms-openai-data", "x-ms-openai-manifest", "x-ms-keywords"} {
			root[key] = map[string]any{}
			info[key] = map[string]any{}
		}
	case "paconn-apiProperties.schema.json":
		properties := doc["properties"].(map[string]any)["properties"].(map[string]any)["properties"].(map[string]any)
		properties["connectionParameterSets"] = map[string]any{"type": "object"}
		properties["scriptOperations"] = map[string]any{"type": "array"}
	}
}

// checkFiles wants files that Microsoft's schemas take.
func checkFiles(t *testing.T, what string, f *Files) {
	t.Helper()
	s, err := microsoftSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string]struct {
		schema *jsonschema.Schema
		data   []byte
	}{
		"apiDefinition.swagger.json": {s.definition, f.Definition},
		"apiProperties.json":         {s.properties, f.Properties},
		"settings.json":              {s.settings, f.Settings},
	} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(one.data))
		if err != nil {
			t.Errorf("%s: %s: %v", what, name, err)
			continue
		}
		if err := one.schema.Validate(v); err != nil {
			t.Errorf("%s: %s: %.1500v", what, name, err)
		}
	}
	if len(f.Definition) >= MaxDefinitionSize {
		t.Errorf("%s: the definition has %d bytes", what, len(f.Definition))
	}
	if n := len(f.Operations); n > MaxOperations {
		t.Errorf("%s: %d operations", what, n)
	}
	if !json.Valid(f.Definition) {
		t.Errorf("%s: no JSON", what)
	}
}
