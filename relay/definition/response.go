package definition

import (
	"slices"
	"strings"
)

// responses converts what an operation answers. The designer shows one schema, that of the first success; Microsoft's
// validator refuses one at "default" and warns of others.
func (c *converter) responses(op *operation, in *object) {
	place := pointer(op.place, "responses")
	out := &object{}
	sources := map[string]response{}
	for _, r := range in.object("responses").all() {
		if strings.HasPrefix(r.key, "x-") {
			continue
		}
		value, at, ok := c.doc.resolve(r.value, pointer(place, r.key))
		if !ok {
			value = &object{}
		}
		code := c.code(r.key, in.object("responses"), at)
		if code == "" || out.has(code) {
			continue
		}
		out.set(code, nil)
		sources[code] = response{value, at}
	}
	main := mainResponse(out)
	if main == "default" || main == "" {
		// "Whatever the status": what it describes is what comes when all went well.
		out = obj("200", nil).appended(out)
		sources["200"] = sources["default"]
		main = "200"
	}
	for _, r := range out.all() {
		out.set(r.key, c.response(op, sources[r.key], r.key, r.key == main))
	}
	op.value.set("responses", out)
	c.produces(op, in, sources[main])
}

// A response is one and its place in the input.
type response struct {
	value *object
	place string
}

// appended is a with the members of b that it lacks.
func (o *object) appended(b *object) *object {
	for _, m := range b.all() {
		o.setDefault(m.key, m.value)
	}
	return o
}

// code is a status that OpenAPI 2.0 knows; ranges become their first status.
func (c *converter) code(key string, all *object, place string) string {
	key = strings.ToLower(strings.TrimSpace(key))
	if key == "default" {
		return key
	}
	if len(key) == 3 && key[0] >= '1' && key[0] <= '5' {
		switch {
		case strings.Trim(key, "0123456789") == "":
			return key
		case key[1:] == "xx":
			if first := key[:1] + "00"; !all.has(first) {
				return first
			}
		}
	}
	c.report.lose(place, "The answer %q was left out: OpenAPI 2.0 has no such status", shorten(key, 20))
	return ""
}

// mainResponse is the one whose schema the designer shows.
func mainResponse(out *object) string {
	var codes []string
	for _, r := range out.all() {
		if r.key[0] == '2' {
			codes = append(codes, r.key)
		}
	}
	slices.Sort(codes)
	switch {
	case len(codes) > 0:
		return codes[0]
	case out.has("default"):
		return "default"
	}
	return ""
}

func (c *converter) response(op *operation, r response, code string, main bool) *object {
	out := &object{}
	description := strings.TrimSpace(r.value.text("description"))
	if description == "" {
		description = statusText(code)
	}
	out.set("description", c.rules.description(description))
	if out.text("description") == "" {
		out.set("description", statusText(code))
	}
	schema, at, binary := c.content(r)
	switch {
	case main && binary:
		out.set("schema", obj("type", "string", "format", "binary"))
	case main && schema != nil && code != "204":
		out.set("schema", c.responseSchema(schema, at))
	case main || schema == nil:
	case code == "default":
		c.report.lose(at, "The schema of a default answer was left out: Microsoft's validator refuses it")
	default:
		c.report.lose(at, "Schemas of answers after the first success were left out: Power Platform shows one")
	}
	c.headers(r, out)
	if main && c.rules.examples {
		c.responseExamples(r, out)
	}
	if r.value.has("links") {
		c.report.lose(pointer(r.place, "links"), "Links between operations were left out: OpenAPI 2.0 has none")
	}
	c.copyExtensions(r.value, r.place, inResponse, out)
	return out
}

// responseSchema is a schema, or a file where the whole answer is one.
func (c *converter) responseSchema(schema any, at string) *object {
	s := c.body(schema, at)
	if s.text("type") == "file" {
		return obj("type", "string", "format", "binary")
	}
	return s
}

