package definition

import (
	"slices"
	"strings"
)

// The content types that Power Platform takes.
const (
	typeJSON      = "application/json"
	typeText      = "text/plain"
	typeForm      = "application/x-www-form-urlencoded"
	typeMultipart = "multipart/form-data"
)

func supported() []string { return []string{typeJSON, typeText, typeMultipart, typeForm} }

// mediaType is a content type without its parameters.
func mediaType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(s))
}

func isJSON(s string) bool {
	m := mediaType(s)
	return m == typeJSON || m == "text/json" || strings.HasSuffix(m, "+json") || m == "application/*" || m == "*/*"
}

// textual reports whether a content of this type can be shown as text.
func textual(s string) bool {
	m := mediaType(s)
	return strings.HasPrefix(m, "text/") || strings.HasSuffix(m, "xml") || strings.HasSuffix(m, "+xml") || strings.HasSuffix(m, "yaml") || strings.HasSuffix(m, "javascript")
}

// withoutBody reports whether Power Platform sends no body with a method.
func withoutBody(method string) bool { return method == "get" || method == "head" }

// body adds the body parameter of OpenAPI 2.0.
func (l *parameterList) body(p *object, place string) {
	if withoutBody(l.op.method) {
		l.c.report.lose(place, "The body of a %s was left out: Power Platform sends none", strings.ToUpper(l.op.method))
		return
	}
	out := obj("name", orText(strings.TrimSpace(p.text("name")), "body"), "in", "body", "required", p.flag("required"))
	if d := strings.TrimSpace(p.text("description")); d != "" {
		out.set("description", d)
	}
	out.set("schema", l.c.body(p.get("schema"), pointer(place, "schema")))
	for _, key := range []string{"x-ms-summary", "x-ms-visibility", "x-ms-test-value"} {
		if v, ok := microsoft(inParameter, key, p.get(key)); ok && p.has(key) {
			out.set(key, v)
		}
	}
	l.op.binary = out.object("schema").text("format") == "binary"
	l.add(out, place)
}

// field adds a form's field.
func (l *parameterList) field(name string, schema, p *object, place string) {
	if withoutBody(l.op.method) {
		l.c.report.lose(place, "The body of a %s was left out: Power Platform sends none", strings.ToUpper(l.op.method))
		return
	}
	kind, format := l.c.quietKind(schema), schema.text("format")
	if kind == "file" || format == "binary" {
		plain := obj("type", "string")
		out := l.c.parameter(name, "formData", plain, p, place)
		out.set("type", "file")
		out.remove("format")
		l.op.binary = true
		l.add(out, place)
		return
	}
	l.add(l.c.parameter(name, "formData", schema, p, place), place)
}

// requestBody converts that of OpenAPI 3. Of several contents the one is taken that Power Platform does best.
func (c *converter) requestBody(l *parameterList, in *object) {
	place := pointer(l.op.place, "requestBody")
	body, place, ok := c.doc.resolve(in.get("requestBody"), place)
	content := body.object("content")
	if !ok || content.len() == 0 {
		return
	}
	if withoutBody(l.op.method) {
		c.report.lose(place, "The body of a %s was left out: Power Platform sends none", strings.ToUpper(l.op.method))
		return
	}
	chosen := choose(content)
	if content.len() > 1 {
		c.report.lose(place, "Of a body's content types one was taken (%s), the others were left out", shorten(chosen.key, 60))
	}
	media, _ := chosen.value.(*object)
	at := pointer(place, "content", chosen.key)
	kind := mediaType(chosen.key)
	switch {
	case kind == typeForm || strings.HasPrefix(kind, "multipart/"):
		if kind != typeForm {
			kind = typeMultipart
		}
		l.media = []string{kind}
		l.fields(media, body, at, kind)
	case isJSON(chosen.key):
		l.media = []string{typeJSON}
		l.whole(body, media.get("schema"), at)
		if kind != typeJSON {
			c.report.lose(at, "A body of type %s is sent as application/json", shorten(kind, 60))
		}
	case textual(chosen.key):
		l.media = []string{typeText}
		l.whole(body, obj("type", "string"), at)
		if kind != typeText {
			c.report.lose(at, "A body of type %s is sent as text/plain", shorten(kind, 60))
		}
	default:
		l.whole(body, obj("type", "string", "format", "binary"), at)
		if kind != "application/octet-stream" {
			c.report.lose(at, "A body of type %s is declared as binary content", shorten(kind, 60))
		}
	}
}

// choose takes JSON before forms before text before anything else.
func choose(content *object) member {
	rank := func(m member) int {
		switch kind := mediaType(m.key); {
		case kind == typeJSON:
			return 0
		case isJSON(kind) && kind != "*/*":
			return 1
		case kind == typeMultipart:
			return 2
		case kind == typeForm:
			return 3
		case strings.HasPrefix(kind, "multipart/"):
			return 4
		case kind == typeText:
			return 5
		case kind == "*/*":
			return 6
		case textual(kind):
			return 7
		}
		return 8
	}
	all := content.all()
	best := all[0]
	for _, m := range all[1:] {
		if rank(m) < rank(best) {
			best = m
		}
	}
	return best
}

