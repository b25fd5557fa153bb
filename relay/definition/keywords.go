package definition

import (
	"encoding/json"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// formatsOf are the formats that Microsoft's schema knows, by type.
func formatsOf(kind string) []string {
	switch kind {
	case "integer":
		return []string{"int32", "int64"}
	case "number":
		return []string{"float", "double"}
	case "string":
		return []string{"byte", "binary", "date", "date-time", "password", "date-no-tz", "email", "html", "uri", "uuid"}
	}
	return nil
}

func (w *schemaWriter) format(s *object, place, kind string, top bool, out *object) {
	format := strings.TrimSpace(s.text("format"))
	if kind == "string" && format == "" {
		switch strings.ToLower(s.text("contentEncoding")) {
		case "base64", "base64url":
			format = "byte"
		case "binary":
			format = "binary"
		default:
			if m := s.text("contentMediaType"); m != "" && !strings.HasPrefix(m, "text/") && !isJSON(m) {
				format = "binary"
			}
		}
	}
	switch {
	case format == "":
	case format == "binary" && !top:
		w.report.lose(place, "Binary content inside a body lost its format: Power Platform knows it as a whole body alone")
	case slices.Contains(formatsOf(kind), format):
		out.set("format", format)
	case kind == "string" && (format == "uri-reference" || format == "url" || format == "iri"):
		out.set("format", "uri")
	case kind == "string" && format == "idn-email":
		out.set("format", "email")
	case kind == "integer" && (format == "uint32" || format == "uint64" || format == "long" || format == "timestamp" || format == "unix-time"):
		out.set("format", "int64")
	case kind == "number" && format == "decimal":
		out.set("format", "double")
	default:
		w.report.lose(place, "The format %q was left out: Power Platform does not know it for this type", shorten(format, 40))
	}
}

// words are what people read, and examples.
func (w *schemaWriter) words(s *object, place string, out *object) {
	if t := s.text("title"); t != "" {
		out.set("title", t)
	}
	if d := w.rules.description(s.text("description")); d != "" {
		out.set("description", d)
	}
	if s.flag("readOnly") {
		out.set("readOnly", true)
	}
	if docs := s.object("externalDocs"); docs != nil && w.rules.extensions {
		if d := externalDocs(docs); d != nil {
			out.set("externalDocs", d)
		}
	}
	if !w.rules.examples {
		return
	}
	if s.has("example") {
		out.set("example", withoutRefs(s.get("example")))
	} else if list := s.list("examples"); len(list) > 0 {
		out.set("example", withoutRefs(list[0]))
	}
}

// withoutRefs drops examples that contain "$ref": tools would follow it.
func withoutRefs(v any) any {
	if hasRef(v) {
		return nil
	}
	return v
}

func hasRef(v any) bool {
	switch v := v.(type) {
	case *object:
		return v.has("$ref") || slices.ContainsFunc(v.all(), func(m member) bool { return hasRef(m.value) })
	case []any:
		return slices.ContainsFunc(v, hasRef)
	}
	return false
}

func externalDocs(docs *object) *object {
	u, err := url.Parse(docs.text("url"))
	if err != nil || u.Scheme == "" || u.Host == "" {
		return nil
	}
	out := obj("url", docs.text("url"))
	if d := docs.text("description"); d != "" {
		out.set("description", d)
	}
	return out
}

// enum converts the values that a schema lists, and its default.
func (w *schemaWriter) enum(s *object, place, kind string, out *object) {
	values := s.list("enum")
	if s.has("const") {
		values = []any{s.get("const")}
	}
	var kept []any
	for _, v := range values {
		if v == nil {
			out.set("x-nullable", true)
			continue
		}
		if text, ok := coerce(v, kind); ok {
			v = text
		} else {
			w.report.lose(place, "A listed value that is not of the schema's type was left out")
			continue
		}
		if !slices.ContainsFunc(kept, func(k any) bool { return equal(k, v) }) {
			kept = append(kept, v)
		}
	}
	if len(kept) > 0 && kind != "object" && kind != "array" {
		out.set("enum", kept)
	}
	if !s.has("default") || s.get("default") == nil || hasRef(s.get("default")) {
		return
	}
	v, ok := coerce(s.get("default"), kind)
	if ok && len(kept) > 0 && out.has("enum") {
		ok = slices.ContainsFunc(kept, func(k any) bool { return equal(k, v) })
	}
	if !ok {
		w.report.lose(place, "A default that is not of the schema's type, or not among its values, was left out")
		return
	}
	out.set("default", v)
}

// coerce brings a value to a type if it says the same in it: true and "true", 1 and "1".
func coerce(v any, kind string) (any, bool) {
	if fits(v, kind) {
		return v, true
	}
	switch text := scalarText(v); {
	case text == "":
	case kind == "string":
		return text, true
	case kind == "boolean" && (text == "true" || text == "false"):
		return text == "true", true
	case kind == "integer":
		if f, ok := new(big.Float).SetString(text); ok && f.IsInt() && len(text) < 30 {
			return json.Number(f.Text('f', 0)), true
		}
	case kind == "number" && json.Valid([]byte(text)) && kindOf(json.Number(text)) != "null":
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return json.Number(text), true
		}
	}
	return nil, false
}

