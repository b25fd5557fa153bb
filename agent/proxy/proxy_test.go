package proxy

import (
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/http/httpproxy"
)

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestNoProxy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		exceptions, target string
		direct             bool
	}{
		{"", "https://relay.example.com", false},
		{"relay.example.com", "https://relay.example.com", true},
		{"relay.example.com", "https://relay.example.com:8443", true},
		{"relay.example.com", "https://xrelay.example.com", false},
		{"example.com", "https://relay.example.com", true},
		{".example.com", "https://relay.example.com", true},
		{".example.com", "https://example.com", false},
		{"*.example.com", "https://relay.example.com", true},
		{"*.example.com", "https://example.com", false},
		{"EXAMPLE.com", "https://relay.Example.COM", true},
		{"*", "https://relay.example.com", true},
		// Ports.
		{"relay.example.com:443", "https://relay.example.com", true},
		{"relay.example.com:8443", "https://relay.example.com", false},
		{"relay.example.com.:8443", "https://relay.example.com:8443", true},
		{"10.1.2.3:8443", "https://10.1.2.3:8443", true},
		{"10.1.2.3:8443", "https://10.1.2.3", false},
		{"[2001:db8::1]:8443", "https://[2001:db8::1]:8443", true},
		{"[2001:db8::1]:8443", "https://[2001:db8::1]", false},
		// A dot at the end.
		{"relay.example.com.", "https://relay.example.com", true},
		{"relay.example.com", "https://relay.example.com.", true},
		{"example.com.", "https://relay.example.com.:8443", true},
		// Networks and addresses.
		{"10.0.0.0/8", "https://10.200.0.1", true},
		{"10.0.0.0/8", "https://11.0.0.1", false},
		{"10.0.0.0/8", "https://10.example.com", false},
		{"2001:db8::/32", "https://[2001:db8::1]:443", true},
		{"2001:db8::/32", "https://[2001:db9::1]", false},
		{"2001:db8::1", "https://[2001:db8:0::1]", true},
		{"[2001:db8::1]", "https://[2001:db8::1]:8443", true},
		{"[2001:db8::1]", "https://[2001:db8::2]", false},
		// Lists between commas, blanks and semicolons.
		{"a.example, 10.0.0.0/8 , relay.example.com", "https://relay.example.com", true},
		{"a.example 10.0.0.0/8 relay.example.com", "https://relay.example.com", true},
		{"a.example;relay.example.com", "https://relay.example.com", true},
		{",, ,", "https://relay.example.com", false},
		// This machine.
		{"", "https://localhost:1", true},
		{"", "https://127.8.9.10", true},
		{"", "https://[::1]", true},
	} {
		find, err := Environment(&httpproxy.Config{HTTPSProxy: "http://proxy.corp.example:8080", NoProxy: c.exceptions})
		if err != nil {
			t.Fatal(err)
		}
		via, err := find(parse(t, c.target))
		if err != nil || (via == nil) != c.direct {
			t.Errorf("NO_PROXY=%q, %s: %v, %v; want direct: %v", c.exceptions, c.target, via, err, c.direct)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"http://proxy:8080": "http://proxy:8080", "proxy:8080": "http://proxy:8080", " proxy ": "http://proxy", "socks5://proxy": "socks5://proxy",
		"https://u:p@proxy:3128": "https://u:p@proxy:3128",
	} {
		find, err := Environment(&httpproxy.Config{HTTPSProxy: set})
		if err != nil {
			t.Errorf("%q: %v", set, err)
			continue
		}
		if via, err := find(parse(t, "https://relay.example.com")); err != nil || via == nil || via.String() != want {
			t.Errorf("%q: %v, %v, want %s", set, via, err, want)
		}
	}
	if find, err := Environment(&httpproxy.Config{HTTPProxy: "http://proxy:8080", HTTPSProxy: " "}); find != nil || err != nil {
		t.Errorf("no HTTPS_PROXY: %v", err)
	}
	// What cannot be read is no reason to go without a proxy in silence, and none to show a password.
	for _, set := range []string{"ftp://u:hunter2@proxy", "http://u:hunter2@proxy:port", "http://"} {
		if find, err := Environment(&httpproxy.Config{HTTPSProxy: set}); find != nil || err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", set, err)
		}
	}
}

func TestWindowsLists(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"proxy:8080":            "http://proxy:8080",
		"first:1;second:2":      "http://first:1",
		"first:1 second:2":      "http://first:1",
		"http=a:80;https=b:443": "http://b:443",
		"HTTPS=b:443":           "http://b:443",
		"https=https://b:443/":  "https://b:443",
		"http://proxy:8080":     "http://proxy:8080",
		"socks=s:1080":          "socks5://s:1080",
		"ftp=a:21;http=b:80":    "<nil>",
		"":                      "<nil>",
		";;":                    "<nil>",
		"https=ftp://x":         "<nil>",
		"[2001:db8::1]:8080":    "http://[2001:db8::1]:8080",
		strings.Repeat("a=b;", maxList) + "proxy:80": "<nil>",
	} {
		got := "<nil>"
		if u := fromList(list, "https"); u != nil {
			got = u.String()
		}
		if got != want {
			t.Errorf("%.60q: %s, want %s", list, got, want)
		}
	}
	for _, c := range []struct {
		list, target string
		want         bool
	}{
		{"<local>", "https://relay", true},
		{"<local>", "https://relay.example.com", false},
		{"<local>", "https://[2001:db8::1]", false},
		{"*.example.com", "https://relay.example.com", true},
		{"*.example.com", "https://example.com", false},
		{"*example.com", "https://example.com", true},
		{"10.*", "https://10.1.2.3", true},
		{"10.*", "https://110.1.2.3", false},
		{"https://relay.*", "https://relay.example.com", true},
		{"http://relay.*", "https://relay.example.com", false},
		{"relay.example.com:8443", "https://relay.example.com", false},
		{"relay.example.com:443", "https://relay.example.com.", true},
		{"a;b RELAY.example.com", "https://relay.EXAMPLE.com", true},
		{"[2001:db8::1]", "https://[2001:db8::1]", true},
		{"re?ay.example.com", "https://relay.example.com", false},
		{"", "https://localhost", true},
		{"", "https://127.0.0.1:8443", true},
	} {
		if got := bypassed(c.list, parse(t, c.target)); got != c.want {
			t.Errorf("%q, %s: %v, want %v", c.list, c.target, got, c.want)
		}
	}
}

func FuzzLists(f *testing.F) {
	f.Add("http=a:80;https=b:443;socks=c", "<local>;*.corp.example;10.*", "relay.example.com")
	f.Add("https=https://[::1]:1", "https://*:443 [fe80::1%25eth0]:*", "[2001:db8::1]:8443")
	f.Fuzz(func(t *testing.T, list, exceptions, host string) {
		u := &url.URL{Scheme: "https", Host: host}
		bypassed(exceptions, u)
		if via := fromList(list, "https"); via != nil && via.Hostname() == "" {
			t.Errorf("%q gives %q", list, via)
		}
		find, err := Environment(&httpproxy.Config{HTTPSProxy: "http://proxy", NoProxy: exceptions})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := find(u); err != nil {
			t.Error(err)
		}
	})
}
