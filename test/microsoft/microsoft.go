// Package microsoft checks the files of a custom connector by Microsoft's own JSON Schemas, for tests and for
// test/definitions. It is no part of the product: sallyport-relay has its linter, which says more.
//
//	s, err := microsoft.Read(os.DirFS("relay/definition/testdata/microsoft"))
//	err = s.Check("apiDefinition.swagger.json", data)
package microsoft

import (
	"bytes"
	"fmt"
	"io/fs"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schemas are Microsoft's, with what certified connectors use and the schemas lack (relay/definition/testdata/README.md).
type Schemas struct{ of map[string]*jsonschema.Schema }

// Read reads the schemas from their folder.
func Read(folder fs.FS) (*Schemas, error) {
	s := &Schemas{map[string]*jsonschema.Schema{}}
	for name, file := range map[string]string{
		"apiDefinition.swagger.json": "apiDefinition.swagger.schema.json",
		"apiProperties.json":         "paconn-apiProperties.schema.json",
		"settings.json":              "paconn-settings.schema.json",
	} {
		data, err := fs.ReadFile(folder, file)
		if err != nil {
			return nil, fmt.Errorf("read Microsoft's schemas: %w", err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		amend(name, doc.(map[string]any))
		c := jsonschema.NewCompiler()
		c.UseRegexpEngine(newLookahead)
		if err := c.AddResource("file:///"+file, doc); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		if s.of[name], err = c.Compile("file:///" + file); err != nil {
			return nil, fmt.Errorf("compile %s: %w", file, err)
		}
	}
	return s, nil
}

// Check says what Microsoft's schema has against a file of this name.
func (s *Schemas) Check(name string, data []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := s.of[name].Validate(v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// amend adds what the schemas lack.
func amend(name string, doc map[string]any) {
	delete(doc, "id") // an address that nobody fetches
	switch name {
	case "apiDefinition.swagger.json":
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
	case "apiProperties.json":
		properties := doc["properties"].(map[string]any)["properties"].(map[string]any)["properties"].(map[string]any)
		properties["connectionParameterSets"] = map[string]any{"type": "object"}
		properties["scriptOperations"] = map[string]any{"type": "array"}
	}
}
