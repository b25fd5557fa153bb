package connector

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"sallyport/relay/gateway"
)

// reserved answers what lies at "/_/" below a connector's base path. All of it is the relay's own: nothing there reaches
// an agent, not even what the relay does not know.
func (c *call) reserved(pub *Published, path, query string) error {
	switch {
	case path == "/_/ping":
		return c.ping(pub, query)
	case strings.HasPrefix(path, operationsPath):
		return c.operation(pub, path[len(operationsPath):])
	case strings.HasPrefix(path, hooksPath):
		return noOperation()
	}
	return notFound()
}

// reads refuses every method but GET and HEAD.
func (c *call) reads(what string) error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return NewProblem("method-refused", what+" is a GET.")
	}
	return nil
}

// A pingAnswer is the body of a ping.
type pingAnswer struct {
	Gateway   string `json:"gateway"`
	Connector string `json:"connector"`
	// Linked says whether a call would reach an agent that offers the API; Problem is the code with which it would fail.
	Linked      bool   `json:"linked"`
	Problem     string `json:"problem,omitempty"`
	RoundTripMs *int64 `json:"roundTripMs,omitempty"`
}

// ping answers 200 to every caller that was authenticated, agent or no agent: Power Platform tests a connection with it
// (x-ms-capabilities.testConnection), which is about the credential; an agent that is down must not make people enter
// their keys anew. With ?link=required it answers as a call would, for monitoring.
func (c *call) ping(pub *Published, query string) error {
	if err := c.reads("A ping"); err != nil {
		return err
	}
	answer := pingAnswer{Gateway: pub.Gateway, Connector: pub.Name}
	link, err := c.p.o.Links.Pick(pub.Gateway, pub.API)
	switch {
	case err == nil:
		ms := link.RTT().Milliseconds()
		answer.Linked, answer.RoundTripMs = true, &ms
	case requiresLink(query) || !errors.Is(err, gateway.ErrNoLink) && !errors.Is(err, gateway.ErrNotOffered):
		return err
	default:
		answer.Problem = problemOf(err).Code
	}
	return c.sendJSON(http.StatusOK, answer)
}

func requiresLink(query string) bool {
	for part := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(part, "="); name == "link" {
			value, err := url.QueryUnescape(value)
			return err == nil && value == "required"
		}
	}
	return false
}

// sendJSON answers with a body of the relay's own.
func (c *call) sendJSON(status int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	c.head(status)
	if c.r.Method == http.MethodHead {
		return nil
	}
	return c.send(text)
}
