package agent

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/tunnel"
)

const swagger = `{"swagger":"2.0","info":{"title":"Orders","version":"1"},"host":"erp.corp.example","paths":{
	"/orders/{id}":{"get":{"description":"see http://erp.corp.example/wiki"}},"/salaries":{"get":{}}}}`

// offeredDefinition is the digest of the last offer.
func (r *rig) offeredDefinition() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.full) == 0 {
		return ""
	}
	var o offered
	if json.Unmarshal([]byte(r.full[len(r.full)-1]), &o) != nil || len(o.APIs) == 0 {
		return ""
	}
	return o.APIs[0].Definition
}

// takeDefinition asks as the relay does.
func (r *rig) takeDefinition(l *tunnel.Link, digest string) (int, string) {
	r.t.Helper()
	st, err := l.Open(&tunnel.Request{ID: "d1", Method: "GET", Target: "/definitions/orders/" + digest, Header: http.Header{}}, true)
	if err != nil {
		r.t.Fatal(err)
	}
	st.SetReadTimeout(5 * time.Second)
	head, err := st.ReadResponse(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	if head.Status != 200 {
		return head.Status, ""
	}
	z, err := gzip.NewReader(st)
	if err != nil {
		r.t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil {
		r.t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	if digest != "sha256:"+hex.EncodeToString(sum[:]) {
		r.t.Errorf("the digest is not that of %s", body)
	}
	return head.Status, string(body)
}

func (r *rig) define(definition string) {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	var kept []string
	for _, l := range lines {
		if strings.Contains(l, "definition:") {
			continue
		}
		kept = append(kept, l)
		if i := strings.Index(l, "name: orders"); i >= 0 && !strings.Contains(l, "orders-key") {
			kept = append(kept, strings.Repeat(" ", i)+"definition: "+definition)
		}
	}
	r.write(strings.Join(kept, "\n"))
	r.again <- struct{}{}
}

func TestDefinitionIsShipped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	// Without one, the allow-list is the description.
	r.until("a definition is offered", func() bool { return strings.HasPrefix(r.offeredDefinition(), "sha256:") })
	skeleton := r.offeredDefinition()
	if status, body := r.takeDefinition(l, skeleton); status != 200 || !strings.Contains(body, `"/orders/{path}"`) {
		t.Errorf("%d %s", status, body)
	}
	file := filepath.Join(filepath.Dir(r.file), "orders.json")
	if err := os.WriteFile(file, []byte(swagger), 0o600); err != nil {
		t.Fatal(err)
	}
	r.define("orders.json")
	r.until("the file is offered", func() bool { return r.offeredDefinition() != skeleton })
	fromFile := r.offeredDefinition()
	_, body := r.takeDefinition(l, fromFile)
	for _, word := range []string{"corp", "salaries", "127.0.0.1"} {
		if strings.Contains(body, word) {
			t.Errorf("%q leaves: %s", word, body)
		}
	}
	if !strings.Contains(body, `"/orders/{id}"`) {
		t.Error(body)
	}
	if status, _ := r.takeDefinition(l, skeleton); status != 404 {
		t.Errorf("the one before: %d", status)
	}
	// What cannot be used leaves the one before in place, and says so.
	if err := os.WriteFile(file, []byte(`{"swagger":`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.until("the log says it", func() bool { return strings.Contains(r.log.String(), "the document ends in the middle") })
	if got := r.offeredDefinition(); got != fromFile {
		t.Errorf("offered is %s", got)
	}
	r.define("none")
	r.until("none is offered", func() bool { return r.offeredDefinition() == "none" })
	if status, _ := r.takeDefinition(l, "none"); status != 404 {
		t.Errorf("none: %d", status)
	}
}

func TestRequestsForTheAgentItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.link()
	for _, target := range []string{"/", "/definitions/", "/definitions/absent/none", "/definitions/orders/", "/definitions/orders/sha256:00", "/orders/1"} {
		if resp, _ := r.ask(l, tunnel.Request{API: "-", Method: "GET", Target: target}); resp.Status != 503 {
			t.Errorf("%s: %d", target, resp.Status)
		}
		st, err := l.Open(&tunnel.Request{ID: "d1", Method: "GET", Target: target, Header: http.Header{}}, true)
		if err != nil {
			t.Fatal(err)
		}
		st.SetReadTimeout(5 * time.Second)
		if resp, err := st.ReadResponse(context.Background()); err != nil || resp.Status != 404 {
			t.Errorf("%s: %v %v", target, resp, err)
		}
	}
}
