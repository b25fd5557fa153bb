package policy

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// Values say which values parameters of the query, or header fields, may have. A value is text in which "*" stands for any
// text.
type Values struct {
	// Required must be there, once, with one of the values.
	Required map[string][]string
	// Allowed may be there, once, with one of the values.
	Allowed map[string][]string
	// Others says that names which stand in neither may come with any value. For header fields it is always so.
	Others bool
}

// Bounds of what is looked at in one request and of one rule.
const (
	maxParameters = 256
	maxNames      = 64
)

// values are Values, compiled. Names are compared by a fold that brings together what programs may take for one another:
// a name that folds to one of the rule's and is spelled otherwise is refused.
type values struct {
	byFold map[string]named
	others bool
	source *Values
}

type named struct {
	name     string
	required bool
	patterns []string
}

func compileValues(field string, v *Values, fold func(string) string, bad []*RuleError) (*values, []*RuleError) {
	out := &values{byFold: map[string]named{}, others: v.Others, source: v}
	for _, part := range []struct {
		name string
		list map[string][]string
	}{{"required", v.Required}, {"allowed", v.Allowed}} {
		for _, name := range slices.Sorted(maps.Keys(part.list)) {
			key, message := fold(name), ""
			switch {
			case key == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.Contains(name, "%"):
				message = "is no name (write it decoded, as the API reads it)"
			case out.byFold[key].name != "":
				message = fmt.Sprintf("and %q are one name to some programs (keep one)", out.byFold[key].name)
			case len(part.list[name]) == 0:
				message = "has no values (write \"*\" for any)"
			}
			if message != "" {
				bad = append(bad, &RuleError{Field: field + "." + part.name, Column: 1, Message: fmt.Sprintf("%q %s", name, message)})
			}
			out.byFold[key] = named{name, part.name == "required", part.list[name]}
		}
	}
	if len(out.byFold) > maxNames {
		bad = append(bad, &RuleError{Field: field, Column: 1, Message: fmt.Sprintf("more than %d names", maxNames)})
	}
	return out, bad
}

// reserved refuses header fields that are another's to judge or do not reach the API as they came.
func (v *values) reserved() (bad []*RuleError) {
	for _, n := range v.byFold {
		name := foldField(n.name)
		if !httpguts.ValidHeaderFieldName(n.name) || slices.Contains([]string{
			"authorization", "cookie", "host", "connection", "content-length", "content-type", "transfer-encoding", "te", "trailer",
			"upgrade", "expect", "keep-alive", "proxy-authorization", "proxy-connection",
		}, name) || strings.HasPrefix(name, "x-forwarded-") {
			bad = append(bad, &RuleError{Field: "headers", Column: 1, Message: fmt.Sprintf("%q cannot be judged here (it is no field name, belongs to the connection, or is written by relay or agent; content_type judges Content-Type)", n.name)})
		}
	}
	return bad
}

// checkQuery says what about a query the rule does not admit, "" for nothing.
func (v *values) checkQuery(query string) string {
	seen := 0
	if strings.Contains(query, ";") {
		return "the query has a \";\", which some programs take for a separator"
	}
	found := map[string]bool{}
	for raw := range strings.SplitSeq(query, "&") {
		if raw == "" {
			continue
		}
		if seen++; seen > maxParameters {
			return "the query has too many parameters"
		}
		rawName, rawValue, _ := strings.Cut(raw, "=")
		name, fault := decodeName(rawName)
		if fault != "" {
			return fault
		}
		key := foldQuery(name)
		n, known := v.byFold[key]
		switch {
		case !known && v.others:
			continue
		case !known:
			return fmt.Sprintf("the allow-list does not admit this call with the query parameter %.40q", name)
		case n.name != name:
			return fmt.Sprintf("the query parameter %.40q is spelled in a way that programs read differently", name)
		case found[key]:
			return fmt.Sprintf("the query parameter %.40q is there twice, of which programs take the one or the other", name)
		case !n.admits(valueReadings(rawValue)):
			return fmt.Sprintf("the allow-list does not admit this call with this value of the query parameter %.40q", name)
		}
		found[key] = true
	}
	return v.missing(found, "a query parameter")
}

