package definition_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent/definition"
	"sallyport/agent/policy"
)

func options(t testing.TB, address string, rules ...string) definition.Options {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return definition.Options{URL: u, Allowed: func(m, path string) bool { return p.DecideTemplate(m, path).Allowed }}
}

func cut(t *testing.T, name, doc string, o definition.Options) (*definition.Result, map[string]any) {
	t.Helper()
	r, err := definition.Cut(name, []byte(doc), o)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(r.Body, &tree); err != nil {
		t.Fatalf("%v in %s", err, r.Body)
	}
	return r, tree
}

func wantJSON(t *testing.T, got any, want string) {
	t.Helper()
	var w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, got); diff != "" {
		t.Error(diff)
	}
}

const openapi3 = `openapi: 3.0.3
info:
  title: Orders
  version: "2"
  description: See http://wiki.corp.example/orders and https://public.example.org/help for more.
  contact: {name: ERP team, url: "http://erp.corp.example/team", email: erp@corp.example}
  termsOfService: https://erp.corp.example/terms
servers:
  - url: http://{host}/api/v2
    variables: {host: {default: erp.corp.example}}
externalDocs: {url: "http://docs.corp.example"}
security: [{windows: []}]
tags:
  - {name: orders, description: What customers buy}
  - {name: admin, description: The secret console}
x-internal-team: payroll
paths:
  /orders:
    summary: All
    get:
      operationId: listOrders
      tags: [orders]
      x-amazon-apigateway-integration: {uri: "http://lambda"}
      x-ms-summary: List
      parameters:
        - $ref: '#/components/parameters/Top'
        - {name: x-tenant, in: header, schema: {type: string, default: "http://erp.corp.example/t1"}}
        - {name: callback, in: query, schema: {type: string, enum: ["https://erp.corp.example/cb", "https://ok.example.org/cb"]}}
        - name: warehouse
          in: query
          x-ms-dynamic-values: {operationId: listSecretWarehouses, value-path: id}
          schema: {type: string}
        - name: status
          in: query
          x-ms-dynamic-values: {operationId: getOrder, value-path: id}
          schema: {type: string}
      responses:
        "200":
          description: ok
          headers: {x-rate: {schema: {type: integer}}}
          content:
            application/json:
              schema: {type: array, items: {$ref: '#/components/schemas/Order'}}
              example: [{self: "http://ERP.corp.example:8080/api/v2/orders/1", share: "\\\\fs01\\orders\\1.pdf"}]
          links:
            cancel: {operationId: cancelOrder, server: {url: "http://erp.corp.example"}}
            one: {operationId: getOrder}
    post:
      operationId: cancelOrder
      requestBody: {$ref: '#/components/requestBodies/SecretBody'}
      responses: {default: {description: no}}
  /orders/{id}:
    servers: [{url: /api/v2}]
    get:
      operationId: getOrder
      parameters:
        - {$ref: '#/paths/~1admin~1secrets/get/parameters/0'}
      responses: {"200": {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Pet'}}}}}
  /admin/secrets:
    get:
      operationId: listSecretWarehouses
      tags: [admin]
      parameters: [{name: id, in: path, required: true, schema: {$ref: '#/components/schemas/Id'}}]
      responses: {default: {$ref: '#/components/responses/Secret'}}
components:
  schemas:
    Order:
      type: object
      x-java-class: com.corp.Order
      properties:
        id: {$ref: '#/components/schemas/Id'}
        x-mark: {type: string}
        next: {$ref: '#/components/schemas/Order'}
    Id: {type: string}
    Pet: {discriminator: {propertyName: kind, mapping: {dog: Dog, cat: '#/components/schemas/Cat'}}}
    Dog: {type: object}
    Cat: {type: object}
    Payroll: {type: object, description: salaries}
  parameters:
    Top: {name: $top, in: query, schema: {type: integer}}
    SecretParam: {name: secret, in: query}
  responses:
    Secret: {description: secret, content: {application/json: {schema: {$ref: '#/components/schemas/Payroll'}}}}
  requestBodies:
    SecretBody: {content: {}}
  securitySchemes:
    windows: {type: oauth2, flows: {implicit: {authorizationUrl: "http://adfs.corp.example/"}}}
`

