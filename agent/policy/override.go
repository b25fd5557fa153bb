package policy

import (
	"net/http"
	"slices"
	"strings"
)

// Overrides gives the header fields by which some programs let a caller replace the method or the target of a request,
// so that what runs is not what the policy saw.
func Overrides() []string {
	return []string{
		"X-HTTP-Method-Override",
		"X-HTTP-Method",
		"X-Method-Override",
		"X-Method",
		"X-Original-Method",
		"X-Forwarded-Method",
		"X-Original-URL",
		"X-Original-URI",
		"X-Rewrite-URL",
		"X-Override-URL",
		"X-Forwarded-URI",
	}
}

// IsOverride reports whether a header field is one of Overrides, in any spelling: programs that make variables of names
// (CGI, WSGI, PHP) read X_HTTP_METHOD as X-HTTP-Method.
func IsOverride(name string) bool {
	var folded [32]byte // no memory is taken: this is asked for every X- field of every request
	if len(name) > len(folded) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '_' || c == '.' || c == ' ': // PHP makes "_" of all three
			c = '-'
		}
		folded[i] = c
	}
	switch string(folded[:len(name)]) {
	case "x-http-method-override", "x-http-method", "x-method-override", "x-method", "x-original-method", "x-forwarded-method",
		"x-original-url", "x-original-uri", "x-rewrite-url", "x-override-url", "x-forwarded-uri":
		return true
	}
	return false
}

// StripOverrides removes the fields of Overrides from h, in any spelling, but for those in allowed, which the API's
// configuration names.
func StripOverrides(h http.Header, allowed []string) {
	for name := range h {
		if len(name) >= len("X-Method") && (name[0] == 'X' || name[0] == 'x') && IsOverride(name) &&
			!slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, name) }) {
			delete(h, name)
		}
	}
}