func (v *values) missing(found map[string]bool, what string) string {
	for key, n := range v.byFold {
		if n.required && !found[key] {
			return "the allow-list admits this call only with " + what + " that is missing"
		}
	}
	return ""
}

// decodeName reads a parameter's name. One that programs may read in two ways is refused, as it could stand for another.
func decodeName(raw string) (name, fault string) {
	name, ok := unescape(strings.ReplaceAll(raw, "+", " "))
	if !ok || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.ContainsAny(name, "%&=;+") {
		return "", "the query has a parameter whose name programs read differently"
	}
	return name, ""
}

// valueReadings are the texts that programs may see in a value: "+" is a space to most, and itself to some.
func valueReadings(raw string) []string {
	plain, _ := unescape(raw)
	if !strings.Contains(raw, "+") {
		return []string{plain}
	}
	spaced, _ := unescape(strings.ReplaceAll(raw, "+", " "))
	return []string{plain, spaced}
}

// checkHeader says what about the header the rule does not admit, "" for nothing.
func (v *values) checkHeader(h http.Header) string {
	found := map[string]bool{}
	for name, lines := range h {
		key := foldField(name)
		if key == "connection" {
			if v.listed(lines) {
				return "the field Connection names a header field that the allow-list looks at"
			}
			continue
		}
		n, known := v.byFold[key]
		switch {
		case !known:
			continue
		case !strings.EqualFold(n.name, name):
			return fmt.Sprintf("the header field %.40q is spelled in a way that programs read differently", name)
		case len(lines) != 1 || found[key]:
			return fmt.Sprintf("the header field %.40q is there twice, of which programs take the one or the other", name)
		case !n.admits(lines):
			return fmt.Sprintf("the allow-list does not admit this call with this value of the header field %.40q", name)
		}
		found[key] = true
	}
	return v.missing(found, "a header field")
}

// listed reports whether a Connection field would have one of the rule's fields removed on the way.
func (v *values) listed(lines []string) bool {
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			if _, known := v.byFold[foldField(strings.TrimSpace(name))]; known {
				return true
			}
		}
	}
	return false
}

// admits reports whether one of the patterns matches each reading of a value.
func (n named) admits(readings []string) bool {
	for _, text := range readings {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) ||
			!slices.ContainsFunc(n.patterns, func(p string) bool { return matchText(p, text) }) {
			return false
		}
	}
	return true
}

// matchText matches text with a pattern in which "*" stands for any text, none included.
func matchText(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, middle := range parts[1 : len(parts)-1] {
		i := strings.Index(text, middle)
		if i < 0 {
			return false
		}
		text = text[i+len(middle):]
	}
	return true
}

// foldQuery brings together the spellings of a parameter's name that programs take for one: case (ASP.NET), what stands
// before "[" (PHP, Rack), and " ", "." and "_" (PHP).
func foldQuery(name string) string {
	if i := strings.IndexByte(name, '['); i > 0 {
		name = name[:i]
	}
	name = strings.TrimFunc(name, func(c rune) bool { return unicode.IsSpace(c) || isDropped(c) })
	return strings.NewReplacer(" ", "_", ".", "_").Replace(strings.ToLower(name))
}

// foldField brings together the spellings of a header field that programs which make variables of names take for one.
func foldField(name string) string {
	return strings.NewReplacer("_", "-", ".", "-", " ", "-").Replace(strings.ToLower(name))
}

func (v *values) canonical() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(v.byFold)) {
		n := v.byFold[key]
		fmt.Fprintf(&b, "%q:%v:%q,", n.name, n.required, slices.Sorted(slices.Values(n.patterns)))
	}
	return fmt.Sprintf("{%s%v}", b.String(), v.others)
}
