package definition

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	dir := "testdata/connectors/connect-bridge-gateway/"
	m, err := Migrate(readFile(t, dir+"apiDefinition.swagger.json"), readFile(t, dir+"apiProperties.json"), target())
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, dir, m.Files)
	if strings.Contains(string(m.Files.Properties), "gateway") || !strings.Contains(m.API, "localhost:4433") || len(m.Allow) == 0 {
		t.Errorf("%s\n%s", m.Files.Properties, m.API)
	}
	if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, "on-premises data gateway") || !strings.Contains(notes, "script.csx") {
		t.Error(notes)
	}
	windows := `{"properties":{"iconBrandColor":"#123456","capabilities":["gateway"],"connectionParameters":{"authType":{"type":"string","allowedValues":[{"value":"windows"}]},` +
		`"username":{"type":"securestring"},"password":{"type":"securestring"},"gateway":{"type":"gatewaySetting"}},` +
		`"policyTemplateInstances":[{"templateId":"dynamichosturl","title":"Host","parameters":{"x-ms-apimTemplateParameter.urlTemplate":"https://x"}}]}}`
	old := `{"swagger":"2.0","info":{"title":"Orders","version":"1"},"host":"erp.corp.example","basePath":"/api","schemes":["http"],"paths":{` +
		`"/orders/{id}":{"get":{"operationId":"get_order","responses":{"200":{"description":"x"}}},"put":{"operationId":"putOrder","responses":{"200":{"description":"x"}}}}}}`
	if m, err = Migrate([]byte(old), []byte(windows), target()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"GET /orders/{id}", "PUT /orders/{id}"}; !slices.Equal(m.Allow, want) {
		t.Errorf("rules %q, want %q", m.Allow, want)
	}
	if m.Files.Operations[1].ID != "putOrder" || !strings.Contains(m.API, "url: http://erp.corp.example/api") || !strings.Contains(m.API, "windows: {as: service}") {
		t.Errorf("%+v\n%s", m.Files.Operations, m.API)
	}
	if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, "dynamichosturl") || !strings.Contains(notes, "Windows account") {
		t.Error(notes)
	}
}

// What a parameter alone may have is kept, and not reported as lost.
func TestMigrateKeepsTheEncodingOfParameters(t *testing.T) {
	t.Parallel()
	old := `{"swagger":"2.0","info":{"title":"Files","version":"1"},"host":"files.corp.example","basePath":"/","schemes":["http"],"paths":{"/f/{path}":{"get":{` +
		`"operationId":"File","parameters":[{"name":"path","in":"path","required":true,"type":"string","x-ms-url-encoding":"double","x-ms-nonsense":1}],` +
		`"responses":{"200":{"description":"x"}}}}}}`
	m, err := Migrate([]byte(old), []byte(`{"properties":{"capabilities":["gateway"],"connectionParameters":{}}}`), target())
	if err != nil {
		t.Fatal(err)
	}
	report := m.Files.Report.String()
	if !strings.Contains(string(m.Files.Definition), `"x-ms-url-encoding": "double"`) || strings.Contains(report, "url-encoding") || !strings.Contains(report, "x-ms-nonsense") {
		t.Errorf("%s\n%s", report, m.Files.Definition)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	doc := func(paths string) *Document {
		return parse(t, []byte(`{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{`+paths+`}}`))
	}
	get := func(id, inside, answer string) string {
		return `{"operationId":"` + id + `","parameters":[` + inside + `],"responses":{"200":{"description":"x","schema":{"type":"object","properties":{` + answer + `}}}}}`
	}
	before := doc(`"/a":{"get":` + get("A", `{"name":"q","in":"query","type":"string"}`, `"x":{"type":"string"},"y":{"type":"string"}`) + `},"/b":{"get":` + get("B", "", "") + `},"/c":{"get":` + get("C", "", "") + `}`)
	after := doc(`"/a":{"get":` + get("A", `{"name":"q","in":"query","type":"integer"},{"name":"r","in":"query","type":"string","required":true}`, `"x":{"type":"string"},"z":{"type":"string"}`) + `},"/b":{"get":` + get("Bee", "", "") + `},"/d":{"get":` + get("D", "", "") + `}`)
	changes, err := Compare(before, after)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{"A", "the parameter q (query) is of type integer now; it was string", true},
		{"A", "the parameter r (query) is new and required", true},
		{"A", "the answer: y is gone", true},
		{"B", "is called Bee now (GET /b): flows that use it lose it", true},
		{"C", "is gone (GET /c)", true},
		{"A", "the answer: z is new", false},
		{"D", "is new (GET /d)", false},
	}
	if !slices.Equal(changes, want) {
		t.Errorf("%+v, want %+v", changes, want)
	}
}