func TestOnlyWhatIsAllowedLeaves(t *testing.T) {
	t.Parallel()
	r, tree := cut(t, "orders.yaml", openapi3, options(t, "http://erp.corp.example:8080/api/v2", "GET /orders", "GET /orders/{id}"))
	text := string(r.Body)
	for _, word := range []string{
		"corp", "8080", "secret", "Secret", "payroll", "Payroll", "salaries", "lambda", "cancelOrder", "SecretBody", "fs01",
		"adfs", "admin", "externalDocs", "termsOfService", "x-java",
	} {
		if strings.Contains(text, word) {
			t.Errorf("%q leaves: %s", word, text)
		}
	}
	for _, word := range []string{
		"https://public.example.org/help", "x-ms-summary", "x-tenant", "x-rate", "x-mark", "https://ok.example.org/cb", `"getOrder"`,
		"What customers buy", "Dog", "Cat", "$top",
	} {
		if !strings.Contains(text, word) {
			t.Errorf("%q does not leave: %s", word, text)
		}
	}
	wantJSON(t, tree["servers"], `[{"url":"/"}]`)
	one := tree["paths"].(map[string]any)["/orders/{id}"].(map[string]any)["get"].(map[string]any)
	wantJSON(t, one["parameters"], `[{"name":"id","in":"path","required":true,"schema":{"$ref":"#/components/schemas/Id"}}]`)
	if r.Report.Operations != 2 || r.Report.Form != "OpenAPI 3.0.3" {
		t.Errorf("%+v", r.Report)
	}
	want := []definition.CutOperation{
		{Method: "POST", Path: "/orders", Why: "the allow-list does not admit it"},
		{Method: "GET", Path: "/admin/secrets", Why: "the allow-list does not admit it"},
	}
	if diff := cmp.Diff(want, r.Report.Cut); diff != "" {
		t.Error(diff)
	}
	for _, where := range []string{"/components", "/tags/1", "/info/contact/url", "/x-internal-team"} {
		if !slices.ContainsFunc(r.Report.Stripped, func(s definition.Stripped) bool { return s.Where == where }) {
			t.Errorf("%s is not reported: %+v", where, r.Report.Stripped)
		}
	}
	for _, s := range r.Report.Stripped {
		if strings.Contains(s.Where, "corp") {
			t.Errorf("the report repeats an address: %+v", s)
		}
	}
}

// The base paths of the definition and of the url may be the same, or one may be within the other.
func TestBasePathIsTakenOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, base, path, want string }{
		{"http://erp/api/v2", "/api/v2", "/orders", "/orders"},
		{"http://erp/api/v2/", "/api/v2/", "/orders", "/orders"},
		{"http://erp/api/v2", "/", "/api/v2/orders", "/orders"},
		{"http://erp/api/v2", "/api", "/v2/orders", "/orders"},
		{"http://erp", "/api/v2", "/orders", "/api/v2/orders"},
		{"http://erp/api", "/api/v2", "/orders", "/v2/orders"},
		{"http://erp/api/v2", "", "/orders", "/orders"},
		{"http://erp/proxy", "/api", "/orders", "/orders"},
		{"http://erp/api/v2", "/api/v22", "/orders", "/orders"},
		{"http://erp/orders", "/", "/orders", "/"},
	} {
		for _, doc := range []string{
			`{"swagger":"2.0","info":{"title":"t","version":"1"},"host":"erp","basePath":"` + c.base + `","paths":{"` + c.path + `":{"get":{"responses":{}}}}}`,
			`{"openapi":"3.1.0","servers":[{"url":"https://other.example/x"},{"url":"http://erp` + c.base + `"}],"paths":{"` + c.path + `":{"get":{}}}}`,
		} {
			_, tree := cut(t, "x.json", doc, options(t, c.url, "GET /**"))
			if _, ok := tree["paths"].(map[string]any)[c.want]; !ok {
				t.Errorf("%+v: %v", c, tree["paths"])
			}
			if tree["host"] != nil || tree["basePath"] != nil {
				t.Errorf("an address leaves: %v", tree)
			}
		}
	}
	r, tree := cut(t, "x.json", `{"swagger":"2.0","paths":{"/api/v2/orders":{"get":{}},"/admin":{"get":{}}}}`, options(t, "http://erp/api/v2", "GET /**"))
	if len(tree["paths"].(map[string]any)) != 1 || len(r.Report.Cut) != 1 || r.Report.Cut[0].Path != "/admin" {
		t.Errorf("a path that is not below the url leaves: %v %+v", tree, r.Report)
	}
}

