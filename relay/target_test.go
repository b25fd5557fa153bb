package relay

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for raw, want := range map[string]string{
		"/":                          "/",
		"/a/../b//%2f?x#y":           "/a/../b//%2f?x#y",
		"//a/b":                      "//a/b",
		"http://relay/a/b?c":         "/a/b?c",
		"HTTPS://relay:443/a//b":     "/a//b",
		"http://relay":               "/",
		"http://relay?x=/y":          "/?x=/y",
		"*":                          "",
		"":                           "",
		"relay:443":                  "",
		"http:///a":                  "",
		"http://user@relay/a":        "",
		"http://user:pw@relay":       "",
		"ftp://relay/a":              "",
		"a/b":                        "",
		"http:/relay/a":              "",
		"\\a":                        "",
		"http://relay/a@b":           "/a@b",
		"https://relay/http://other": "/http://other",
	} {
		got, ok := parseTarget(raw)
		if ok != (want != "") || got.path != want {
			t.Errorf("%q: %q %v, want %q", raw, got.path, ok, want)
		}
	}
}

func TestSplitConnector(t *testing.T) {
	for path, want := range map[string]string{
		"/plant1/orders":             "plant1 orders /",
		"/plant1/orders/":            "plant1 orders /",
		"/plant1/orders?x=/a":        "plant1 orders /?x=/a",
		"/plant1/orders//a/../b?c/d": "plant1 orders //a/../b?c/d",
		"/plant1/orders/%2e%2e/x":    "plant1 orders /%2e%2e/x",
		"/plant1/ord%65rs/x":         "plant1 ord%65rs /x",
		"/plant1/orders;a=b/x":       "plant1 orders;a=b /x",
		"/plant1%2forders/x":         "plant1%2forders x /",
		"/plant1":                    "",
		"/plant1/":                   "",
		"/plant1?a/b":                "",
		"//plant1/orders":            "",
		"/plant1//orders":            "",
		"/":                          "",
	} {
		gw, name, rest, ok := splitConnector(path)
		if got := strings.Join([]string{gw, name, rest}, " "); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v, want %q", path, got, ok, want)
		}
	}
}

// FuzzTarget: what the relay makes of a target is always the caller's own bytes, whole and in order.
func FuzzTarget(f *testing.F) {
	for _, raw := range []string{"/plant1/orders/a?b", "http://relay/plant1/orders", "//a", "/a/..;/b", "*", "http://u@h/", "/a/b?"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		parsed, ok := parseTarget(raw)
		if !ok {
			return
		}
		if !strings.HasPrefix(parsed.path, "/") || !strings.HasSuffix(raw, strings.TrimPrefix(parsed.path, "/")) {
			t.Fatalf("%q became %q", raw, parsed.path)
		}
		gw, name, rest, ok := splitConnector(parsed.path)
		if !ok {
			return
		}
		if strings.ContainsAny(gw+name, "/?") || gw == "" || name == "" || rest[0] != '/' {
			t.Fatalf("%q: gateway %q, connector %q, rest %q", raw, gw, name, rest)
		}
		if whole := "/" + gw + "/" + name; whole+rest != parsed.path && whole+rest[1:] != parsed.path {
			t.Fatalf("%q was not split but changed: %q %q %q", raw, gw, name, rest)
		}
	})
}

func TestHostName(t *testing.T) {
	for host, want := range map[string]string{
		"relay.example.com": "relay.example.com", "Relay.Example.COM:8443": "relay.example.com", "relay.": "relay",
		"relay.:443": "relay", "[::1]:443": "", "": "", "127.0.0.1:1": "127.0.0.1",
	} {
		if got := hostName(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}