// Every way to authenticate, alone and together, makes files that Microsoft's schemas take.
func TestTargets(t *testing.T) {
	t.Parallel()
	d := parse(t, readFile(t, "testdata/openapi/petstore-2.0.json"))
	key, query, basic := Auth{Kind: AuthKey, Header: "X-Orders-Key"}, Auth{Kind: AuthKey, Query: "code"}, Auth{Kind: AuthBasic, Windows: true}
	entra := Auth{Kind: AuthOAuth2, OAuth2: &OAuth2{Tenant: "corp.example", Resource: "api://relay", Scopes: []string{"api://relay/Call"}}}
	generic := Auth{Kind: AuthOAuth2, OAuth2: &OAuth2{AuthorizationURL: "https://id.example/a", TokenURL: "https://id.example/t", ClientID: "c"}}
	both, keyed, asked := generic, entra, Auth{Kind: AuthBasic, Key: &query}
	both.Key, keyed.Key = &key, &Auth{Kind: AuthKey}
	for _, c := range []struct {
		auth []Auth
		says []string
	}{
		{[]Auth{both}, []string{`"oauth2generic"`, `"api_key"`, `"setheader"`, "X-Orders-Key", "@connectionParameters('api_key')"}},
		{[]Auth{asked}, []string{`"username"`, `"api_key"`, `"setheader"`, `"X-API-Key"`}},
		{[]Auth{keyed, basic}, []string{"connectionParameterSets", `"aad"`, "Sign in (OAuth2), and an API key", `"X-API-Key"`}},
		{[]Auth{{Kind: AuthNone}}, []string{`"connectionParameters": {}`}},
		{[]Auth{key}, []string{`"api_key"`}},
		{[]Auth{query}, []string{`"api_key"`}},
		{[]Auth{basic}, []string{`"username"`, "Windows account"}},
		{[]Auth{entra}, []string{`"aad"`, "api://relay", "AzureActiveDirectoryResourceId"}},
		{[]Auth{generic}, []string{`"oauth2generic"`, "https://id.example/t"}},
		{[]Auth{key, basic, entra}, []string{"connectionParameterSets", `"api_key"`, `"username"`, `"aad"`}},
	} {
		tgt := target()
		tgt.Auth, tgt.HostParameter = c.auth, len(c.says) > 1
		f, err := PowerPlatform(d, tgt)
		if err != nil {
			t.Fatal(err)
		}
		checkFiles(t, c.says[0], f)
		if findings := Lint(f.Definition); len(findings) > 0 {
			t.Errorf("%v: %+v", c.says, findings)
		}
		if tgt.HostParameter {
			c.says = append(c.says, "dynamichosturl", "https://@connectionParameters('relayHost')/plant1/orders")
		}
		for _, s := range c.says {
			if !strings.Contains(string(f.Properties), s) {
				t.Errorf("apiProperties.json does not have %s: %s", s, f.Properties)
			}
		}
		if steps := strings.Join(tgt.Steps("Orders"), "\n"); !strings.Contains(steps, "paconn create") || !strings.Contains(steps, "pac connector create") ||
			c.auth[0].Kind == AuthOAuth2 && !strings.Contains(steps, RedirectURL) {
			t.Error(steps)
		}
	}
	three := target()
	three.Auth = []Auth{keyed, basic}
	swagger, err := PowerPlatform(d, three)
	if err != nil {
		t.Fatal(err)
	}
	open3, _, err := OpenAPI3(d, three)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"oauth2_auth":["api://relay/Call"],"api_key":[]},{"basic":[]}]`
	for _, text := range [][]byte{swagger.Definition, open3} {
		var got struct{ Security json.RawMessage }
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		var flat bytes.Buffer
		if err := json.Compact(&flat, got.Security); err != nil || flat.String() != want {
			t.Errorf("security %s, want %s", flat.String(), want)
		}
	}
	collection, _, err := Postman(d, three)
	if err != nil || !strings.Contains(string(collection), `pm.request.headers.upsert({key: \"X-API-Key\"`) || !strings.Contains(string(collection), `"bearer"`) {
		t.Errorf("%v: %.2000s", err, collection)
	}
	bad := target()
	bad.URL = "relay.example.com/x"
	if _, err := PowerPlatform(d, bad); err == nil || !strings.Contains(err.Error(), "not of the form") {
		t.Errorf("a bad address: %v", err)
	}
}

// TestOAuth2Steps name the commands of this very connector.
func TestOAuth2Steps(t *testing.T) {
	t.Parallel()
	tgt := target()
	o := &OAuth2{Tenant: "72f988bf-86f1-41af-91ab-2d7cd011db47", Resource: "api://orders", Scopes: []string{"Orders.Read", "Orders.List"}, Restricted: true}
	tgt.Auth = []Auth{{Kind: AuthOAuth2, OAuth2: o}}
	steps := strings.Join(tgt.Steps("Jane's Orders"), "\n")
	for _, want := range []string{
		"az login --tenant 72f988bf-86f1-41af-91ab-2d7cd011db47",
		`az ad app create --display-name 'Jane'\''s Orders (Power Platform)' --sign-in-audience AzureADMyOrg --web-redirect-uris ` + RedirectURL,
		"az ad sp create --id CLIENT-ID",
		`--api "$(az ad sp show --id 'api://orders' --query appId --output tsv)"`,
		`"$(az ad sp show --id 'api://orders' --query "oauth2PermissionScopes[?value=='Orders.Read'].id" --output tsv)=Scope"`,
		`oauth2PermissionScopes[?value=='Orders.List']`,
		"az ad app credential reset --id CLIENT-ID", "--client-id", "--allow-client CLIENT-ID", "--secret CLIENT-SECRET",
	} {
		if !strings.Contains(steps, want) {
			t.Errorf("the steps lack %s:\n%s", want, steps)
		}
	}
	*o = OAuth2{AuthorizationURL: "https://id.example/a", TokenURL: "https://id.example/t", ClientID: "c", AppsOnly: true}
	steps = strings.Join(tgt.Steps("Orders"), "\n")
	if !strings.Contains(steps, RedirectURL) || !strings.Contains(steps, "--app-only") || strings.Contains(steps, "CLIENT-ID") || strings.Contains(steps, "az ") {
		t.Error(steps)
	}
}
