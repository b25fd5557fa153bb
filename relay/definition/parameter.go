package definition

import (
	"slices"
	"strings"
)

// maxParameters bounds those that one operation gets when objects are taken apart.
const maxParameters = 200

// parameters converts those of the path and of the operation, and the request's body.
func (c *converter) parameters(op *operation, in *object, from source) {
	list := &parameterList{c: c, op: op, renamed: from.renamed}
	for _, p := range from.fixed {
		list.add(p, op.place)
	}
	// The operation's own win over the path's; what is first in the list is kept.
	list.read(in.list("parameters"), pointer(op.place, "parameters"))
	list.read(from.item.list("parameters"), pointer(from.place, "parameters"))
	if in.has("requestBody") {
		c.requestBody(list, in)
	}
	c.consumes(list, in)
	list.finish()
	if len(list.out) > 0 {
		op.value.set("parameters", anys(list.out))
	}
}

// parameterList gathers the parameters of one operation.
type parameterList struct {
	c       *converter
	op      *operation
	renamed map[string]string
	out     []*object
	media   []string // of the request, for 2.0 already chosen
}

// add keeps a parameter unless one of that name and place is there.
func (l *parameterList) add(p *object, place string) {
	name, in := p.text("name"), p.text("in")
	same := func(o *object) bool {
		if in == "header" && o.text("in") == in {
			return strings.EqualFold(o.text("name"), name)
		}
		return o.text("name") == name && o.text("in") == in || in == "body" && o.text("in") == in
	}
	if slices.ContainsFunc(l.out, same) {
		return
	}
	if len(l.out) >= maxParameters {
		l.c.report.lose(place, "Parameters beyond the %dth of an operation were left out", maxParameters)
		return
	}
	l.out = append(l.out, p)
}

func (l *parameterList) read(list []any, place string) {
	for i, v := range list {
		at := pointer(place, num(i).String())
		p, at, ok := l.c.doc.resolve(v, at)
		if !ok {
			l.c.report.lose(at, "A parameter whose description is not in this document was left out")
			continue
		}
		l.one(p, at)
	}
}

// one converts one parameter, which may become several, or none.
func (l *parameterList) one(p *object, place string) {
	name, in := strings.TrimSpace(scalarText(p.get("name"))), p.text("in")
	if in == "body" {
		l.body(p, place)
		return
	}
	if name == "" {
		l.c.report.lose(place, "A parameter without a name was left out")
		return
	}
	switch reason := refused(name, in); {
	case reason != "":
		l.c.report.lose(place, "The %s parameter %s was left out: %s", in, shorten(name, 60), reason)
		return
	case in == "path":
		name = variableName(name)
		if other, ok := l.renamed[name]; ok {
			name = other
		}
	}
	schema, at := l.schemaOf(p, place)
	if in == "formData" {
		l.field(name, schema, p, at)
		return
	}
	if l.c.quietKind(schema) == "object" && in != "path" {
		l.apart(name, in, schema, p, at)
		return
	}
	l.add(l.c.parameter(name, in, schema, p, at), place)
}

// refused says why Power Platform takes no such parameter.
func refused(name, in string) string {
	switch in {
	case "query", "header", "path", "formData":
	case "cookie":
		return "Power Platform sends no cookies of its own"
	default:
		return "OpenAPI 2.0 does not know where it is sent"
	}
	switch {
	case in == "header" && strings.EqualFold(name, "Authorization"):
		return "the connection sends it"
	case in == "header" && (strings.EqualFold(name, "Cookie") || strings.EqualFold(name, "Host") || strings.EqualFold(name, "Content-Length")):
		return "Power Platform does not let a flow set it"
	case strings.EqualFold(name, "Authorization"):
		return "Power Platform allows no parameter of this name"
	case strings.EqualFold(name, "connectionId") && in != "path":
		return "Power Platform allows no parameter of this name"
	}
	return ""
}

// schemaOf is what a parameter may be: its own words in 2.0, its schema in 3.
func (l *parameterList) schemaOf(p *object, place string) (*object, string) {
	v, at := p.get("schema"), pointer(place, "schema")
	if v == nil {
		if content := p.object("content"); content.len() > 0 {
			first := content.all()[0]
			l.c.report.lose(place, "A parameter with a content type of its own (%s) became text", first.key)
			return obj("type", "string"), place
		}
		return l.c.flatten(schemaWords(p), place, 0), place
	}
	if s, ok := v.(*object); ok {
		return l.c.flatten(s, at, 0), at
	}
	return &object{}, at
}

// schemaWords is a parameter of 2.0 as its own schema: without the extensions that are copied, or reported, with the parameter.
func schemaWords(p *object) *object {
	words := p.shallow()
	for _, m := range p.all() {
		if strings.HasPrefix(m.key, "x-ms-") && (slices.Contains(extensionsAt(inParameter), m.key) || !slices.Contains(extensionsAt(inSchema), m.key)) {
			words.remove(m.key)
		}
	}
	return words
}

