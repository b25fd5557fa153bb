package connector

import (
	"errors"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Bounds of a connector's patterns.
const (
	maxPatterns      = 64
	maxPatternLength = 512
)

// A pattern names operations, in the form of the agent's rules: "POST /orders", "POST,PATCH /orders/{id}", "POST /hooks/**".
// It admits nothing: it says for which calls the relay does more than pass them on. Of paths that the agent refuses as
// ambiguous it need not be right.
type pattern struct {
	methods  []string
	segments []string // "" is any one segment
	deeper   bool     // it ended with "/**"
}

func parsePattern(s string) (pattern, error) {
	methods, path, ok := strings.Cut(strings.TrimSpace(s), " ")
	path = strings.TrimSpace(path)
	if !ok || len(s) > maxPatternLength || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?# ") {
		return pattern{}, errors.New("write METHOD /path, such as POST /orders, POST,PATCH /orders/{id} or POST /hooks/**")
	}
	p := pattern{}
	for m := range strings.SplitSeq(methods, ",") {
		if !httpguts.ValidHeaderFieldName(m) || m != strings.ToUpper(m) {
			return pattern{}, errors.New("a method is a word in capitals, such as POST")
		}
		p.methods = append(p.methods, m)
	}
	path, p.deeper = strings.CutSuffix(path, "/**")
	if path == "" {
		return p, nil
	}
	for seg := range strings.SplitSeq(path[1:], "/") {
		inside := len(seg) > 2 && seg[0] == '{' && seg[len(seg)-1] == '}' && !strings.ContainsAny(seg[1:len(seg)-1], "{}")
		switch {
		case inside:
			seg = ""
		case strings.ContainsAny(seg, "{}*"), seg == "" && path != "/":
			return pattern{}, errors.New("a segment of the path is a word or {name}, and ** stands at the end alone")
		case seg != "":
			seg = plainSegment(seg)
		}
		if path != "/" {
			p.segments = append(p.segments, seg)
		}
	}
	return p, nil
}

// plainSegment undoes percent-encoding, so that one segment has one form.
func plainSegment(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// matches says whether a call is of one of the operations.
func (p pattern) matches(method, target string) bool {
	found := false
	for _, m := range p.methods {
		found = found || m == method
	}
	path, _, _ := strings.Cut(target, "?")
	if !found || !strings.HasPrefix(path, "/") {
		return false
	}
	var segments []string
	if path != "/" {
		segments = strings.Split(path[1:], "/")
	}
	if len(segments) < len(p.segments) || len(segments) > len(p.segments) && !p.deeper {
		return false
	}
	for i, want := range p.segments {
		if got := plainSegment(segments[i]); got == "" || want != "" && got != want {
			return false
		}
	}
	return true
}

// patterns parses what was checked when the connector was published.
func patterns(texts []string) []pattern {
	var out []pattern
	for _, s := range texts {
		if p, err := parsePattern(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}
