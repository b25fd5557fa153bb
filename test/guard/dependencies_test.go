package guard

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// row matches a line of the tables in docs/dependencies.md: what for, the module in backquotes, the reason.
var row = regexp.MustCompile("(?m)^\\| *([^|]+?) *\\| `([^`]+)` *\\| *([^|]*?) *\\|$")

func TestEachDependencyHasItsReason(t *testing.T) {
	t.Parallel()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "docs/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if _, twice := reasons[m[2]]; twice {
			t.Errorf("docs/dependencies.md names %s twice", m[2])
		}
		reasons[m[2]] = m[3]
	}
	direct := map[string]bool{}
	for _, modfile := range []string{"go.mod", "tools.mod", "bench/go.mod", "installer/tools/go.mod"} {
		for _, m := range requirements(t, dir, modfile) {
			direct[m] = true
			if len(reasons[m]) < 10 {
				t.Errorf("%s requires %s, and docs/dependencies.md gives no reason for it", modfile, m)
			}
		}
	}
	for m := range reasons {
		if !direct[m] {
			t.Errorf("docs/dependencies.md names %s, which nothing requires directly", m)
		}
	}
}

// requirements gives the modules that a go.mod file requires directly, or whose tools it names.
func requirements(t *testing.T, dir, modfile string) []string {
	t.Helper()
	path := filepath.Join(dir, modfile)
	if _, err := os.Stat(path); os.IsNotExist(err) && modfile == "bench/go.mod" {
		return nil // the benchmarks' module need not be there
	}
	out, err := exec.Command("go", "mod", "edit", "-json", path).Output()
	if err != nil {
		t.Fatalf("read %s: %v", modfile, err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Tool []struct{ Path string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatalf("read %s: %v", modfile, err)
	}
	var direct []string
	for _, r := range mod.Require {
		isTool := false
		for _, tool := range mod.Tool {
			isTool = isTool || tool.Path == r.Path || strings.HasPrefix(tool.Path, r.Path+"/")
		}
		if (!r.Indirect || isTool) && r.Path != "sallyport" {
			direct = append(direct, r.Path)
		}
	}
	return direct
}
