package docs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"sallyport/tunnel"
)

// A sigmaRule is what a Sigma rule must have, and what of it is used (https://sigmahq.io/sigma-specification, version 2).
type sigmaRule struct {
	Title          string            `yaml:"title"`
	ID             string            `yaml:"id"`
	Status         string            `yaml:"status"`
	Description    string            `yaml:"description"`
	References     []string          `yaml:"references"`
	Author         string            `yaml:"author"`
	Date           string            `yaml:"date"`
	Tags           []string          `yaml:"tags"`
	Logsource      map[string]string `yaml:"logsource"`
	Detection      map[string]any    `yaml:"detection"`
	FalsePositives []string          `yaml:"falsepositives"`
	Level          string            `yaml:"level"`
}

// The detection rules that the paper names are well-formed Sigma, and speak of what the product really does.
func TestDetectionRules(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../installer/detection/sallyport.yml")
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	ids := map[string]bool{}
	for {
		var r sigmaRule
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if err := r.check(); err != nil {
			t.Errorf("rule %q: %v", r.Title, err)
		}
		if ids[r.ID] {
			t.Errorf("rule %q: its ID is another rule's", r.Title)
		}
		ids[r.ID] = true
	}
	if len(ids) < 3 {
		t.Errorf("%d rules, want the process, the service and the link", len(ids))
	}
	for _, fact := range []string{tunnel.Path, "/sallyport-agent", `\sallyport-agent.exe`} {
		if !bytes.Contains(text, []byte(fact)) {
			t.Errorf("no rule looks for %s", fact)
		}
	}
	if page := pages(t)["security.md"]; !strings.Contains(page, "installer/detection/sallyport.yml") {
		t.Error("security.md does not name the rules")
	}
}

var (
	sigmaID   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	sigmaDate = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)
	sigmaTag  = regexp.MustCompile(`^attack\.(t\d{4}(\.\d{3})?|[a-z-]+)$`)
	sigmaOf   = regexp.MustCompile(`\b(?:1|all) of ([a-z_]+\*?)|\b([a-z]+_[a-z_]+)\b`)
)

func (r sigmaRule) check() error {
	switch {
	case r.Title == "" || len(r.Title) > 256 || r.Description == "" || r.Author == "" || len(r.References) == 0 || len(r.FalsePositives) == 0:
		return errors.New("title, description, author, references and falsepositives belong to a rule")
	case !sigmaID.MatchString(r.ID):
		return fmt.Errorf("%q is no random UUID", r.ID)
	case !sigmaDate.MatchString(r.Date):
		return fmt.Errorf("%q is no date", r.Date)
	case !slices.Contains([]string{"stable", "test", "experimental"}, r.Status):
		return fmt.Errorf("status %q", r.Status)
	case !slices.Contains([]string{"informational", "low", "medium", "high", "critical"}, r.Level):
		return fmt.Errorf("level %q", r.Level)
	case r.Logsource["category"] == "" && r.Logsource["service"] == "":
		return errors.New("no logsource")
	}
	for _, tag := range r.Tags {
		if !sigmaTag.MatchString(tag) {
			return fmt.Errorf("tag %q", tag)
		}
	}
	return r.checkDetection()
}

// checkDetection says whether the condition uses each search, and only those.
func (r sigmaRule) checkDetection() error {
	condition, _ := r.Detection["condition"].(string)
	used := map[string]bool{}
	for _, m := range sigmaOf.FindAllStringSubmatch(condition, -1) {
		stem, star := strings.CutSuffix(m[1]+m[2], "*")
		found := false
		for name := range r.Detection {
			if name == stem || star && strings.HasPrefix(name, stem) {
				used[name], found = true, true
			}
		}
		if !found {
			return fmt.Errorf("the condition names %s, which is not there", m[0])
		}
	}
	for name, search := range r.Detection {
		if name == "condition" {
			continue
		}
		if !used[name] {
			return fmt.Errorf("the condition does not use %s", name)
		}
		maps, isList := search.([]any)
		if !isList {
			maps = []any{search}
		}
		for _, m := range maps {
			fields, ok := m.(map[string]any)
			if !ok || len(fields) == 0 {
				return fmt.Errorf("%s has no fields", name)
			}
			for field := range fields {
				if _, modifier, ok := strings.Cut(field, "|"); ok && !slices.Contains([]string{"contains", "endswith", "startswith"}, modifier) {
					return fmt.Errorf("%s: the modifier %s", name, modifier)
				}
			}
		}
	}
	return nil
}
