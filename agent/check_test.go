package agent

import (
	"strings"
	"testing"
)

func checked(t *testing.T, check string) (*Config, error) {
	t.Helper()
	return ParseConfig("agent.yaml", []byte("relay: https://r.example\ngateway: g\napis:\n"+
		"  - {name: a, url: 'http://a.example/v1', auth: none, allow: ['GET,HEAD,POST /health'], check: '"+check+"'}\n"))
}

func TestCheckOfAnAPI(t *testing.T) {
	t.Parallel()
	for check, word := range map[string]string{
		"POST /health": "changes nothing", "GET health": "changes nothing", "GET": "changes nothing", "get /health": "changes nothing",
		"GET /other": "no rule under allow", "GET /health/../other": "no rule under allow", "GET /health HTTP/1.0": "no rule under allow",
	} {
		if _, err := checked(t, check); err == nil || !strings.Contains(err.Error(), "agent.yaml:4:") || !strings.Contains(err.Error(), word) {
			t.Errorf("check: %s: %v, want %q", check, err, word)
		}
	}
	for _, check := range []string{"GET /health", "HEAD /health", "GET /health?deep=1"} {
		if _, err := checked(t, check); err != nil {
			t.Errorf("check: %s: %v", check, err)
		}
	}
}

// Another check is no reason to give up the API's connections.
func TestCheckLeavesTheTransport(t *testing.T) {
	t.Parallel()
	a, err := checked(t, "GET /health")
	if err != nil {
		t.Fatal(err)
	}
	b, err := checked(t, "HEAD /health")
	if err != nil {
		t.Fatal(err)
	}
	if transportKey(a, &a.APIs[0], tlsFiles{}) != transportKey(b, &b.APIs[0], tlsFiles{}) {
		t.Error("another check makes another transport")
	}
}
