package connector

import (
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, method, target string
		matches                 bool
	}{
		{"POST /orders", "POST", "/orders", true},
		{"POST /orders", "POST", "/orders?x=/y", true},
		{"POST /orders", "POST", "/%6frders", true},
		{"POST /orders", "GET", "/orders", false},
		{"POST /orders", "POST", "/orders/", false},
		{"POST /orders", "POST", "/orders/7", false},
		{"POST,PATCH /orders/{id}", "PATCH", "/orders/a%2Fb", true},
		{"POST,PATCH /orders/{id}", "PATCH", "/orders/", false},
		{"POST /orders/**", "POST", "/orders", true},
		{"POST /orders/**", "POST", "/orders/7/lines", true},
		{"POST /orders/**", "POST", "/order", false},
		{"POST /**", "POST", "/", true},
		{"POST /", "POST", "/", true},
		{"POST /", "POST", "/x", false},
		{"POST /a%20b", "POST", "/a%20b", true},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil || p.matches(c.method, c.target) != c.matches {
			t.Errorf("%s and %s %s: %v, want %v (%v)", c.pattern, c.method, c.target, !c.matches, c.matches, err)
		}
	}
	for _, bad := range []string{"", "POST", "/orders", "POST orders", "post /x", "POST, /x", "POST /x?y", "POST /a//b", "POST /x/", "POST /{a}b", "POST /**/x", "POST /{}", "POST /x*", "POST /" + strings.Repeat("x", 600)} {
		if _, err := parsePattern(bad); err == nil {
			t.Errorf("%.40q was accepted", bad)
		}
	}
}

// Whatever is matched, it ends, and a pattern that was accepted matches its own path unless that has names in it.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"POST /orders", "GET,POST /a/{b}/**", "POST /%zz", "POST /", "POST /**"} {
		f.Add(s, "/orders/7?x")
	}
	f.Fuzz(func(t *testing.T, text, target string) {
		p, err := parsePattern(text)
		if err != nil {
			return
		}
		p.matches(p.methods[0], target)
		_, path, _ := strings.Cut(strings.TrimSpace(text), " ")
		path = strings.TrimSpace(path)
		if !strings.ContainsAny(path, "{}*") && !p.matches(p.methods[0], path) {
			t.Errorf("%q does not match its own path", text)
		}
	})
}
