package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"sallyport/relay"
)

// TestCloudInitHoldsAWorkingRelay: the configuration in it loads, and its scripts parse.
func TestCloudInitHoldsAWorkingRelay(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../installer/relay/cloud-init.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Files []struct{ Path, Content string } `yaml:"write_files"`
		Run   [][]string                       `yaml:"runcmd"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "#cloud-config\n") || len(doc.Files) != 4 || len(doc.Run) != 2 {
		t.Fatalf("%d files, %d commands", len(doc.Files), len(doc.Run))
	}
	paths := map[string]bool{}
	for _, f := range doc.Files {
		paths[f.Path] = true
		switch {
		case strings.HasSuffix(f.Path, ".service"):
			_, program, _ := strings.Cut(f.Content, "ExecStart=")
			if program, _, _ = strings.Cut(program, "\n"); !paths[program] {
				t.Errorf("%s starts %q, which nothing has written before", f.Path, program)
			}
		case strings.HasSuffix(f.Path, ".timer"):
			if unit := doc.Run[1]; unit[len(unit)-1] != filepath.Base(f.Path) || !paths[strings.TrimSuffix(f.Path, ".timer")+".service"] {
				t.Errorf("%s is not enabled, but %q, or starts nothing", f.Path, unit)
			}
		case strings.HasSuffix(f.Path, ".yaml"):
			c, err := relay.Load(f.Path, []byte(f.Content))
			if err != nil || c.TLS == nil || c.TLS.ACME == nil {
				t.Errorf("%s: %v", f.Path, err)
			}
		default:
			if out, err := exec.Command("sh", "-n", "-c", f.Content).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", f.Path, err, out)
			}
		}
	}
	if out, err := exec.Command("sh", "-n", "-c", doc.Run[0][2]).CombinedOutput(); err != nil {
		t.Errorf("runcmd: %v\n%s", err, out)
	}
}
