package definition

import (
	"slices"
	"strings"
)

func (w *schemaWriter) items(s *object, place string, out *object) {
	switch items := s.get("items").(type) {
	case *object:
		out.set("items", w.schema(items, pointer(place, "items"), false))
		return
	case []any:
		w.report.lose(place, "A list with a schema for each position became one of anything")
	}
	if s.has("prefixItems") {
		w.report.lose(place, "A list with a schema for each position became one of anything")
	}
	out.set("items", &object{})
}

// properties converts what an object has. What it requires but does not describe is not said: Microsoft's validator
// refuses it.
func (w *schemaWriter) properties(s *object, place string, out *object) {
	props := s.object("properties")
	if props.len() > 0 {
		converted := &object{}
		for _, p := range props.all() {
			converted.set(p.key, w.schema(p.value, pointer(place, "properties", p.key), false))
		}
		out.set("properties", converted)
	}
	switch extra := s.get("additionalProperties").(type) {
	case *object:
		out.set("additionalProperties", w.schema(extra, pointer(place, "additionalProperties"), false))
	case bool:
		out.set("additionalProperties", extra)
	default:
		if patterns := s.object("patternProperties"); patterns.len() > 0 {
			w.report.lose(place, "Members told by the pattern of their names became members of any name")
			first := patterns.all()[0]
			out.set("additionalProperties", w.schema(first.value, pointer(place, "patternProperties", first.key), false))
		}
	}
	var required []string
	for _, name := range texts(s.list("required")) {
		p, ok := props.get(name).(*object)
		if ok && !p.flag("readOnly") && !slices.Contains(required, name) {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		out.set("required", anys(required))
	}
	w.discriminator(s, place, out, required)
}

func (w *schemaWriter) discriminator(s *object, place string, out *object, required []string) {
	if !s.has("discriminator") {
		return
	}
	name := s.text("discriminator")
	if d := s.object("discriminator"); d != nil {
		name = d.text("propertyName")
	}
	p := out.object("properties").object(name)
	if slices.Contains(required, name) && p.text("type") == "string" {
		out.set("discriminator", name)
		return
	}
	w.report.lose(place, "A discriminator that is no required text of its schema was left out")
}

// unsayable reports the words for which OpenAPI 2.0 has none.
func (w *schemaWriter) unsayable(s *object, place string) {
	for _, word := range []string{
		"not", "if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies", "contains", "propertyNames",
		"unevaluatedProperties", "unevaluatedItems",
	} {
		if s.has(word) {
			w.report.lose(place, "The condition %q of a schema was left out", word)
		}
	}
	if s.flag("writeOnly") {
		w.report.lose(place, "That a value is only ever sent (writeOnly) is not said")
	}
}

// extensions keeps what the author said to Power Platform, and other tools' words if there is room.
func (w *schemaWriter) extensions(s *object, place string, out *object) {
	for _, m := range s.all() {
		if !strings.HasPrefix(m.key, "x-") || m.key == "x-nullable" {
			continue
		}
		if !strings.HasPrefix(m.key, "x-ms-") {
			if w.rules.extensions && !hasRef(m.value) {
				out.set(m.key, m.value)
			}
			continue
		}
		if v, ok := microsoft(inSchema, m.key, m.value); ok {
			out.set(m.key, v)
		} else {
			w.report.lose(place, "%s was left out: Power Platform does not take it in a schema, or not in this form", shorten(m.key, 60))
		}
	}
	if s.flag("deprecated") {
		out.setDefault("x-ms-visibility", "advanced")
	}
}

// flatten reads compositions as one schema. OpenAPI 2.0 has only allOf, and Power Platform's designer shows the
// properties of none.
func (w *schemaWriter) flatten(s *object, place string, depth int) *object {
	if depth > maxHops {
		w.report.lose(place, "A composition of schemas nested more than %d levels deep was cut", maxHops)
		return &object{}
	}
	out := s.shallow()
	for _, word := range []string{"$ref", "allOf", "oneOf", "anyOf"} {
		out.remove(word)
	}
	w.spend(place, s.len())
	if ref, ok := s.get("$ref").(string); ok {
		out = both(out, w.flatTarget(ref, place, depth))
	}
	for _, m := range s.list("allOf") {
		if o, ok := m.(*object); ok {
			out = both(out, w.flatten(o, place, depth+1))
			w.spend(place, out.object("properties").len())
		}
	}
	for _, word := range []string{"oneOf", "anyOf"} {
		list, null := withoutNull(s.list(word))
		if null {
			out.set("nullable", true)
		}
		if len(list) > 0 {
			out = both(out, w.either(list, place, out, depth))
		}
	}
	return out
}

// flatTarget flattens the schema at a reference, once.
func (w *schemaWriter) flatTarget(ref, place string, depth int) *object {
	target, at, ok := w.target(ref)
	if !ok {
		w.report.lose(place, "A reference that leads nowhere in this document became a schema without a type (%s)", shorten(ref, 120))
		return &object{}
	}
	done, seen := w.flat[at]
	if seen && done == nil {
		w.report.lose(place, "A schema composed of itself was cut where it meets itself")
		return &object{}
	}
	if !seen {
		w.flat[at] = nil
		done = w.flatten(target, at, depth+1)
		w.flat[at] = done
	}
	w.spend(place, done.len()+done.object("properties").len())
	return done
}

// both merges schemas that hold at once; what a says goes before what b says.
func both(a, b *object) *object {
	out := a.shallow()
	for _, m := range b.all() {
		switch m.key {
		case "properties":
			out.set("properties", bothProperties(a.object("properties"), b.object("properties")))
		case "required":
			out.set("required", union(a.list("required"), b.list("required")))
		case "title", "x-ms-summary", "discriminator", "xml":
			if a.len() == 0 {
				out.set(m.key, m.value)
			}
		default:
			out.setDefault(m.key, m.value)
		}
	}
	return out
}

func bothProperties(a, b *object) *object {
	out := b.shallow()
	for _, p := range a.all() {
		one, isObject := p.value.(*object)
		other := b.object(p.key)
		if isObject && simpleWords(one) && simpleWords(other) {
			out.set(p.key, both(one, other))
			continue
		}
		out.set(p.key, p.value)
	}
	return out
}

// simpleWords reports whether a member is described by plain words alone, so that two descriptions can be joined.
func simpleWords(s *object) bool {
	for _, word := range []string{"$ref", "allOf", "oneOf", "anyOf", "properties", "items"} {
		if s.has(word) {
			return false
		}
	}
	return true
}

func union(a, b []any) []any {
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.ContainsFunc(out, func(o any) bool { return equal(o, v) }) {
			out = append(out, v)
		}
	}
	return out
}