func (l *parameterList) whole(body *object, schema any, place string) {
	p := body.shallow()
	p.set("schema", schema)
	p.set("name", orText(body.text("x-bodyName"), orText(body.text("x-codegen-request-body-name"), "body")))
	l.body(p, place)
}

// fields makes a form's fields of a schema's members.
func (l *parameterList) fields(media, body *object, place, kind string) {
	at := pointer(place, "schema")
	schema, _ := media.get("schema").(*object)
	flat := l.c.flatten(schema.shallow(), at, 0)
	if flat.object("properties").len() == 0 {
		l.c.report.lose(at, "The fields of a form are not described; they were left out")
		return
	}
	required := flat.list("required")
	for _, m := range flat.object("properties").all() {
		s, _ := m.value.(*object)
		field := l.c.flatten(s.shallow(), pointer(at, "properties", m.key), 0)
		if field.flag("readOnly") {
			continue
		}
		p := obj("required", slices.Contains(required, any(m.key)) && body.flag("required"))
		encoding := media.object("encoding").object(m.key)
		p.set("style", orText(encoding.text("style"), "form"))
		if e, ok := encoding.get("explode").(bool); ok {
			p.set("explode", e)
		}
		l.formField(m.key, field, p, pointer(at, "properties", m.key), kind)
	}
}

func (l *parameterList) formField(name string, field, p *object, place, kind string) {
	items, _ := field.get("items").(*object)
	itemKind := ""
	if items != nil {
		flat := l.c.flatten(items, place, 0)
		itemKind = l.c.quietKind(flat)
		if flat.text("format") == "binary" {
			l.c.report.lose(place, "A field with several files became one file")
			l.field(name, obj("type", "string", "format", "binary", "description", field.text("description")), p, place)
			return
		}
	}
	deep := p.text("style") == "deepObject" || kind == typeForm && !jsonish(p)
	switch l.c.quietKind(field) {
	case "object":
		if deep && field.object("properties").len() > 0 {
			l.members(name, "formData", field, p, place, 1)
			return
		}
		l.c.report.lose(place, "An object in a form's field became text; write JSON into it")
		l.field(name, obj("type", "string", "description", field.text("description")), p, place)
	case "array":
		if itemKind == "object" || itemKind == "array" {
			l.c.report.lose(place, "A list of objects in a form's field became text; write JSON into it")
			l.field(name, obj("type", "string", "description", field.text("description")), p, place)
			return
		}
		if p.text("style") == "deepObject" {
			name += "[]"
			p.set("style", "form")
		}
		l.field(name, field, p, place)
	default:
		l.field(name, field, p, place)
	}
}

func jsonish(p *object) bool { return isJSON(p.text("contentType")) && p.has("contentType") }

// consumes writes down the request's content types.
func (c *converter) consumes(l *parameterList, in *object) {
	media := l.media
	if c.doc.Form == FormSwagger {
		own := in.list("consumes")
		if own == nil {
			own = c.doc.root.list("consumes")
		}
		media = c.supportedOf(texts(own), pointer(l.op.place, "consumes"))
	}
	form, body := false, false
	for _, p := range l.out {
		form = form || p.text("in") == "formData"
		body = body || p.text("in") == "body"
	}
	switch {
	case form:
		files := slices.ContainsFunc(l.out, func(p *object) bool { return p.text("type") == "file" })
		media = slices.DeleteFunc(media, func(m string) bool { return m != typeMultipart && (m != typeForm || files) })
		if len(media) == 0 {
			media = []string{typeForm}
			if files {
				media = []string{typeMultipart}
			}
		}
	case body:
		media = slices.DeleteFunc(media, func(m string) bool { return m == typeMultipart || m == typeForm })
	default:
		return
	}
	if len(media) > 0 {
		l.op.value.set("consumes", anys(media))
	}
}

// supportedOf keeps the types that Power Platform takes; kinds of JSON and of text count as the plain ones.
func (c *converter) supportedOf(types []string, place string) []string {
	var out []string
	for _, t := range types {
		m := mediaType(t)
		switch {
		case slices.Contains(supported(), m):
		case isJSON(m):
			m = typeJSON
		default:
			c.report.lose(place, "The content type %s was left out: Power Platform does not take it", shorten(m, 60))
			continue
		}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// finish puts things right that need the whole list: a body beside a form cannot be.
func (l *parameterList) finish() {
	form := slices.ContainsFunc(l.out, func(p *object) bool { return p.text("in") == "formData" })
	l.out = slices.DeleteFunc(l.out, func(p *object) bool {
		if form && p.text("in") == "body" {
			l.c.report.lose(l.op.place, "A body beside the fields of a form was left out")
			return true
		}
		if p.text("in") == "path" && !strings.Contains(l.op.path, "{"+p.text("name")+"}") {
			l.c.report.lose(l.op.place, "The path parameter %s, which the path does not have, was left out", shorten(p.text("name"), 60))
			return true
		}
		return false
	})
	for _, m := range variable.FindAllStringSubmatch(l.op.path, -1) {
		has := slices.ContainsFunc(l.out, func(p *object) bool { return p.text("in") == "path" && p.text("name") == m[1] })
		if !has {
			l.out = append(l.out, obj("name", m[1], "in", "path", "required", true, "type", "string"))
			l.c.report.lose(l.op.place, "A path parameter that is not described became text")
		}
	}
}
