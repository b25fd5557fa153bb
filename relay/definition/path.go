package definition

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// variable is one of a path's template. It is compiled once and never changed.
var variable = regexp.MustCompile(`\{([^{}/]*)\}`)

// cleanPath brings a path to the form that OpenAPI 2.0 has: it begins with a slash, ends before the query, and its
// variables have plain names. What the query fixes becomes parameters.
func cleanPath(path string) (clean string, fixed []*object, err error) {
	path, fragment, hasFragment := strings.Cut(path, "#")
	path, query, _ := strings.Cut(path, "?")
	if hasFragment && fragment != "" && !strings.HasPrefix(path, "/") {
		return "", nil, errors.New("it is no path")
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	seen := map[string]int{}
	path = variable.ReplaceAllStringFunc(path, func(v string) string {
		name := variableName(v[1 : len(v)-1])
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s%d", name, seen[name])
		}
		return "{" + name + "}"
	})
	rest := variable.ReplaceAllString(path, "")
	switch {
	case strings.ContainsAny(rest, "{}"):
		return "", nil, errors.New("its braces do not match")
	case strings.Contains(rest, "*"):
		return "", nil, errors.New("it has a *, which Power Platform does not allow")
	case strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		path = strings.Map(func(r rune) rune {
			if r <= ' ' || r == 0x7f {
				return -1
			}
			return r
		}, path)
	}
	return path, fixedQuery(query), nil
}

// variableName drops the operators of RFC 6570: {+path}, {path*}, {id:[0-9]+}.
func variableName(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), ":")
	s = strings.Trim(strings.TrimSpace(s), "+#*?&;./=")
	s, _, _ = strings.Cut(s, "=")
	switch strings.ToLower(s) {
	case "":
		return "value"
	case "authorization", "connectionid":
		return s + "_" // Power Platform reserves these names; that of a path's variable is free
	}
	return s
}

// fixedQuery makes parameters of a query that is part of the path, for Power Platform to send as it stands.
func fixedQuery(query string) []*object {
	var out []*object
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		if err != nil || name == "" || strings.ContainsAny(name, "{}") {
			continue
		}
		p := obj("name", name, "in", "query", "required", true, "type", "string")
		if text, err := url.QueryUnescape(value); err == nil && !strings.ContainsAny(text, "{}") {
			p.set("default", text)
			p.set("x-ms-visibility", "internal")
		}
		out = append(out, p)
	}
	return out
}
