package docs

import (
	"os"
	"os/exec"
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
	if !strings.HasPrefix(string(text), "#cloud-config\n") || len(doc.Files) != 2 || len(doc.Run) != 1 {
		t.Fatalf("%d files, %d commands", len(doc.Files), len(doc.Run))
	}
	for _, f := range doc.Files {
		if strings.HasSuffix(f.Path, ".yaml") {
			c, err := relay.Load(f.Path, []byte(f.Content))
			if err != nil || c.TLS == nil || c.TLS.ACME == nil {
				t.Errorf("%s: %v", f.Path, err)
			}
		} else if out, err := exec.Command("sh", "-n", "-c", f.Content).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f.Path, err, out)
		}
	}
	if out, err := exec.Command("sh", "-n", "-c", doc.Run[0][2]).CombinedOutput(); err != nil {
		t.Errorf("runcmd: %v\n%s", err, out)
	}
}
