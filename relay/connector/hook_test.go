package connector_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sallyport/relay/connector"
	"sallyport/relay/operation"
	"sallyport/tunnel"
)

// hooks is an agent with an API of subscriptions; what it saw is in the order of arrival.
type hooks struct {
	mu   sync.Mutex
	seen []string
	at   string // the Location of a subscription, as the agent has made it public
}

func (h *hooks) serve(s *tunnel.Stream) {
	_, _ = io.Copy(io.Discard, s)
	q := s.Request()
	h.mu.Lock()
	h.seen = append(h.seen, q.Method+" "+q.Target+" "+q.Caller+" "+q.Header.Get("Authorization")+q.Header.Get("X-Api-Key"))
	at := h.at
	h.mu.Unlock()
	status, fields := 204, http.Header{}
	if q.Method == "POST" {
		status, fields = 201, header("Location", at)
	}
	_ = s.Answer(&tunnel.Response{Status: status, Header: fields}, nil)
}

func (h *hooks) saw() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := strings.Join(h.seen, "\n")
	h.seen = nil
	return s
}

func TestWebhookSubscription(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		h := &hooks{at: publicBase + "/hooks/7?rev=1"}
		r := outliving(t, h.serve, newShelf(t).ledger(t, operation.Config{}), func(c *connector.Connector) {
			c.Auth, c.Webhooks = []string{connector.AuthKey}, []string{"POST /hooks"}
		}, nil)
		key := []string{"X-Api-Key", r.key}
		subscribe := func(path string) string {
			resp := r.do(t, caller, "POST", "/plant1/orders"+path, strings.NewReader(`{"url":"https://example.com/callback"}`), key...)
			if resp.StatusCode != 201 {
				t.Fatalf("subscribe: %d %s", resp.StatusCode, text(t, resp.Body))
			}
			return resp.Header.Get("Location")
		}
		at, signed := strings.CutPrefix(subscribe("/hooks"), publicBase+"/_/hooks/")
		if !signed || strings.ContainsAny(at, "/?") {
			t.Fatalf("Location %q", at)
		}
		if got := subscribe("/orders"); got != h.at {
			t.Errorf("of no subscription: Location %q", got)
		}
		h.saw()
		path := "/plant1/orders/_/hooks/" + at
		// With the credential, without, and with one that is no longer right.
		for _, fields := range [][]string{key, nil, {"X-Api-Key", "sp_old", "Authorization", "Basic eHg6eHg="}} {
			if resp := r.do(t, caller, "DELETE", path, nil, fields...); resp.StatusCode != 204 {
				t.Errorf("DELETE with %q: %d %s", fields, resp.StatusCode, text(t, resp.Body))
			}
		}
		if got := h.saw(); got != "DELETE /hooks/7?rev=1 key:flow-prod \nDELETE /hooks/7?rev=1 hook \nDELETE /hooks/7?rev=1 hook " {
			t.Errorf("the agent saw %q", got)
		}
		wantProblem(t, r.do(t, caller, "GET", path, nil, key...), 405, "method-refused", "relay", "no")
		wantProblem(t, r.do(t, caller, "DELETE", path[:len(path)-4], nil, key...), 404, "no-operation", "relay", "no")
		wantProblem(t, r.do(t, caller, "DELETE", path[:len(path)-4], nil), 401, "key-required", "relay", "no")
		wantProblem(t, r.do(t, caller, "DELETE", "/plant1/orders/hooks/7", nil), 401, "key-required", "relay", "no")
		if got := h.saw(); got != "" {
			t.Errorf("the agent saw %q", got)
		}
		// Taken away and published again it is another connector, whose tokens are others.
		if err := r.directory.Unpublish(t.Context(), "plant1", "orders"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.directory.Publish(t.Context(), connector.Connector{Gateway: "plant1", Name: "orders", Auth: []string{connector.AuthKey}, Webhooks: []string{"POST /hooks"}}); err != nil {
			t.Fatal(err)
		}
		wantProblem(t, r.do(t, caller, "DELETE", path, nil), 401, "key-required", "relay", "no")
	})
}

func TestHookLocations(t *testing.T) {
	h := &hooks{}
	r := outliving(t, h.serve, newShelf(t).ledger(t, operation.Config{}), func(c *connector.Connector) { c.Webhooks = []string{"POST /v1/hooks"} }, nil)
	for location, target := range map[string]string{
		publicBase + "/hooks/7":        "/hooks/7",
		publicBase + "/hooks/7#x":      "/hooks/7",
		"hooks/7":                      "/v1/hooks/7",
		publicBase + "/hooks/a%2Fb?c=": "/hooks/a%2Fb?c=",
		// What is none of these stays as it is: the agent has let it through.
		"https://elsewhere.example.com/hooks/7":      "",
		"../hooks/7":                                 "",
		publicBase + "/_/operations/x":               "",
		publicBase + "x/hooks/7":                     "",
		publicBase + "/" + strings.Repeat("x", 2000): "",
	} {
		h.at = location
		resp := r.do(t, http.DefaultClient, "POST", "/plant1/orders/v1/hooks", nil)
		at := resp.Header.Get("Location")
		path, signed := strings.CutPrefix(at, publicBase+"/_/hooks/")
		if !signed {
			if target != "" || at != location {
				t.Errorf("%.80s became %.80s", location, at)
			}
			continue
		}
		h.saw()
		r.do(t, http.DefaultClient, "DELETE", "/plant1/orders/_/hooks/"+path, nil)
		if got := h.saw(); got != "DELETE "+target+" hook " {
			t.Errorf("%s: the agent saw %q, want a DELETE of %s", location, got, target)
		}
	}
}
