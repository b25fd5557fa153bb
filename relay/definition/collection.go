package definition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Postman makes a collection (v2.1) of a document, with the variables baseUrl and key.
func Postman(d *Document, t Target) ([]byte, *Report, error) {
	t = t.withoutOwn()
	t.HostParameter = false
	r := everything()
	r.samples = true
	root, report, err := build(d, t, r, int(^uint(0)>>1))
	if err != nil {
		return nil, nil, err
	}
	c := &collectionWriter{definitions: root.object("definitions")}
	folders := &object{}
	var loose []any
	for _, p := range root.object("paths").all() {
		item := p.value.(*object)
		for _, method := range methods() {
			op := item.object(method)
			if op == nil {
				continue
			}
			request := c.request(method, p.key, op)
			tags := texts(op.list("tags"))
			if len(tags) == 0 {
				loose = append(loose, request)
				continue
			}
			folders.set(tags[0], append(folders.list(tags[0]), request))
		}
	}
	var items []any
	for _, f := range folders.all() {
		items = append(items, obj("name", f.key, "item", f.value))
	}
	info := root.object("info")
	out := obj("info", obj("name", info.text("title"), "description", info.text("description"),
		"schema", "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"),
		"item", append(items, loose...))
	variables := []any{obj("key", "baseUrl", "value", strings.TrimRight(t.URL, "/"))}
	if auth, own := collectionAuth(t); auth != nil {
		out.set("auth", auth)
		variables = append(variables, own...)
	}
	if len(keyEvents(t)) > 0 {
		variables = append(variables, obj("key", "key", "value", "", "type", "string"))
	}
	out.set("variable", variables)
	out.set("event", append(keyEvents(t), obj("listen", "test", "script", obj("type", "text/javascript", "exec", []any{
		"pm.test('the relay and the agent let the request pass, and the API answers', function () {",
		"    pm.expect(pm.response.code).to.be.below(500);",
		"    pm.expect(pm.response.code).to.not.be.oneOf([401, 403]);",
		"});",
	}))))
	return encode(out, "  "), report, nil
}

// keyEvents send the key that the first way demands along with another credential: a collection has one type of its own.
func keyEvents(t Target) []any {
	ways := t.ways()
	if len(ways) == 0 || ways[0].Key == nil {
		return nil
	}
	line := fmt.Sprintf("pm.request.headers.upsert({key: %q, value: pm.variables.get('key')});", ways[0].Key.keyHeader())
	return []any{obj("listen", "prerequest", "script", obj("type", "text/javascript", "exec", []any{line}))}
}

// collectionAuth is the first way to call, and the variables that it takes.
func collectionAuth(t Target) (auth *object, variables []any) {
	ways := t.ways()
	if len(ways) == 0 {
		return nil, nil
	}
	pair := func(key, value string) any { return obj("key", key, "value", value, "type", "string") }
	switch a := ways[0]; a.Kind {
	case AuthKey:
		in, name := "header", a.keyHeader()
		if a.Query != "" && a.Header == "" {
			in, name = "query", a.Query
		}
		return obj("type", "apikey", "apikey", []any{pair("key", name), pair("value", "{{key}}"), pair("in", in)}),
			[]any{obj("key", "key", "value", "", "type", "string")}
	case AuthOAuth2:
		return obj("type", "bearer", "bearer", []any{pair("token", "{{token}}")}), []any{obj("key", "token", "value", "", "type", "string")}
	}
	return obj("type", "basic", "basic", []any{pair("username", "{{username}}"), pair("password", "{{password}}")}),
		[]any{obj("key", "username", "value", ""), obj("key", "password", "value", "")}
}

type collectionWriter struct{ definitions *object }

