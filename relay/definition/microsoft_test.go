package definition

import (
	"encoding/json"
	"os"
	"sync"
	"testing"

	schemas "sallyport/test/microsoft"
)

var microsoftSchemas = sync.OnceValues(func() (*schemas.Schemas, error) {
	return schemas.Read(os.DirFS("testdata/microsoft"))
})

// checkFiles wants files that Microsoft's schemas take.
func checkFiles(t *testing.T, what string, f *Files) {
	t.Helper()
	s, err := microsoftSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"apiDefinition.swagger.json": f.Definition,
		"apiProperties.json":         f.Properties,
		"settings.json":              f.Settings,
	} {
		if err := s.Check(name, data); err != nil {
			t.Errorf("%s: %.1500v", what, err)
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