func TestServersOfTheirOwn(t *testing.T) {
	t.Parallel()
	r, tree := cut(t, "x.json", `{"openapi":"3.0.0","servers":[{"url":"http://erp.corp.example/api"}],"paths":{
		"/here":{"get":{"servers":[{"url":"http://erp.corp.example/api"}]}},
		"/there":{"get":{"servers":[{"url":"http://hr.corp.example/api"}]}},
		"/beside":{"get":{"servers":[{"url":"/other"}]}},
		"/item":{"servers":[{"url":"/api/v3"}],"get":{}}}}`,
		options(t, "http://erp.corp.example/api", "GET /**"))
	wantJSON(t, tree["paths"], `{"/here":{"get":{}},"/v3/item":{"get":{}},"/beside":{"get":{}}}`)
	if len(r.Report.Cut) != 1 || r.Report.Cut[0].Path != "/there" {
		t.Errorf("%+v", r.Report.Cut)
	}
}

const collection = `{"info":{"name":"ERP","schema":"https://schema.getpostman.com/json/collection/v2.1.0/collection.json","_postman_id":"1"},
 "auth":{"type":"bearer","bearer":[{"key":"token","value":"hunter2"}]},
 "event":[{"listen":"prerequest","script":{"exec":["secretScript()"]}}],
 "variable":[{"key":"baseUrl","value":"http://erp.corp.example/api/v2"},{"key":"ver","value":"v9"}],
 "item":[{"name":"Orders","item":[
   {"name":"List","request":{"method":"GET","header":[{"key":"Authorization","value":"hunter3"},{"key":"X-Api-Key","value":"hunter4"},{"key":"Accept","value":"application/json"}],
     "url":{"raw":"{{baseUrl}}/orders?$top=5&code=hunter5","host":["{{baseUrl}}"],"path":["orders"],"query":[{"key":"$top","value":"5","description":"how many"},{"key":"code","value":"hunter5"}]}},
    "response":[{"name":"ok","originalRequest":{"url":"http://erp.corp.example/x"},"code":200,"header":[{"key":"Content-Type","value":"application/json"},{"key":"Set-Cookie","value":"hunter6"}],"body":"[{\"id\":4711,\"name\":\"Jane Doe\",\"total\":1.5},{\"id\":1}]"}]},
   {"name":"One","request":{"method":"GET","url":"{{baseUrl}}/orders/:id"}},
   {"name":"Lines","request":{"url":"{{baseUrl}}/orders/{{orderId}}/lines"}},
   {"name":"Version","request":{"method":"GET","url":"{{baseUrl}}/{{ver}}/info"}},
   {"name":"Create","request":{"method":"POST","url":"http://erp.corp.example/api/v2/orders","body":{"mode":"raw","raw":"{\"user\":\"jane\",\"qty\":{{qty}},\"password\":\"hunter7\"}"}}}]},
  {"name":"Admin","description":"root only","item":[{"name":"Wipe","request":{"method":"DELETE","url":"{{baseUrl}}/admin/all"}}]},
  {"name":"Token","request":{"method":"POST","url":"https://login.example/token"}}]}`