// parameter writes one that is no body.
func (c *converter) parameter(name, in string, schema, p *object, place string) *object {
	out := obj("name", name, "in", in)
	required := p.flag("required") || in == "path"
	out.set("required", required)
	if d := strings.TrimSpace(p.text("description")); d != "" {
		out.set("description", d)
	} else if d := strings.TrimSpace(schema.text("description")); d != "" {
		out.set("description", d)
	}
	c.simple(schema, place, in, out)
	if out.text("type") == "array" {
		if f := collection(p, in, c.doc.Form); f != "" && f != "csv" {
			out.set("collectionFormat", f)
		}
	}
	if p.flag("allowEmptyValue") && (in == "query" || in == "formData") {
		out.set("allowEmptyValue", true)
	}
	if in == "header" || in == "path" {
		out.remove("allowEmptyValue")
	}
	if p != schema {
		c.copyExtensions(schema, place, inParameter, out)
	}
	c.copyExtensions(p, place, inParameter, out)
	if in != "path" && out.has("x-ms-url-encoding") || in == "header" && out.has("x-ms-dynamic-tree") {
		out.remove("x-ms-url-encoding") // queries are always encoded once, and the validator refuses it there
	}
	if in != "path" && in != "query" {
		out.remove("x-ms-dynamic-tree")
	}
	if p.flag("deprecated") || schema.flag("deprecated") {
		out.setDefault("x-ms-visibility", "advanced")
	}
	if v := exampleOf(p, schema); v != nil && c.rules.samples {
		out.set(sampleKey, v)
	}
	return out
}

// sampleKey is where a parameter's example goes on the way to a format that has one.
const sampleKey = "x-sallyport-sample"

// exampleOf is the example that the author gives of a parameter, if it is a plain value.
func exampleOf(p, schema *object) any {
	candidates := []any{p.get("example"), p.get("x-example"), schema.get("example")}
	for _, e := range p.object("examples").all() {
		if o, ok := e.value.(*object); ok {
			candidates = append(candidates, o.get("value"))
		}
	}
	for _, v := range append(candidates, schema.list("examples")...) {
		switch v.(type) {
		case nil, *object, []any:
		default:
			return v
		}
	}
	return nil
}

// simple writes the words of a plain value or a list of them, as parameters and headers have them.
func (c *converter) simple(schema *object, place, in string, out *object) {
	value := c.plain(schema, place, false)
	kind := value.text("type")
	if kind == "" || kind == "object" || kind == "file" {
		if kind == "object" {
			c.report.lose(place, "An object in a parameter became text")
		}
		kind = "string"
		if !value.has("enum") || kindOfEnum(value.list("enum")) != "string" {
			value = &object{}
		}
	}
	out.set("type", kind)
	for _, m := range value.all() {
		switch m.key {
		case "format", "default", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern",
			"maxItems", "minItems", "uniqueItems", "enum", "multipleOf", "x-nullable":
			if m.key != "x-nullable" || in != "items" {
				out.set(m.key, m.value)
			}
		}
	}
	if kind == "array" {
		items, _ := schema.get("items").(*object)
		if items == nil {
			items = obj("type", "string")
		}
		element := &object{}
		c.simple(c.flatten(items, pointer(place, "items"), 0), pointer(place, "items"), "items", element)
		if element.text("type") == "array" {
			element = obj("type", "string")
		}
		element.remove("default")
		out.set("items", element)
	}
}

// collection is how a list is written.
func collection(p *object, in, form string) string {
	if form == FormSwagger {
		f := p.text("collectionFormat")
		if !slices.Contains([]string{"csv", "ssv", "tsv", "pipes", "multi"}, f) || f == "multi" && in != "query" && in != "formData" {
			return ""
		}
		return f
	}
	style := p.text("style")
	explode, said := p.get("explode").(bool)
	if !said {
		explode = style == "" || style == "form"
	}
	switch {
	case in != "query" && in != "formData":
		return "csv"
	case style == "spaceDelimited" && !explode:
		return "ssv"
	case style == "pipeDelimited" && !explode:
		return "pipes"
	case explode:
		return "multi"
	}
	return "csv"
}

// apart makes parameters of an object's members, as its style sends them.
func (l *parameterList) apart(name, in string, schema, p *object, place string) {
	style := p.text("style")
	explode, said := p.get("explode").(bool)
	members := schema.object("properties")
	deep := style == "deepObject"
	if members.len() == 0 || in != "query" || !deep && (said && !explode || style != "" && style != "form") {
		l.add(l.c.parameter(name, in, obj("type", "string"), p, place), place)
		l.c.report.lose(place, "An object in a parameter became text")
		return
	}
	prefix := ""
	if deep {
		prefix = name
	}
	l.members(prefix, in, schema, p, place, 1)
	l.c.report.lose(place, "An object in a parameter became a parameter for each of its members")
}

// maxApart bounds how deep objects are taken apart.
const maxApart = 4

// members adds a parameter for each member: prefix[member], or the member's own name where there is no prefix.
func (l *parameterList) members(prefix, in string, schema, p *object, place string, depth int) {
	required := schema.list("required")
	for _, m := range schema.object("properties").all() {
		s, _ := m.value.(*object)
		flat := l.c.flatten(s, place, 0)
		if flat.flag("readOnly") {
			continue
		}
		name := m.key
		if prefix != "" {
			name = prefix + "[" + m.key + "]"
		}
		need := slices.Contains(required, any(m.key)) && (p == nil || p.flag("required"))
		switch kind := l.c.quietKind(flat); {
		case kind == "object" && flat.object("properties").len() > 0 && depth < maxApart && len(l.out) < maxParameters:
			l.members(name, in, flat, obj("required", need), place, depth+1)
		case kind == "object":
			l.c.report.lose(place, "Members of an object in a form or query were left out: they have no fixed names, or lie too deep")
		default:
			if kind == "array" && prefix != "" {
				name += "[]"
			}
			l.add(l.c.parameter(name, in, flat, obj("required", need, "style", "form"), place), place)
		}
	}
}