func (c *collectionWriter) request(method, path string, op *object) *object {
	var query, variables, headers, form []any
	var body *object
	url := variable.ReplaceAllString(path, ":$1")
	consumes := texts(op.list("consumes"))
	for _, v := range op.list("parameters") {
		p := v.(*object)
		name, in := p.text("name"), p.text("in")
		value := sampleText(p)
		entry := obj("key", name, "value", value, "description", p.text("description"))
		if !p.flag("required") && in != "path" && in != "body" {
			entry.set("disabled", true)
		}
		switch in {
		case "path":
			if !strings.Contains(path, "/{"+name+"}/") && !strings.HasSuffix(path, "/{"+name+"}") {
				url = strings.ReplaceAll(url, ":"+name, "{{"+name+"}}") // a part of a segment
				continue
			}
			variables = append(variables, entry)
		case "query":
			query = append(query, entry)
		case "header":
			headers = append(headers, entry)
		case "formData":
			if p.text("type") == "file" {
				entry = obj("key", name, "type", "file", "src", []any{}, "disabled", !p.flag("required"), "description", p.text("description"))
			} else {
				entry.set("type", "text")
			}
			form = append(form, entry)
		case "body":
			body = c.body(p.object("schema"), consumes)
			if body.text("mode") == "raw" {
				headers = append(headers, obj("key", "Content-Type", "value", orText(first(consumes), typeJSON)))
			}
		}
	}
	address := obj("raw", "{{baseUrl}}"+url, "host", []any{"{{baseUrl}}"}, "path", anys(strings.Split(strings.TrimPrefix(url, "/"), "/")))
	if len(query) > 0 {
		address.set("query", query)
	}
	if len(variables) > 0 {
		address.set("variable", variables)
	}
	r := obj("method", strings.ToUpper(method), "header", append([]any{}, headers...), "url", address, "description", op.text("description"))
	switch {
	case len(form) > 0 && slices.Contains(consumes, typeForm):
		r.set("body", obj("mode", "urlencoded", "urlencoded", form))
	case len(form) > 0:
		r.set("body", obj("mode", "formdata", "formdata", form))
	case body != nil:
		r.set("body", body)
	}
	return obj("name", op.text("summary"), "request", r, "response", []any{})
}

func first(list []string) string {
	if len(list) > 0 {
		return list[0]
	}
	return ""
}

func (c *collectionWriter) body(schema *object, consumes []string) *object {
	if schema.text("format") == "binary" {
		return obj("mode", "file", "file", &object{})
	}
	language := "json"
	if first(consumes) == typeText {
		language = "text"
	}
	return obj("mode", "raw", "raw", string(bytes.TrimSpace(encode(c.sample(schema, 0), "  "))), "options", obj("raw", obj("language", language)))
}

// maxSample bounds how deep samples go.
const maxSample = 6

// sample makes a value that fits a schema: the author's example, or one of the type.
func (c *collectionWriter) sample(s *object, depth int) any {
	if name, ok := strings.CutPrefix(s.text("$ref"), "#/definitions/"); ok {
		s = c.definitions.object(name)
	}
	for _, key := range []string{"example", "default"} {
		if v := s.get(key); v != nil {
			return v
		}
	}
	if enum := s.list("enum"); len(enum) > 0 {
		return enum[0]
	}
	switch s.text("type") {
	case "object":
		out := &object{}
		if depth >= maxSample {
			return out
		}
		for _, p := range s.object("properties").all() {
			if child := p.value.(*object); !child.flag("readOnly") {
				out.set(p.key, c.sample(child, depth+1))
			}
		}
		return out
	case "array":
		if depth >= maxSample {
			return []any{}
		}
		return []any{c.sample(s.object("items"), depth+1)}
	case "integer", "number":
		if n, ok := s.number("minimum"); ok {
			return n
		}
		return json.Number("0")
	case "boolean":
		return false
	case "string":
		return sampleOf(s.text("format"))
	}
	return &object{}
}

func sampleOf(format string) string {
	switch format {
	case "date":
		return "2024-01-31"
	case "date-time", "date-no-tz":
		return "2024-01-31T12:00:00Z"
	case "uuid":
		return "00000000-0000-0000-0000-000000000000"
	case "email":
		return "jane@example.com"
	case "uri":
		return "https://example.com/"
	case "byte":
		return "U2FsbHlwb3J0"
	}
	return "text"
}

// sampleText is a value for a parameter.
func sampleText(p *object) string {
	if v := p.get(sampleKey); v != nil {
		return scalarText(v)
	}
	if v := p.get("default"); v != nil {
		return scalarText(v)
	}
	if enum := p.list("enum"); len(enum) > 0 {
		return scalarText(enum[0])
	}
	switch p.text("type") {
	case "integer", "number":
		if n, ok := p.number("minimum"); ok {
			return n.String()
		}
		return "1"
	case "boolean":
		return "false"
	case "array":
		return sampleText(orObject(p.object("items")))
	}
	if p.text("format") == "" {
		return fmt.Sprintf("%s-1", orText(cleanName(p.text("name")), "value"))
	}
	return sampleOf(p.text("format"))
}