func TestPostman(t *testing.T) {
	t.Parallel()
	o := options(t, "http://erp.corp.example/api/v2", "GET /orders", "GET /orders/{id}", "GET /orders/{id}/lines", "POST /orders", "GET /v9/info")
	r, tree := cut(t, "erp.json", collection, o)
	text := string(r.Body)
	for _, word := range []string{"hunter", "corp", "Jane", "4711", "secretScript", "Admin", "root only", "Wipe", "login", "_postman_id"} {
		if strings.Contains(text, word) {
			t.Errorf("%q leaves: %s", word, text)
		}
	}
	if r.Report.Operations != 5 || len(r.Report.Cut) != 2 || r.Report.Form != "Postman collection v2.1" {
		t.Errorf("%+v", r.Report)
	}
	folder := tree["item"].([]any)[0].(map[string]any)["item"].([]any)
	wantJSON(t, folder[0], `{"name":"List","request":{"method":"GET","header":[{"key":"Accept","value":"application/json"}],
		"url":{"raw":"{{baseUrl}}/orders?%24top=&code=","host":["{{baseUrl}}"],"path":["orders"],"query":[{"key":"$top","value":"","description":"how many"},{"key":"code","value":""}]}},
		"response":[{"name":"ok","code":200,"header":[{"key":"Content-Type","value":"application/json"}],"body":"[{\"id\":0,\"name\":\"string\",\"total\":0.5}]"}]}`)
	wantJSON(t, folder[2].(map[string]any)["request"].(map[string]any)["url"], `{"raw":"{{baseUrl}}/orders/:orderId/lines","host":["{{baseUrl}}"],
		"path":["orders",":orderId","lines"],"variable":[{"key":"orderId","value":""}]}`)
	wantJSON(t, folder[3].(map[string]any)["request"].(map[string]any)["url"], `{"raw":"{{baseUrl}}/v9/info","host":["{{baseUrl}}"],"path":["v9","info"]}`)
	wantJSON(t, folder[4].(map[string]any)["request"].(map[string]any)["body"],
		`{"mode":"raw","raw":"{\"user\":\"string\",\"qty\":0,\"password\":\"string\"}","options":{"raw":{"language":"json"}}}`)
}

func TestPostmanOfOtherVersions(t *testing.T) {
	t.Parallel()
	o := options(t, "http://erp.corp.example/api", "GET /orders", "POST /orders")
	v1 := `{"id":"c","name":"ERP","order":["b"],"folders":[{"id":"f","name":"F","order":["a"]}],"requests":[
		{"id":"a","name":"List","method":"GET","url":"http://erp.corp.example/api/orders?x=1","headers":"Accept: application/json\nAuthorization: hunter2\n"},
		{"id":"b","name":"Create","method":"POST","url":"{{host}}/x","dataMode":"raw","rawModeData":"{}"},
		{"id":"c","name":"Create","method":"POST","url":"http://erp.corp.example/api/orders","dataMode":"raw","rawModeData":"{\"a\":\"hunter3\"}"}]}`
	r, tree := cut(t, "v1.json", v1, o)
	if r.Report.Operations != 2 || r.Report.Form != "Postman collection v1" || strings.Contains(string(r.Body), "hunter") {
		t.Errorf("%+v %s", r.Report, r.Body)
	}
	if items := tree["item"].([]any); len(items) != 2 || items[0].(map[string]any)["name"] != "F" {
		t.Errorf("%v", items)
	}
	v20 := `{"info":{"name":"ERP","schema":"https://schema.getpostman.com/json/collection/v2.0.0/collection.json"},
		"item":[{"name":"List","request":"http://erp.corp.example/api/orders"}]}`
	if r, _ := cut(t, "v20.json", v20, o); r.Report.Operations != 1 || r.Report.Form != "Postman collection v2.0" {
		t.Errorf("%+v", r.Report)
	}
	wrapped := `{"collection":` + v20 + `}`
	if r, _ := cut(t, "wrapped.json", wrapped, o); r.Report.Operations != 1 {
		t.Errorf("%+v", r.Report)
	}
}

