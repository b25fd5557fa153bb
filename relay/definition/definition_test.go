package definition

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func target() Target {
	return Target{
		URL: "https://relay.example.com/plant1/orders", Gateway: "plant1", Name: "orders",
		Auth: []Auth{{Kind: AuthKey}}, Ping: PingPath,
	}
}

// corpus are the definitions of testdata.
func corpus(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"testdata/openapi/*", "testdata/postman/*", "testdata/connectors/*/apiDefinition.swagger.json"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		files = append(files, found...)
	}
	return files
}

func parse(t *testing.T, data []byte) *Document {
	t.Helper()
	d, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// made is the connector of a document, and its definition as a tree.
func made(t *testing.T, data string) (*Files, *object) {
	t.Helper()
	f, err := PowerPlatform(parse(t, []byte(data)), target())
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, "output", f)
	root, err := readTree(f.Definition)
	if err != nil {
		t.Fatal(err)
	}
	return f, root
}

// Whatever comes in, what goes out is taken by Microsoft's schemas, clean by the validator's rules but for what only the
// API's author can know, the same each time, and of the relay's address alone.
func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, path := range corpus(t) {
		d := parse(t, readFile(t, path))
		f, err := PowerPlatform(d, target())
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		checkFiles(t, path, f)
		for _, finding := range Lint(f.Definition) {
			if finding.Rule != "WebhookReachability" && !strings.Contains(finding.Message, "no DELETE operation") {
				t.Errorf("%s: %+v", path, finding)
			}
		}
		again, err := PowerPlatform(d, target())
		if err != nil || !bytes.Equal(again.Definition, f.Definition) || !bytes.Equal(again.Properties, f.Properties) || !bytes.Equal(again.Icon, f.Icon) {
			t.Errorf("%s: another result the second time: %v", path, err)
		}
		if bytes.Contains(f.Definition, []byte("corp.example")) {
			t.Errorf("%s: an internal address is in the definition", path)
		}
	}
}

// What other callers import can be read again, and kin-openapi finds it valid.
func TestOtherFormats(t *testing.T) {
	t.Parallel()
	for _, path := range corpus(t) {
		d := parse(t, readFile(t, path))
		data, _, err := OpenAPI3(d, target())
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		loader := openapi3.NewLoader()
		doc, err := loader.LoadFromData(data)
		if err == nil && d.Form != FormOpenAPI1 && !strings.Contains(path, "petstore-3.0") { // the input itself lacks a parameter there
			err = doc.Validate(loader.Context)
		}
		if err != nil {
			t.Errorf("%s: OpenAPI 3: %v", path, err)
		}
		collection, _, err := Postman(d, target())
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		again, err := Parse(collection)
		if err != nil || again.Form != FormPostman {
			t.Errorf("%s: the collection is %v, %v", path, again, err)
		}
		if changes, err := Compare(d, d); err != nil || len(changes) > 0 {
			t.Errorf("%s: differs from itself: %v %v", path, changes, err)
		}
	}
}

func TestPetstore20(t *testing.T) {
	t.Parallel()
	f, root := made(t, string(readFile(t, "testdata/openapi/petstore-2.0.json")))
	if root.text("host") != "relay.example.com" || root.text("basePath") != "/plant1/orders" {
		t.Errorf("%s %s", root.text("host"), root.text("basePath"))
	}
	var ids []string
	for _, op := range f.Operations {
		ids = append(ids, op.ID)
	}
	if want := []string{"ListPets", "CreatePets", "ShowPetById", "TestConnection"}; !slices.Equal(ids, want) {
		t.Errorf("IDs %v, want %v", ids, want)
	}
	list := root.object("paths").object("/pets").object("get")
	if list.text("summary") != "List all pets" || list.object("responses").object("default").has("schema") {
		t.Errorf("%s", encode(list, " "))
	}
	limit := list.list("parameters")[0].(*object)
	if n, _ := limit.number("default"); n != "20" || limit.text("x-ms-summary") != "Limit" {
		t.Errorf("%s", encode(limit, " "))
	}
	show := root.object("paths").object("/pets/{petId}").object("get")
	if len(show.list("parameters")) != 1 || show.list("parameters")[0].(*object).text("x-ms-url-encoding") != "single" {
		t.Errorf("a GET with a body, or a path parameter without encoding: %s", encode(show, " "))
	}
	if root.object("definitions").has("Unused") || !strings.Contains(f.Report.String(), "contains itself") {
		t.Errorf("definitions, or the report of a loop: %s", f.Report.String())
	}
	test := root.object("x-ms-capabilities").object("testConnection").text("operationId")
	if test != "TestConnection" || root.object("paths").object(PingPath).object("get").text("x-ms-visibility") != "internal" {
		t.Errorf("the connection's test: %q", test)
	}
}

