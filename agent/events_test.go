package agent

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// An event whose message nobody logs any more would leave an admin waiting for it.
func TestEventsAreLoggedSomewhere(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, dir := range []string{".", "../cmd/sallyport-agent"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || path == "events.go" {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						texts = append(texts, text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := map[uint32]bool{}
	for i, e := range Events() {
		if e.ID < 10 || e.ID > 1000 || seen[e.ID] || e.About == "" {
			t.Errorf("event %d (%s): an ID is 10 to 1000 and for one event alone, and is explained", e.ID, e.Message)
		}
		seen[e.ID] = true
		found := false
		for _, text := range texts {
			found = found || strings.HasPrefix(text, e.Message)
		}
		if !found {
			t.Errorf("event %d: nothing logs %q any more", e.ID, e.Message)
		}
		for _, before := range Events()[:i] {
			if strings.HasPrefix(e.Message, before.Message) {
				t.Errorf("event %d is never logged: %q is event %d", e.ID, e.Message, before.ID)
			}
		}
	}
	for _, e := range RecordEvents() {
		if e.ID < 10 || e.ID > 1000 || seen[e.ID] || e.About == "" {
			t.Errorf("event %d (%s): an ID is 10 to 1000 and for one event alone, and is explained", e.ID, e.Message)
		}
		seen[e.ID] = true
	}
}