func TestSkeleton(t *testing.T) {
	t.Parallel()
	rules := []string{"GET,PATCH /orders/{id}", "GET /files/{path:encoded}", "* /reports/**"}
	o := options(t, "http://erp.corp.example/api", rules...)
	samples := []definition.Sample{{
		Method: "GET", Path: "/orders/{id}", ResponseName: "order.json",
		Response: []byte(`{"id":4711,"lines":[{"a":1},{"a":1.5,"b":null},{"b":"x"}],"host":"http://erp.corp.example"}`),
	}}
	r, err := definition.Skeleton("orders", rules, samples, o)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(r.Body, &tree); err != nil {
		t.Fatal(err)
	}
	paths := tree["paths"].(map[string]any)
	if r.Report.Operations != 2+1+2*5 || len(paths) != 4 || strings.Contains(string(r.Body), "4711") || strings.Contains(string(r.Body), "corp") {
		t.Errorf("%+v %s", r.Report, r.Body)
	}
	wantJSON(t, paths["/orders/{id}"].(map[string]any)["get"].(map[string]any)["responses"], `{"200":{"description":"OK","content":{"application/json":{"schema":
		{"type":"object","properties":{"id":{"type":"integer"},"lines":{"type":"array","items":{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"string","nullable":true}}}},
		"host":{"type":"string"}}}}}}}`)
	wantJSON(t, paths["/files/{path}"], `{"get":{"operationId":"GetFilesByPath","summary":"GET /files/{path}","parameters":[{"name":"path","in":"path","required":true,
		"x-ms-url-encoding":"double","schema":{"type":"string"}}],"responses":{"default":{"description":"What the API answers."}}}}`)
}

