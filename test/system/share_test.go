//go:build linux

package system

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

const shopDefinition = `{"openapi":"3.0.3","info":{"title":"Shop","version":"1.0"},"paths":{
 "/items":{"get":{"operationId":"listItems","parameters":[{"name":"top","in":"query","schema":{"type":"integer","default":2}}],
   "responses":{"200":{"description":"ok","content":{"application/json":{"schema":{"type":"array","items":{"$ref":"#/components/schemas/Item"}}}}}}},
  "post":{"operationId":"addItem","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Item"},
   "example":{"id":"a/b c","name":"Bolt"}}}},
   "responses":{"201":{"description":"made","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Item"}}}}}}},
 "/items/{id}":{"get":{"operationId":"getItem","parameters":[{"name":"id","in":"path","required":true,"example":"4711","schema":{"type":"string"}}],
   "responses":{"200":{"description":"ok","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Item"}}}}}},
  "delete":{"operationId":"removeItem","parameters":[{"name":"id","in":"path","required":true,"example":"4711","schema":{"type":"string"}}],
   "responses":{"204":{"description":"gone"}}}}},
 "components":{"schemas":{"Item":{"type":"object","properties":{"id":{"type":"string"},"name":{"type":"string"}}}}}}`

// shop is a relay, an agent and an API that is described; the key is of the connector "shop".
func shop(t *testing.T) (b *box, key string) {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			if body != "" {
				w.Header().Set("Content-Type", "application/json")
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	mux.Handle("GET /items", answer(http.StatusOK, `[{"id":"4711","name":"Nut"}]`))
	mux.Handle("POST /items", answer(http.StatusCreated, `{"id":"a/b c","name":"Bolt"}`))
	mux.Handle("GET /items/4711", answer(http.StatusOK, `{"id":"4711","name":"Nut"}`))
	mux.Handle("DELETE /items/4711", answer(http.StatusNoContent, ""))
	u := httptest.NewServer(mux)
	t.Cleanup(u.Close)
	b = newBox(t, lean)
	write(t, b.path("shop.json"), []byte(shopDefinition))
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatal(err)
	}
	b.configure(api("shop", u.URL, "definition: shop.json\n", "GET,POST /items", "GET,DELETE /items/{id}"))
	b.startAgent()
	key = b.publishWithKey("shop")
	eventually(t, 30*time.Second, "the definition of shop", func() bool { return b.definitionOf("shop") != "" })
	return b, key
}

// A link gives the definition to whoever has it, until it is revoked, and nothing else; no record has its token.
func TestDefinitionIsSharedByLink(t *testing.T) {
	t.Parallel()
	b, key := shop(t)
	get := func(url, key string) (int, string, http.Header) {
		q, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			q.Header.Set("X-API-Key", key)
		}
		resp, err := b.client(1).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header
	}
	var shared struct{ URL string }
	for format, says := range map[string]string{"power-platform": `"swagger": "2.0"`, "postman": "v2.1.0", "openapi3": `"openapi": "3.0.3"`} {
		b.admin(&shared, "connector", "share", gatewayName+"/shop", "--format", format, "--expires", "1h")
		status, body, h := get(shared.URL, "")
		if status != http.StatusOK || !strings.Contains(body, says) || !strings.Contains(body, "items") || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v %.200s", format, status, h, body)
		}
	}
	dir := b.path("exported")
	b.admin(nil, "connector", "export", gatewayName+"/shop", "--out", dir)
	exported, err := os.ReadFile(dir + "/apiDefinition.swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	b.admin(&shared, "connector", "share", gatewayName+"/shop")
	if _, body, _ := get(shared.URL, ""); body != string(exported) {
		t.Errorf("the link gives other bytes than the export: %.200s", body)
	}

	at := strings.Index(shared.URL, "/_/definition/") + len("/_/definition/") + 5
	guess := shared.URL[:at] + map[bool]string{true: "B", false: "A"}[shared.URL[at] == 'A'] + shared.URL[at+1:]
	if status, _, _ := get(guess, ""); status != http.StatusUnauthorized {
		t.Errorf("a changed link: %d", status)
	}
	if status, _, _ := get(guess, key); status != http.StatusNotFound {
		t.Errorf("a changed link, with the key: %d", status)
	}
	b.admin(nil, "connector", "share", gatewayName+"/shop", "--revoke")
	if status, body, _ := get(shared.URL, ""); status != http.StatusNotFound || !strings.Contains(body, "revoked") {
		t.Errorf("a revoked link: %d %s", status, body)
	}
	old := shared.URL
	b.admin(&shared, "connector", "share", gatewayName+"/shop")
	if status, _, _ := get(shared.URL, ""); status != http.StatusOK {
		t.Errorf("a link after the revocation: %d", status)
	}
	log, err := b.tryAdmin("log", "--json")
	if err != nil {
		t.Fatal(err)
	}
	token := old[strings.Index(old, "/_/definition/")+len("/_/definition/"):][:20]
	if strings.Contains(string(log), token) || !strings.Contains(string(log), "/_/definition/***") {
		t.Errorf("the record of the calls: %.2000s", log)
	}
}

// Where an import from a URL would lose what is in apiProperties.json, there is no link, and the loss has a name.
func TestNoLinkWhereItWouldLose(t *testing.T) {
	t.Parallel()
	b, _ := shop(t)
	b.admin(nil, "connector", "unpublish", gatewayName+"/shop")
	b.admin(nil, "connector", "publish", gatewayName+"/shop", "--auth", "key,basic")
	_, err := b.tryAdmin("connector", "share", gatewayName+"/shop")
	if err == nil || !strings.Contains(err.Error(), "connectionParameterSets") {
		t.Errorf("%v", err)
	}
	b.admin(nil, "connector", "share", gatewayName+"/shop", "--format", "openapi3")
}