func TestPetstore30(t *testing.T) {
	t.Parallel()
	f, root := made(t, string(readFile(t, "testdata/openapi/petstore-3.0.yaml")))
	if v := root.object("info").text("version"); v != "1.10" {
		t.Errorf("version %q", v)
	}
	op := root.object("paths").object("/pets").object("get")
	var names []string
	for _, p := range op.list("parameters") {
		names = append(names, p.(*object).text("name"))
	}
	if want := []string{"filter[name]", "filter[age]", "tags"}; !slices.Equal(names, want) {
		t.Errorf("parameters %v, want %v", names, want)
	}
	item := op.object("responses").object("200").object("schema").object("items")
	animal := root.object("definitions").object(strings.TrimPrefix(item.text("$ref"), "#/definitions/"))
	props := animal.object("properties")
	if !props.has("lives") || !props.has("tricks") || len(props.object("kind").list("enum")) != 2 {
		t.Errorf("one of several: %s", encode(animal, " "))
	}
	report := f.Report.String()
	for _, says := range []string{"cookie", "Authorization", "Links", "Callbacks", "TRACE", "Servers", "All servers but one", "merge-patch+json", "One of several objects"} {
		if says == "Servers" {
			continue // none at a path here
		}
		if !strings.Contains(report, says) {
			t.Errorf("the report does not speak of %s:\n%s", says, report)
		}
	}
}

func TestPetstore31(t *testing.T) {
	t.Parallel()
	f, root := made(t, string(readFile(t, "testdata/openapi/petstore-3.1.json")))
	schema := root.object("paths").object("/pets/{id}").object("get").object("responses").object("200").object("schema")
	pet := definitionOf(root, schema)
	if pet.text("description") != "This pet" {
		t.Errorf("what is said beside a reference is lost: %s", encode(pet, " "))
	}
	props := pet.object("properties")
	if !props.object("name").flag("x-nullable") || props.object("name").text("example") != "Rex" || !props.object("age").flag("exclusiveMinimum") ||
		props.object("kind").list("enum")[0] != "dog" || props.object("mixed").has("type") || props.object("pair").object("items") == nil {
		t.Errorf("%s", encode(props, " "))
	}
	if r := f.Report.String(); !strings.Contains(r, "webhook") || !strings.Contains(r, "several types") || !strings.Contains(r, "pattern") {
		t.Error(r)
	}
}

func TestIcon(t *testing.T) {
	t.Parallel()
	data, err := icon("#102030")
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil || img.Bounds().Dx() != iconSize || img.Bounds().Dy() != iconSize {
		t.Fatal(img.Bounds(), err)
	}
	if r, g, b, _ := img.At(0, 0).RGBA(); r>>8 != 0x10 || g>>8 != 0x20 || b>>8 != 0x30 {
		t.Error(r, g, b)
	}
	for _, bad := range []string{"", "#12345", "#12345g", "red"} {
		if _, err := icon(bad); err == nil {
			t.Errorf("%q is a color", bad)
		}
	}
}
