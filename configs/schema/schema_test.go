package schema_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent"
	"sallyport/configs"
	"sallyport/configs/schema"
)

//go:generate go test -run ^TestAgentSchema$ -update

// update writes the schemas instead of comparing them; for go generate.
var update = flag.Bool("update", false, "write the committed schemas anew")

func TestAgentSchema(t *testing.T) {
	comments, err := schema.ReadComments("../../agent")
	if err != nil {
		t.Fatal(err)
	}
	want, err := schema.Generate("agent.yaml", reflect.TypeFor[agent.Config](), comments)
	if err != nil {
		t.Fatal(err)
	}
	const file = "../agent.schema.json"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not that of agent.Config; run: go generate ./configs/schema\n%s", file, cmp.Diff(string(want), string(got)))
	}
}

// Every key of the example must be in the schema, and every required one in the example.
func TestAgentSchemaFitsExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../agent.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.ParseConfig("agent.example.yaml", data); err != nil {
		t.Error(err)
	}
	var s struct {
		Required   []string
		Properties map[string]struct{ Description string }
	}
	text, err := os.ReadFile("../agent.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"relay", "gateway"}, s.Required); diff != "" {
		t.Error(diff)
	}
	for line := range strings.Lines(string(data)) {
		key, _, ok := strings.Cut(line, ":")
		if ok && key != "" && key[0] >= 'a' && key[0] <= 'z' && s.Properties[key].Description == "" {
			t.Errorf("%s stands in the example and not in the schema", key)
		}
	}
}

type mode string

func (m *mode) UnmarshalText([]byte) error { return nil }

type choice struct {
	// A name.
	Name string `yaml:"name"`
}

func (choice) Words() []string             { return []string{"none"} }
func (*choice) UnmarshalText([]byte) error { return nil }

// sample has one setting of each kind.
type sample struct {
	// A word.
	Word string `yaml:"word,required" enum:"a,b"`
	// Two share
	// a comment.
	One   int               `yaml:"one"`
	Two   *bool             `yaml:"two"`
	Wait  time.Duration     `yaml:"wait"`  // Beside.
	Body  configs.Size      `yaml:"body"`  // Beside.
	Mode  mode              `yaml:"mode"`  // Beside.
	Pick  choice            `yaml:"pick"`  // Beside.
	List  []choice          `yaml:"list"`  // Beside.
	Named map[string]string `yaml:"named"` // Beside.
	Other string
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	comments := schema.Comments{
		"schema_test.sample": "All.", "schema_test.choice.Name": "A name.",
		"schema_test.sample.Word": "A word.", "schema_test.sample.One": "One.", "schema_test.sample.Two": "Two.", "schema_test.sample.Wait": "W.",
		"schema_test.sample.Body": "B.", "schema_test.sample.Mode": "M.", "schema_test.sample.Pick": "P.", "schema_test.sample.List": "L.", "schema_test.sample.Named": "N.",
	}
	data, err := schema.Generate("x.yaml", reflect.TypeFor[sample](), comments)
	if err != nil {
		t.Fatal(err)
	}
	const pick = `"oneOf": [{"type": "string", "enum": ["none"]},
		{"type": "object", "additionalProperties": false, "properties": {"name": {"type": "string", "description": "A name."}}}]`
	want := `{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "x.yaml", "description": "All.",
		"type": "object", "additionalProperties": false, "required": ["word"], "properties": {
		"word": {"type": "string", "enum": ["a", "b"], "description": "A word."},
		"one": {"type": "integer", "description": "One."},
		"two": {"type": "boolean", "description": "Two."},
		"wait": {"type": "string", "pattern": "^([0-9]+d|([0-9]+(\\.[0-9]+)?(ms|s|m|h))+)$", "description": "W."},
		"body": {"type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+ *([kKMGT]i?B|B)?$", "description": "B."},
		"mode": {"type": "string", "description": "M."},
		"pick": {` + pick + `, "description": "P."},
		"list": {"type": "array", "items": {` + pick + `}, "description": "L."},
		"named": {"type": "object", "additionalProperties": {"type": "string"}, "description": "N."}}}`
	var a, b any
	if err := json.Unmarshal([]byte(want), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}

	delete(comments, "schema_test.sample.One")
	if _, err := schema.Generate("x.yaml", reflect.TypeFor[sample](), comments); err == nil || !strings.Contains(err.Error(), "schema_test.sample.One") {
		t.Errorf("a setting without a comment gives %v", err)
	}
}

func TestReadComments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := "package p\n\n// T is\n// all.\ntype T struct {\n\t// A and\n\t// B.\n\tA int\n\tB int\n\n\tC int\n\tD int // Beside.\n}\n"
	if err := os.WriteFile(dir+"/p.go", []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := schema.ReadComments(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := schema.Comments{"p.T": "T is all.", "p.T.A": "A and B.", "p.T.B": "A and B.", "p.T.C": "", "p.T.D": "Beside."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := schema.ReadComments(dir + "/none"); err == nil {
		t.Error("no error for a directory without Go files")
	}
}
