//go:build linux

package system

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// insideSwagger describes an API with operations that the allow-list does not have, and addresses wherever there can be some.
const insideSwagger = `{"swagger":"2.0","info":{"title":"Orders","version":"1","contact":{"url":"http://team.corp.example"}},
 "host":"erp.corp.example","basePath":"/api","paths":{
 "/orders":{"get":{"operationId":"list","description":"see http://erp.corp.example/wiki","responses":{"200":{"description":"ok",
   "schema":{"$ref":"#/definitions/Page"}}}}},
 "/payroll":{"get":{"operationId":"internalPayroll","responses":{"200":{"description":"salaries","schema":{"$ref":"#/definitions/Salary"}}}}}},
 "definitions":{"Page":{"type":"object"},"Salary":{"type":"object"}},"x-internal":"http://build.corp.example"}`

// definitionOf is what the relay has of an API's definition.
func (b *box) definitionOf(name string) (digest string) {
	b.t.Helper()
	var list []struct {
		Name       string `json:"name"`
		Definition struct {
			Digest string `json:"digest"`
		} `json:"definition"`
	}
	b.admin(&list, "connector", "list")
	for _, c := range list {
		if c.Name == name {
			digest = c.Definition.Digest
		}
	}
	return digest
}

// What the relay has is, by its digest, what the agent's 'definition show' prints; so what is not in the one is not in the
// other.
func TestDefinitionReachesTheRelayCut(t *testing.T) {
	t.Parallel()
	bin := lean
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path == "/swagger/v1/swagger.json" && q.Header.Get("X-Api-Key") == "let-me-in":
			w.Header().Set("ETag", `"1"`)
			io.WriteString(w, insideSwagger)
		case strings.HasPrefix(q.URL.Path, "/api/orders"):
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"value":[{"href":"%s/api/orders/1"}],"@odata.nextLink":"%s/api/orders?page=2"}`, srv.URL, srv.URL)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer srv.Close()
	b := newBox(t, bin)
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.command("let-me-in\n", b.agentEnv, bin.agent, "secret", "set", "swagger-key", "--config", b.path("agent.yaml")); err != nil {
		t.Fatal(err)
	}
	write(t, b.path("orders.json"), []byte(insideSwagger))
	auth := "auth: {header: {name: X-API-Key, secret: swagger-key}}\nlinks: [/value/*/href]\n"
	b.configure(
		api("file", srv.URL+"/api", "definition: orders.json\n", "GET /orders"),
		api("asked", srv.URL+"/api", auth+"definition: /swagger/v1/swagger.json\n", "GET /orders"),
		api("drafted", srv.URL+"/api", "", "GET /orders/{id}"))
	b.startAgent()
	for _, name := range []string{"file", "asked", "drafted"} {
		b.publish(name)
		eventually(t, 20*time.Second, "the definition of "+name, func() bool { return b.definitionOf(name) != "" })
		out, err := b.command("", b.agentEnv, bin.agent, "definition", "show", "--api", name, "--config", b.path("agent.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSuffix(string(out), "\n")
		if got := b.definitionOf(name); got != fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) {
			t.Errorf("%s: the relay has %s, not what is shown: %s", name, got, text)
		}
		for _, word := range []string{"corp", "127.0.0.1", "payroll", "Payroll", "alar", "x-internal", "host"} {
			if strings.Contains(text, word) {
				t.Errorf("%s: %q has left: %s", name, word, text)
			}
		}
		if !strings.Contains(text, `"/orders`) || !json.Valid([]byte(text)) {
			t.Errorf("%s: %s", name, text)
		}
		files := b.path(name)
		b.admin(nil, "connector", "export", gatewayName+"/"+name, "--out", files)
		if said, err := b.tryAdmin("connector", "lint", files); err != nil {
			t.Errorf("%s: what the relay makes of it: %v: %s", name, err, said)
		}
	}

	// The API that asks for it has the links in its bodies made public.
	resp, err := b.client(1).Get(b.url + "/" + gatewayName + "/asked/orders")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	public := b.url + "/" + gatewayName + "/asked"
	if want := fmt.Sprintf(`{"value":[{"href":"%s/orders/1"}],"@odata.nextLink":"%s/orders?page=2"}`, public, public); string(body) != want {
		t.Errorf("got %s, want %s", body, want)
	}
}
