package definition

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A schemaWriter turns the schemas of a document into those of OpenAPI 2.0 that Power Platform takes. It writes down
// what it knows of, and nothing else, so that its output keeps to Microsoft's schema whatever came in. Schemas that are
// referred to become definitions, each once.
type schemaWriter struct {
	doc    *Document
	report *Report
	rules  rules

	definitions *object           // by name; complete after finish
	names       map[string]string // of a place, and what is said beside a reference to it
	queue       []pending
	flat        map[string]*object // flattened, by place; nil while it is made
	work        int
}

// pending is a definition that has a name and is still to be written.
type pending struct {
	name, place string
	source      *object
}

// maxWork bounds the schemas that one conversion may write: compositions of compositions can grow without measure.
const maxWork = 3_000_000

// tooComplex ends a conversion that exceeds maxWork. It is thrown, and caught by convert.
type tooComplex struct{ place string }

func newSchemaWriter(d *Document, report *Report, r rules) *schemaWriter {
	return &schemaWriter{
		doc: d, report: report, rules: r, definitions: &object{},
		names: map[string]string{}, flat: map[string]*object{},
	}
}

func (w *schemaWriter) spend(place string, n int) {
	if w.work += n; w.work > maxWork {
		panic(tooComplex{place})
	}
}

// finish writes the definitions that are referred to.
func (w *schemaWriter) finish() {
	for len(w.queue) > 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		w.definitions.set(next.name, w.plain(next.source, next.place, false))
	}
	w.definitions.byKey()
}

// schema converts one. top says that it is a whole body, where alone binary content may stand.
func (w *schemaWriter) schema(v any, place string, top bool) *object {
	w.spend(place, 1)
	s, ok := v.(*object)
	if !ok {
		if v == false {
			w.report.lose(place, "A schema that nothing matches (false) became one that everything matches")
		}
		return &object{}
	}
	if ref, ok := s.get("$ref").(string); ok {
		return w.reference(s, ref, place, top)
	}
	if only, rest, ok := onlyMember(s); ok {
		if target, isRef := only.get("$ref").(string); isRef {
			return w.reference(rest.with("$ref", target), target, place, top)
		}
	}
	return w.plain(s, place, top)
}

// with is a shallow copy with another member.
func (o *object) with(key string, value any) *object {
	c := o.shallow()
	c.set(key, value)
	return c
}

// onlyMember reads allOf, oneOf and anyOf of one schema (and null) as that schema with what stands beside.
func onlyMember(s *object) (only, rest *object, ok bool) {
	for _, word := range []string{"allOf", "oneOf", "anyOf"} {
		list, isList := s.get(word).([]any)
		if !isList {
			continue
		}
		if ok || s.has("properties") || s.has("items") {
			return nil, nil, false // more than one of them
		}
		members, null := withoutNull(list)
		if len(members) != 1 {
			return nil, nil, false
		}
		if only, ok = members[0].(*object); !ok {
			return nil, nil, false
		}
		rest = s.shallow()
		rest.remove(word)
		rest.remove("discriminator")
		if null && word != "allOf" {
			rest.set("nullable", true)
		}
	}
	return only, rest, ok
}

func withoutNull(list []any) (members []any, null bool) {
	for _, v := range list {
		if o, ok := v.(*object); ok && o.text("type") == "null" {
			null = true
			continue
		}
		members = append(members, v)
	}
	return members, null
}

// reference converts a $ref. OpenAPI 2.0 has nothing beside it; what is said there makes a definition of its own.
func (w *schemaWriter) reference(s *object, ref, place string, top bool) *object {
	target, at, ok := w.target(ref)
	if !ok {
		w.report.lose(place, "A reference that leads nowhere in this document became a schema without a type (%s)", shorten(ref, 120))
		rest := s.shallow()
		rest.remove("$ref")
		return w.plain(rest, place, top)
	}
	beside := w.beside(s, place)
	if beside.len() == 0 && !inlined(target) {
		return obj("$ref", "#/definitions/"+w.define(at, "", target))
	}
	merged := target.shallow()
	for _, m := range beside.all() {
		merged.set(m.key, m.value)
	}
	if inlined(target) {
		return w.plain(merged, at, top)
	}
	return obj("$ref", "#/definitions/"+w.define(at, string(encode(beside, "")), merged))
}

// target follows references that lead to references.
func (w *schemaWriter) target(ref string) (*object, string, bool) {
	v, at, ok := w.doc.lookup(ref)
	for range maxHops {
		o, isObject := v.(*object)
		if !ok || !isObject {
			return nil, "", false
		}
		next, isRef := o.get("$ref").(string)
		if !isRef || o.len() > 1 {
			return o, at, !isRef || next != ref
		}
		v, at, ok = w.doc.lookup(next)
	}
	return nil, "", false
}