// content gives the schema of an answer, or says that it is a file.
func (c *converter) content(r response) (schema any, place string, binary bool) {
	if c.doc.Form == FormSwagger {
		return r.value.get("schema"), pointer(r.place, "schema"), false
	}
	content := r.value.object("content")
	if content.len() == 0 {
		return nil, r.place, false
	}
	chosen := choose(content)
	if content.len() > 1 {
		c.report.lose(r.place, "Of an answer's content types one was taken, the others were left out")
	}
	media, _ := chosen.value.(*object)
	place = pointer(r.place, "content", chosen.key, "schema")
	schema = media.get("schema")
	switch {
	case isJSON(chosen.key):
		if schema == nil {
			schema = &object{}
		}
		return schema, place, false
	case textual(chosen.key):
		if mediaType(chosen.key) != typeText {
			c.report.lose(place, "An answer of type %s is declared as text", shorten(mediaType(chosen.key), 60))
		}
		return obj("type", "string"), place, false
	default:
		return schema, place, true
	}
}

func (c *converter) headers(r response, out *object) {
	headers := &object{}
	for _, h := range r.value.object("headers").all() {
		place := pointer(r.place, "headers", h.key)
		in, at, ok := c.doc.resolve(h.value, place)
		if !ok || h.key == "" {
			continue
		}
		schema, isObject := in.get("schema").(*object)
		if !isObject {
			schema = in
		}
		header := &object{}
		if d := c.rules.description(orText(in.text("description"), schema.text("description"))); d != "" {
			header.set("description", d)
		}
		c.simple(c.flatten(schema, at, 0), at, "items", header)
		headers.set(h.key, header)
	}
	if headers.len() > 0 {
		out.set("headers", headers)
	}
}

// responseExamples keeps an example for a content type that is produced.
func (c *converter) responseExamples(r response, out *object) {
	example, ok := any(nil), false
	if c.doc.Form == FormSwagger {
		e := r.value.object("examples")
		example, ok = e.get(typeJSON), e.has(typeJSON)
	} else if content := r.value.object("content"); content.len() > 0 {
		if chosen := choose(content); isJSON(chosen.key) {
			media, _ := chosen.value.(*object)
			example, ok = media.get("example"), media.has("example")
		}
	}
	if ok && !hasRef(example) {
		out.set("examples", obj(typeJSON, example))
	}
}

// produces writes down the content types of the answer, where they are not JSON.
func (c *converter) produces(op *operation, in *object, main response) {
	var media []string
	if c.doc.Form == FormSwagger {
		own := in.list("produces")
		if own == nil {
			own = c.doc.root.list("produces")
		}
		media = c.supportedOf(texts(own), pointer(op.place, "produces"))
	} else {
		for _, m := range main.value.object("content").all() {
			switch {
			case isJSON(m.key) && !slices.Contains(media, typeJSON):
				media = append(media, typeJSON)
			case mediaType(m.key) == typeText:
				media = append(media, typeText)
			}
		}
	}
	if len(media) > 0 {
		op.value.set("produces", anys(media))
	}
	if e := op.value.object("responses"); len(media) > 0 && !slices.Contains(media, typeJSON) {
		for _, r := range e.all() {
			r.value.(*object).remove("examples")
		}
	}
}

// statusText describes an answer that its author does not.
func statusText(code string) string {
	switch code {
	case "200":
		return "OK"
	case "201":
		return "Created"
	case "202":
		return "Accepted"
	case "204":
		return "No content"
	case "400":
		return "Bad request"
	case "401":
		return "Unauthorized"
	case "403":
		return "Forbidden"
	case "404":
		return "Not found"
	case "default":
		return "Any other answer"
	}
	switch code[0] {
	case '2':
		return "Success"
	case '3':
		return "Elsewhere"
	case '4':
		return "The request was refused"
	}
	return "Failure"
}
