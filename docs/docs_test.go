package docs

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sallyport/agent"
	"sallyport/agent/audit"
	"sallyport/relay"
	"sallyport/relay/manifest"
)

// pages gives the README and the pages of this directory, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("*.md")
	if err != nil || len(names) < 5 {
		t.Fatalf("the pages: %v, %v", names, err)
	}
	all := map[string]string{}
	for _, name := range append(names, "../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	return all
}

var (
	linkForm    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingForm = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	fenceForm   = regexp.MustCompile("(?ms)^```.*?^```$")
)

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	all, links := pages(t), 0
	for name, text := range all {
		for _, m := range linkForm.FindAllStringSubmatch(fenceForm.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Clean(name)
			if file != "" {
				target = filepath.Join(filepath.Dir(name), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
				continue
			}
			if page, ok := all[target]; ok && anchor != "" && !hasAnchor(page, anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", name, m[1], target)
			}
		}
	}
	if links < 20 {
		t.Errorf("found %d links: the test looks in the wrong place", links)
	}
}

// hasAnchor makes anchors of the headings as GitHub does.
func hasAnchor(page, anchor string) bool {
	for _, m := range headingForm.FindAllStringSubmatch(fenceForm.ReplaceAllString(page, ""), -1) {
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 0x7f:
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		if slug == anchor {
			return true
		}
	}
	return false
}

// A reader looks for the word that stands in the log.
func TestSignOnErrorsAreExplained(t *testing.T) {
	t.Parallel()
	page := pages(t)["windows-authentication.md"]
	source, err := os.ReadFile("../agent/winauth/winauth.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`Kind\s+= "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(kinds) < 10 {
		t.Fatalf("found %d kinds of sign-on errors: the test looks in the wrong place", len(kinds))
	}
	for _, k := range kinds {
		if !strings.Contains(page, "\n| `"+k[1]+"` |") {
			t.Errorf("windows-authentication.md does not explain %s", k[1])
		}
	}
}

func TestAuditFieldsAreExplained(t *testing.T) {
	t.Parallel()
	page := pages(t)["agent.md"]
	for f := range reflect.TypeFor[audit.Event]().Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.Contains(page, "`"+key+"`") {
			t.Errorf("agent.md does not explain %q of the audit record", key)
		}
	}
}

var yamlForm = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// Samples of configuration must be taken by the programs.
func TestSamplesAreValid(t *testing.T) {
	t.Parallel()
	all, samples := pages(t), 0
	for name, text := range all {
		for _, m := range yamlForm.FindAllStringSubmatch(text, -1) {
			samples++
			if strings.HasPrefix(m[1], "gateways:") { // for 'sallyport-relay apply'
				if _, err := manifest.Load(name, []byte(m[1])); err != nil {
					t.Errorf("%v in:\n%s", err, m[1])
				}
				continue
			}
			if name == "relay.md" {
				if _, err := relay.Load(name, []byte(m[1])); err != nil {
					t.Errorf("%v in:\n%s", err, m[1])
				}
				continue
			}
			// The others show the settings of one API, indented as they stand in agent.yaml.
			whole := "relay: https://relay.example.com\ngateway: plant1\napis:\n  - name: orders\n    url: https://erp.corp.example\n" + m[1]
			if !strings.HasPrefix(m[1], " ") { // settings of the agent itself
				whole = "relay: https://relay.example.com\ngateway: plant1\n" + m[1]
			}
			if _, err := agent.ParseConfig(name, []byte(whole)); err != nil {
				t.Errorf("%v in:\n%s", err, whole)
			}
		}
	}
	if samples < 8 {
		t.Errorf("found %d samples: the test looks in the wrong place", samples)
	}
}