// beside is what is said beside a reference and has a meaning there.
func (w *schemaWriter) beside(s *object, place string) *object {
	out := &object{}
	for _, m := range s.all() {
		switch m.key {
		case "$ref", "x-nullable":
		case "nullable":
			if m.value == true {
				w.report.lose(place, "That an object may be null is not said")
			}
		case "title", "description", "readOnly", "default", "example":
			if w.rules.beside {
				out.set(m.key, m.value)
			}
		default:
			if strings.HasPrefix(m.key, "x-ms-") || w.doc.Form == FormOpenAPI1 && !strings.HasPrefix(m.key, "x-") {
				out.set(m.key, m.value)
			}
		}
	}
	return out
}

// inlined reports whether a schema is so small that a copy is better than a definition: a plain value.
func inlined(s *object) bool {
	switch s.get("type") {
	case "string", "integer", "number", "boolean":
	default:
		return false
	}
	return !s.has("allOf") && !s.has("oneOf") && !s.has("anyOf") && len(s.list("enum")) <= 8
}

// define gives the name of the definition for the schema at a place.
func (w *schemaWriter) define(at, beside string, source *object) string {
	key := at + "\x00" + beside
	if name, ok := w.names[key]; ok {
		return name
	}
	name := w.freeName(at)
	w.names[key] = name
	w.definitions.set(name, nil)
	w.queue = append(w.queue, pending{name, at, source})
	return name
}

func (w *schemaWriter) freeName(at string) string {
	base := at[strings.LastIndexByte(at, '/')+1:]
	if base = cleanName(unescapePointer(base)); base == "" {
		base = "Schema"
	}
	name := base
	for n := 2; w.definitions.has(name); n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	return name
}

// cleanName keeps what needs no escaping in a reference.
func cleanName(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '_'
	}, s), "_")
}

// plain converts a schema that is no reference.
func (w *schemaWriter) plain(s *object, place string, top bool) *object {
	if s.has("allOf") || s.has("oneOf") || s.has("anyOf") || s.has("$ref") {
		s = w.flatten(s, place, 0)
	}
	w.spend(place, s.len())
	out := &object{}
	kind := w.kind(s, place, out)
	if kind == "" && s.flag("x-ms-notification-url") {
		kind = "string"
	}
	if kind == "file" && !top {
		w.report.lose(place, "A file inside a body became text")
		kind = "string"
	}
	if kind != "" {
		out.set("type", kind)
	}
	w.format(s, place, kind, top, out)
	w.words(s, place, out)
	w.enum(s, place, kind, out)
	w.bounds(s, kind, out)
	switch kind {
	case "array":
		w.items(s, place, out)
	case "object":
		w.properties(s, place, out)
	}
	w.extensions(s, place, out)
	w.unsayable(s, place)
	return out
}

// kind gives the one type of a schema, or "" where it has none or several.
func (w *schemaWriter) kind(s *object, place string, out *object) string {
	kind := ""
	switch t := s.get("type").(type) {
	case string:
		kind = strings.ToLower(strings.TrimSpace(t))
	case []any:
		names := slices.DeleteFunc(texts(t), func(n string) bool { return n == "null" })
		if len(names) < len(t) {
			out.set("x-nullable", true)
		}
		if kind = oneKind(names); kind == "" && len(names) > 1 {
			w.report.lose(place, "A value of several types (%s) became one without a type", strings.Join(names, ", "))
			return ""
		}
	}
	if s.flag("nullable") || s.flag("x-nullable") {
		out.set("x-nullable", true)
	}
	switch kind {
	case "string", "integer", "number", "boolean", "array", "object", "file":
		return kind
	case "null":
		out.set("x-nullable", true)
		return ""
	case "any", "":
	case "int", "long":
		return "integer"
	case "float", "double", "decimal":
		return "number"
	case "bool":
		return "boolean"
	case "date", "datetime", "date-time", "uuid":
		return "string"
	default:
		w.report.lose(place, "The unknown type %q was left out", shorten(kind, 40))
	}
	switch {
	case s.has("properties") || s.has("additionalProperties"):
		return "object"
	case s.has("items"):
		return "array"
	}
	return kindOfEnum(s.list("enum"))
}

// oneKind is the type that covers all.
func oneKind(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 1:
		return names[0]
	case slices.Equal(names, []string{"integer", "number"}):
		return "number"
	}
	return ""
}

func kindOfEnum(values []any) string {
	var names []string
	for _, v := range values {
		if v != nil {
			names = append(names, kindOf(v))
		}
	}
	return oneKind(names)
}

// kindOf is the JSON Schema type of a value.
func kindOf(v any) string {
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
		return "integer"
	case []any:
		return "array"
	case *object:
		return "object"
	}
	return "null"
}

// fits reports whether a value is of a type.
func fits(v any, kind string) bool {
	k := kindOf(v)
	return kind == "" || k == kind || k == "integer" && kind == "number"
}