func TestFaultsNameTheirPlace(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300)
	laughs := "openapi: 3.0.0\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'j'; c++ {
		laughs += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "*" + string(c-1) + "]\n"
	}
	for _, c := range []struct{ name, doc, want string }{
		{"a.json", "{\n \"swagger\": \"2.0\",\n \"paths\": {\"/x\": {\"get\": tru }}}", "a.json:3: at /paths/~1x/get: not JSON"},
		{"b.json", "{\n \"swagger\": \"2.0\",\n", "b.json:2: the document ends in the middle"},
		{"c.json", "{\"swagger\":\"2.0\",\"paths\":[1]}", "c.json:1: at /paths: paths must be a mapping"},
		{"d.yaml", "openapi: 3.0.0\npaths:\n  /x: [\n", "d.yaml:3"},
		{"e.yaml", laughs, "more values than are taken"},
		{"f.yaml", "openapi: 3.0.0\nx: *nothing\n", "nothing that stands before it"},
		{"g.json", deep, "nested deeper than"},
		{"h.json", `{"swagger":"1.2"}`, `version "1.2" is not known`},
		{"i.json", `{"hello":1}`, "it is no definition"},
		{"j.json", ``, "it is empty"},
		{"k.json", "\xff\xfea\x00", "it is no definition"},
		{"l.json", "{\"swagger\": \"\xff\"}", "not UTF-8"},
		{"m.json", `{"swagger":"2.0"} x`, "m.json:1"},
		{"n.yaml", "a: &x\n  b: *x\n", "nothing that stands before it"},
		{"o.html", "<!DOCTYPE html><html>", "it is no definition"},
	} {
		_, err := definition.Cut(c.name, []byte(c.doc), options(t, "http://erp", "GET /**"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if _, ok := errors.AsType[*definition.Error](err); !ok {
			t.Errorf("%s: a %T", c.name, err)
		}
	}
}

func TestYAMLIsReadAsJSONWouldBe(t *testing.T) {
	t.Parallel()
	doc := "swagger: 2.0\ninfo: {title: t, version: 1.10}\nbase: &b {description: d, schema: {type: string}}\npaths:\n  /x:\n    get:\n      responses:\n" +
		"        200: {<<: *b, description: mine}\n        404: *b\n      x-ms-summary: !!str 12\n      deprecated: yes\n      operationId: |\n        two\n        lines\n      tags: [~, 0x1F, .5, 2021-01-01, 'no']\n"
	_, tree := cut(t, "x.yaml", doc, options(t, "http://erp", "GET /**"))
	wantJSON(t, tree, `{"swagger":2.0,"info":{"title":"t","version":1.10},"paths":{"/x":{"get":{"responses":{
		"200":{"description":"mine","schema":{"type":"string"}},"404":{"description":"d","schema":{"type":"string"}}},"x-ms-summary":"12","deprecated":"yes","operationId":"two\nlines\n",
		"tags":[null,31,0.5,"2021-01-01","no"]}}}}`)
	utf16 := []byte{0xff, 0xfe}
	for _, c := range `{"swagger":"2.0","paths":{"/é":{"get":{}}}}` {
		utf16 = append(utf16, byte(c), byte(c>>8))
	}
	if r, _ := cut(t, "x.json", string(utf16), options(t, "http://erp", "GET /**")); r.Report.Operations != 1 {
		t.Errorf("%+v", r.Report)
	}
}

func TestDraftRules(t *testing.T) {
	t.Parallel()
	doc := `{"swagger":"2.0","basePath":"/api","paths":{
		"/orders":{"get":{"summary":"List all\norders"},"head":{},"post":{"summary":"Create"}},
		"/orders/{order id}":{"get":{}},
		"/files/{path}/x({y})":{"parameters":[{"name":"path","in":"path","x-ms-url-encoding":"double"}],"get":{}},
		"/a b/{x}{y}":{"get":{}},
		"/bad/../x":{"get":{}}}}`
	check := func(rule string) error { _, err := policy.Compile([]string{rule}); return err }
	d, err := definition.DraftRules("x.json", []byte(doc), []string{"GET", "HEAD"}, nil, check)
	if err != nil {
		t.Fatal(err)
	}
	want := []definition.DraftRule{
		{Rule: "GET,HEAD /orders", Summary: "List all orders"},
		{Rule: "GET /orders/{orderid}"},
		{Rule: "GET /files/{path:encoded}/x({y})"},
		{Rule: "GET /a%20b/{x}"},
	}
	if diff := cmp.Diff(want, d.Rules); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"POST /orders"}, d.Left); diff != "" || len(d.Faults) != 1 {
		t.Error(diff, d.Faults)
	}
	// What is drafted admits what it was drafted from.
	all, err := definition.DraftRules("x.json", []byte(doc), []string{"GET", "HEAD", "POST"}, &url.URL{Path: "/"}, check)
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, r := range all.Rules {
		rules = append(rules, r.Rule)
	}
	r, _ := cut(t, "x.json", doc, options(t, "http://erp", rules...))
	if r.Report.Operations != 6 || rules[0] != "GET,HEAD,POST /api/orders" {
		t.Errorf("%+v %q", r.Report, rules)
	}
	pm, err := definition.DraftRules("erp.json", []byte(collection), []string{"GET"}, &url.URL{Path: "/api/v2"}, check)
	if err != nil || len(pm.Rules) != 4 || pm.Rules[1].Rule != "GET /orders/{id}" {
		t.Errorf("%+v %v", pm, err)
	}
}

// A document of webhooks alone stays one that its reader knows: with the object that OpenAPI 3.0 demands.
func TestWebhooksAlone(t *testing.T) {
	t.Parallel()
	r, err := definition.Cut("hooks.json", []byte(`{"openapi":"3.1.0","info":{"title":"x","version":"1"},"webhooks":{"a":{"post":{}}}}`),
		definition.Options{URL: &url.URL{Scheme: "http", Host: "erp.corp.example"}, Allowed: func(string, string) bool { return true }})
	if err != nil || !strings.Contains(string(r.Body), `"paths":{}`) || strings.Contains(string(r.Body), "webhooks") {
		t.Errorf("%v %v", err, r)
	}
}
