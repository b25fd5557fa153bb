package main

import (
	"os"
	"testing"

	"sallyport/agent"
	"sallyport/tunnel"
)

func TestExampleIsTheOneInConfigs(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("../../configs/agent.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if example != string(want) {
		t.Error("agent.example.yaml differs from configs/agent.example.yaml: copy it")
	}
}

// What join writes is valid whatever stands in it.
func TestFirstConfigIsValid(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"/var/lib/sallyport-agent", `C:\ProgramData\Sallyport`, "/srv/o'brien/#x: [y]"} {
		text := firstConfig(tunnel.JoinString{Relay: "https://relay.example.com", Gateway: "plant1"},
			joinFlags{proxy: "http://user:p'w@proxy:8080", ca: "/etc/ca.pem"}, dir, "agent.yaml")
		c, err := agent.ParseConfig("agent.yaml", []byte(text))
		if err != nil {
			t.Errorf("%v in:\n%s", err, text)
			continue
		}
		if c.State != dir || c.Gateway != "plant1" || c.Proxy != "http://user:p'w@proxy:8080" || c.CA != "/etc/ca.pem" || len(c.APIs) != 0 {
			t.Errorf("%+v from:\n%s", c, text)
		}
	}
}
