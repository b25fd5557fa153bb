package agent

import (
	"os"
	"strings"
	"testing"
)

// FuzzParseConfig wants a configuration that can be used as it is, or errors.
func FuzzParseConfig(f *testing.F) {
	example, err := os.ReadFile("../configs/agent.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	for _, apis := range []string{
		"apis:\n  - name: a\n    url: http://a\n    auth: none\n    allow: [GET /]\n", "apis:\n  -\n", "apis:\n  - {}\n", "apis: ~\n", "proxy: http://u:p@h\n",
		"apis:\n  - {name: a, url: 'http://[::1', auth: {windows: ~}, tls: ~, allow: ~, limits: ~}\n", "link_hosts: ['']\n",
	} {
		f.Add(minimal + apis)
	}
	f.Fuzz(func(t *testing.T, file string) {
		c, err := ParseConfig("agent.yaml", []byte(file))
		if err != nil {
			if c != nil || !strings.HasPrefix(err.Error(), "agent.yaml:") {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		for i := range c.APIs {
			a := &c.APIs[i]
			if a.Policy() == nil || a.Address().Host == "" || len(a.Policy().Rules()) != len(a.Allow) {
				t.Errorf("API %d cannot be used: %+v", i, a)
			}
		}
	})
}
