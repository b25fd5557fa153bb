//go:build linux

package system

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/test/loud"
)

// callerBox has the API "web", published with a key, and gives that key.
func callerBox(t *testing.T) (*box, string) {
	u := newUpstream(t)
	b := ready(t, racy, nil, api("web", u.url, "", everything))
	key := b.publishWithKey("web")
	b.callUntilOK("web", key, 30e9)
	return b, key
}

// TestCurl calls as an admin does who tries it out.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl := loud.NeedsProgram(t, "curl", "curl as a caller is not tried")
	b, key := callerBox(t)
	// The key goes by a configuration file on standard input: an argument list is for everybody to read.
	config := func(extra ...string) string {
		return strings.Join(append([]string{
			"silent", "show-error", "max-time = 60", fmt.Sprintf("cacert = %q", b.path("ca.pem")),
			fmt.Sprintf("connect-to = \"::%s\"", b.addr), fmt.Sprintf("header = \"X-API-Key: %s\"", key),
			"write-out = \"\\n%{http_code} HTTP/%{http_version}\"",
		}, extra...), "\n") + "\n"
	}
	for _, c := range []struct{ name, path, status, body, option string }{
		{"HTTP/1.1", "/base64/encode/hello", "200 HTTP/1.1", "aGVsbG8=", "http1.1"},
		{"HTTP/2", "/base64/encode/hello", "200 HTTP/2", "aGVsbG8=", "http2"},
		{"POST with Expect", "/x/digest", "200 HTTP/1.1", "2000000 ", "http1.1\nexpect100-timeout = 20\nheader = \"Expect: 100-continue\"\ndata-binary = \"@" + b.path("body") + "\""},
		{"chunked upload", "/x/digest", "200 HTTP/1.1", "2000000 ", "http1.1\nheader = \"Transfer-Encoding: chunked\"\ndata-binary = \"@" + b.path("body") + "\""},
		{"dot segments", "/get/../x", "400 ", "", "path-as-is"},
	} {
		write(t, b.path("body"), make([]byte, 2_000_000))
		out, err := b.command(config(c.option), nil, curl, "--config", "-", b.at("web", c.path))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, c.status) || !strings.HasPrefix(string(out), c.body) {
			t.Errorf("%s: %.200q, want %q and %q", c.name, out, c.body, c.status)
		}
	}
	if out, err := b.command(config("http1.1", "fail"), nil, curl, "--config", "-", b.at("web", "/x/breaks?framing=chunks")); err == nil {
		t.Errorf("curl took half an answer for a whole one: %.100q", out)
	}
}

func TestNodeCaller(t *testing.T) {
	t.Parallel()
	node := loud.NeedsProgram(t, "node", "a Node caller is not tried")
	b, key := callerBox(t)
	out, err := b.command(key, []string{"NODE_EXTRA_CA_CERTS=" + b.path("ca.pem")}, node, "testdata/client.mjs", b.at("web", ""))
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Errorf("the Node caller: %v\n%s", err, out)
	}
}

func TestJavaCaller(t *testing.T) {
	t.Parallel()
	loud.NeedsProgram(t, "javac", "a Java caller is not tried")
	java := loud.NeedsProgram(t, "java", "a Java caller is not tried")
	b, key := callerBox(t)
	out, err := b.command(key, nil, java, "-XX:+UseSerialGC", "-Xmx256m", "testdata/Client.java", b.at("web", ""), b.path("ca.pem"))
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Errorf("the Java caller: %v\n%s", err, out)
	}
}