// either reads schemas of which one holds as one schema that admits them all. around is what holds in any case.
func (w *schemaWriter) either(list []any, place string, around *object, depth int) *object {
	var variants []*object
	for _, v := range list {
		if o, ok := v.(*object); ok {
			if flat := w.flatten(o, place, depth+1); !condition(flat) {
				variants = append(variants, flat)
			}
		}
	}
	switch {
	case len(variants) == 0:
		w.report.lose(place, "That one of several sets of members is required is not said")
		return &object{}
	case len(variants) == 1:
		return variants[0]
	}
	var kinds []string
	for _, v := range variants {
		kinds = append(kinds, w.quietKind(v))
	}
	switch kind := oneKind(slices.Clone(kinds)); kind {
	case "object":
		w.report.lose(place, "One of several objects became one object with the members of all")
		return w.eitherObject(variants, place)
	case "array":
		return eitherArray(variants)
	case "string", "integer", "number", "boolean":
		return eitherPlain(variants, kind)
	}
	if around.has("type") || around.has("properties") {
		return &object{}
	}
	slices.Sort(kinds)
	named := strings.Join(slices.DeleteFunc(slices.Compact(kinds), func(k string) bool { return k == "" }), ", ")
	w.report.lose(place, "One of several types (%s) became a value without a type", orText(named, "any"))
	return &object{}
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// condition reports whether a schema only says what must be there: "either of these is required".
func condition(s *object) bool {
	for _, m := range s.all() {
		switch m.key {
		case "required", "not", "title", "description", "minProperties":
		default:
			return false
		}
	}
	return s.has("required") || s.has("not")
}

// quietKind is kind without a report.
func (w *schemaWriter) quietKind(s *object) string {
	quiet := &schemaWriter{doc: w.doc, report: &Report{}, rules: w.rules}
	return quiet.kind(s, "", &object{})
}

// eitherObject has the members of all; what all require is required.
func (w *schemaWriter) eitherObject(variants []*object, place string) *object {
	props := &object{}
	required := variants[0].list("required")
	for _, v := range variants {
		mine := v.list("required")
		required = slices.DeleteFunc(slices.Clone(required), func(r any) bool { return !slices.Contains(mine, r) })
		w.spend(place, v.object("properties").len())
		for _, p := range v.object("properties").all() {
			before, ok := props.get(p.key).(*object)
			now, isObject := p.value.(*object)
			switch {
			case !ok || !isObject:
				props.setDefault(p.key, p.value)
			case !equal(before, now):
				props.set(p.key, w.eitherMember(before, now, place))
			}
		}
	}
	out := obj("type", "object", "properties", props)
	if len(required) > 0 {
		out.set("required", required)
	}
	for _, v := range variants {
		if v.has("additionalProperties") && v.get("additionalProperties") != false {
			out.setDefault("additionalProperties", true)
		}
	}
	return out
}

// eitherMember admits two schemas of a member: plain values of one type, or anything.
func (w *schemaWriter) eitherMember(a, b *object, place string) *object {
	kinds := []string{w.quietKind(a), w.quietKind(b)}
	if a.has("$ref") || b.has("$ref") {
		kinds = []string{"object", "array"} // not looked into: it may lead back here
	}
	switch kind := oneKind(kinds); kind {
	case "string", "integer", "number", "boolean":
		return eitherPlain([]*object{a, b}, kind)
	case "object", "array":
		return obj("type", kind)
	}
	w.report.lose(place, "A member that differs between the variants of an object became one without a type")
	return &object{}
}

// eitherPlain keeps what all say alike, and lists the values of all if each lists its own.
func eitherPlain(variants []*object, kind string) *object {
	out := obj("type", kind)
	first := variants[0]
	var values []any
	listed := true
	for _, v := range variants {
		mine := v.list("enum")
		if v.has("const") {
			mine = []any{v.get("const")}
		}
		listed = listed && len(mine) > 0
		values = union(values, mine)
	}
	if listed {
		out.set("enum", values)
	}
	for _, m := range first.all() {
		alike := m.key != "type" && m.key != "enum" && m.key != "const"
		for _, v := range variants {
			alike = alike && v.has(m.key) && equal(v.get(m.key), m.value)
		}
		if alike {
			out.set(m.key, m.value)
		}
	}
	return out
}

func eitherArray(variants []*object) *object {
	out := obj("type", "array")
	for _, v := range variants {
		if !equal(v.get("items"), variants[0].get("items")) {
			return out
		}
	}
	out.set("items", variants[0].get("items"))
	return out
}