// scalarText is a plain value as text; "" for others.
func scalarText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// bounds converts the limits that belong to a type; a pair that contradicts itself is left out.
func (w *schemaWriter) bounds(s *object, kind string, out *object) {
	switch kind {
	case "string":
		countPair(s, out, "minLength", "maxLength")
		if p := s.text("pattern"); p != "" && goodPattern(p) {
			out.set("pattern", p)
		}
	case "array":
		countPair(s, out, "minItems", "maxItems")
		if s.flag("uniqueItems") {
			out.set("uniqueItems", true)
		}
	case "object":
		countPair(s, out, "minProperties", "maxProperties")
	case "integer", "number":
		limits(s, out)
	}
}

func countPair(s, out *object, low, high string) {
	l, okLow := count(s.get(low))
	h, okHigh := count(s.get(high))
	if okLow && okHigh && l > h {
		return
	}
	if okLow {
		out.set(low, num(l))
	}
	if okHigh {
		out.set(high, num(h))
	}
}

func count(v any) (int, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	return int(f), err == nil && f >= 0 && f < 1<<53 && f == float64(int(f))
}

// limits converts minimum and maximum; OpenAPI 3.1 has numbers where 2.0 has truths.
func limits(s, out *object) {
	low, lowExclusive, okLow := limit(s, "minimum", "exclusiveMinimum")
	high, highExclusive, okHigh := limit(s, "maximum", "exclusiveMaximum")
	if okLow && okHigh {
		l, _ := strconv.ParseFloat(low.String(), 64)
		if h, _ := strconv.ParseFloat(high.String(), 64); l > h {
			return
		}
	}
	set := func(ok bool, key string, n json.Number, exclusiveKey string, exclusive bool) {
		if ok {
			out.set(key, n)
			if exclusive {
				out.set(exclusiveKey, true)
			}
		}
	}
	set(okLow, "minimum", low, "exclusiveMinimum", lowExclusive)
	set(okHigh, "maximum", high, "exclusiveMaximum", highExclusive)
	if m, ok := s.number("multipleOf"); ok {
		if f, err := strconv.ParseFloat(m.String(), 64); err == nil && f > 0 {
			out.set("multipleOf", m)
		}
	}
}

func limit(s *object, key, exclusiveKey string) (n json.Number, exclusive, ok bool) {
	n, ok = s.number(key)
	if e, isNumber := s.number(exclusiveKey); isNumber {
		return e, true, true
	}
	return n, ok && s.flag(exclusiveKey), ok
}

// goodPattern accepts expressions of ECMA 262 that Go's own syntax lacks.
func goodPattern(p string) bool {
	if _, err := regexp.Compile(p); err == nil {
		return true
	}
	for _, known := range []string{"(?=", "(?!", "(?<", `\u`, `\1`, `\/`, `\-`, `\p`, `\c`, "\\x", `\ `, `\_`, `\@`, `\#`, `\"`, `\'`, `\:`} {
		if strings.Contains(p, known) {
			return balanced(p)
		}
	}
	return false
}

// balanced counts brackets outside of escapes and sets.
func balanced(p string) bool {
	depth, set, escaped := 0, false, false
	for _, r := range p {
		switch {
		case escaped:
			escaped = false
		case r == '\\':
			escaped = true
		case set:
			set = r != ']'
		case r == '[':
			set = true
		case r == '(':
			depth++
		case r == ')':
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return depth == 0 && !set && !escaped
}
