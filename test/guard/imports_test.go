package guard

import (
	"slices"
	"strings"
	"testing"
)

// A ban says that no package matching from may depend, directly or through others, on one matching on.
type ban struct {
	from, on string // import paths; "/..." at the end means and everything below
	reason   string
}

var bans = []ban{
	{"sallyport/tunnel/...", "sallyport/agent/...", "both sides speak the tunnel, neither owns it"},
	{"sallyport/tunnel/...", "sallyport/relay/...", "both sides speak the tunnel, neither owns it"},
	{"sallyport/tunnel/...", "sallyport/cmd/...", "the tunnel knows no program"},
	{"sallyport/agent/...", "sallyport/relay/...", "the agent is reviewed on its own: nothing of the cloud side is in it"},
	{"sallyport/relay/...", "sallyport/agent/...", "the relay is reviewed on its own: nothing of the inside is in it"},
	{"sallyport/agent", "sallyport/agent/update", "the agent that runs replaces nothing: nothing that the relay sends leads to an update"},
	{"sallyport/agent/...", "sallyport/cmd/...", "programs import packages, never the other way round"},
	{"sallyport/relay/...", "sallyport/cmd/...", "programs import packages, never the other way round"},
	{"sallyport/relay/...", "github.com/jcmturner/...", "the relay never holds a Windows credential"},
	{"sallyport/relay/...", "github.com/alexbrainman/...", "the relay never holds a Windows credential"},
	{"sallyport/relay/...", "github.com/mccutchen/...", "a test service does not belong into a product"},
	{"sallyport/agent/...", "github.com/mccutchen/...", "a test service does not belong into a product"},
}

// agentBans are about the binary: a security team reads the list of what is in it.
var agentBans = []ban{
	{on: "sallyport/relay/...", reason: "the agent's binary links nothing of the relay's"},
	{on: "github.com/nats-io/...", reason: "the store is the relay's; a message broker inside the company's network would be a review of its own"},
	{on: "github.com/getkin/...", reason: "conversion of definitions is the relay's; the agent has a small reader of its own"},
	{on: "github.com/caddyserver/...", reason: "certificates for the public side are the relay's"},
	{on: "github.com/prometheus/...", reason: "agent/metrics writes the text format itself: the library would be a sixth of the binary"},
	{on: "html/template", reason: "the agent has no web pages"},
	{on: "net/http/pprof", reason: "profiles show memory's contents; the agent's one listener, on loopback if asked for, has counts alone"},
	{on: "expvar", reason: "it registers itself on the default mux by being imported"},
	{on: "testing", reason: "test code does not belong into a product"},
	{on: "github.com/google/go-cmp/...", reason: "test code does not belong into a product"},
	{on: "sallyport/test/...", reason: "test code does not belong into a product"},
}

func matches(pattern, path string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

func TestImportArrows(t *testing.T) {
	t.Parallel()
	for _, goos := range []string{"linux", "windows"} {
		pkgs := list(t, goos, "./...")
		for _, b := range bans {
			seen := false
			for _, p := range pkgs {
				if !matches(b.from, p.ImportPath) {
					continue
				}
				seen = true
				for _, d := range p.Deps {
					if matches(b.on, d) {
						t.Errorf("%s depends on %s (%s): %s", p.ImportPath, d, goos, b.reason)
					}
				}
			}
			if !seen {
				t.Errorf("the ban of %s on %s guards nothing: no such package", b.from, b.on)
			}
		}
	}
}

func TestTunnelImportsNothingOfOurs(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "linux", "./tunnel") {
		for _, d := range p.Deps {
			if strings.HasPrefix(d, "sallyport/") {
				t.Errorf("tunnel depends on %s: it is a protocol that stands alone", d)
			}
		}
	}
}

func TestAgentBinaryLinksNothingOfTheRelays(t *testing.T) {
	t.Parallel()
	for _, goos := range []string{"linux", "windows"} {
		pkgs := list(t, goos, "-deps", "./cmd/sallyport-agent")
		if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == "sallyport/agent" }) {
			t.Fatalf("the agent's binary does not link sallyport/agent (%s): the guard looks in the wrong place", goos)
		}
		for _, p := range pkgs {
			for _, b := range agentBans {
				if matches(b.on, p.ImportPath) {
					t.Errorf("the agent's binary links %s (%s), imported by %s: %s", p.ImportPath, goos, importers(pkgs, p.ImportPath), b.reason)
				}
			}
		}
	}
}

func importers(pkgs []pkg, path string) string {
	var by []string
	for _, p := range pkgs {
		if slices.Contains(p.Imports, path) {
			by = append(by, p.ImportPath)
		}
	}
	return strings.Join(by, ", ")
}

func TestCommandsDoNotImportEachOther(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "linux", "./cmd/...") {
		for _, d := range p.Deps {
			owner := strings.Join(strings.SplitN(p.ImportPath, "/", 4)[:3], "/")
			if strings.HasPrefix(d, "sallyport/cmd/") && !matches(owner+"/...", d) {
				t.Errorf("%s depends on %s: what two programs share belongs into a package of its own", p.ImportPath, d)
			}
		}
	}
}
