package definition

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// isPostman tells a collection of any version.
func isPostman(root *object) bool {
	if c := root.object("collection"); c != nil {
		root = c
	}
	if strings.Contains(root.object("info").text("schema"), "postman.com") {
		return true
	}
	_, items := root.get("item").([]any)
	_, requests := root.get("requests").([]any)
	return items && root.object("info") != nil || requests && root.has("name")
}

// fromPostman makes OpenAPI 3 of a collection: its requests are examples, whose values become schemas.
func fromPostman(root *object, report *Report) (*object, error) {
	if c := root.object("collection"); c != nil {
		root = c
	}
	info := root.object("info")
	if info == nil {
		info = root // v1
	}
	p := &postmanReader{paths: &object{}, report: report}
	if list := root.list("requests"); list != nil {
		for i, v := range list {
			r, _ := v.(*object)
			p.request(r.text("name"), p.folder(root, r), v1Request(r), r, pointer("/requests", num(i).String()))
		}
	} else {
		p.items(root.list("item"), "/item", "", 0)
	}
	if p.paths.len() == 0 {
		return nil, &Invalid{"/item", "the collection has no request with an address"}
	}
	out := obj("openapi", "3.0.3", "info", obj("title", orText(info.text("name"), "API"), "version", orText(versionText(info.get("version")), "1.0")), "paths", p.paths)
	if d := descriptionOf(info.get("description")); d != "" {
		out.object("info").set("description", d)
	}
	return out, nil
}

type postmanReader struct {
	paths  *object
	report *Report
}

// descriptionOf reads a text, or an object with its content.
func descriptionOf(v any) string {
	if o, ok := v.(*object); ok {
		return strings.TrimSpace(o.text("content"))
	}
	s, _ := v.(string)
	return strings.TrimSpace(s)
}

func (p *postmanReader) folder(root, request *object) string {
	for _, v := range root.list("folders") {
		if f, _ := v.(*object); f.text("id") != "" && f.text("id") == request.text("folder") {
			return f.text("name")
		}
	}
	return ""
}

func (p *postmanReader) items(list []any, place, folder string, depth int) {
	for i, v := range list {
		item, _ := v.(*object)
		at := pointer(place, num(i).String())
		if inner, ok := item.get("item").([]any); ok && depth < maxHops {
			p.items(inner, at+"/item", orText(folder, item.text("name")), depth+1)
			continue
		}
		switch r := item.get("request").(type) {
		case *object:
			p.request(item.text("name"), folder, r, item, at)
		case string:
			p.request(item.text("name"), folder, obj("method", "GET", "url", r), item, at)
		}
	}
}

// v1Request brings a request of version 1 to the form of version 2.
func v1Request(r *object) *object {
	out := obj("method", r.get("method"), "url", r.get("url"), "description", r.get("description"))
	var headers []any
	for line := range strings.Lines(r.text("headers")) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			headers = append(headers, obj("key", strings.TrimSpace(key), "value", strings.TrimSpace(value)))
		}
	}
	out.set("header", append(headers, r.list("headerData")...))
	mode := r.text("dataMode")
	switch {
	case mode == "raw" || r.has("rawModeData"):
		raw := r.text("rawModeData")
		if raw == "" {
			raw, _ = r.get("data").(string)
		}
		out.set("body", obj("mode", "raw", "raw", raw))
	case mode == "params":
		out.set("body", obj("mode", "formdata", "formdata", r.get("data")))
	case mode == "urlencoded":
		out.set("body", obj("mode", "urlencoded", "urlencoded", r.get("data")))
	case mode == "binary":
		out.set("body", obj("mode", "file"))
	}
	return out
}

// request adds one as an operation.
func (p *postmanReader) request(name, folder string, r, item *object, place string) {
	method := strings.ToLower(strings.TrimSpace(orText(r.text("method"), "GET")))
	path, query, ok := addressOf(r.get("url"))
	if !ok {
		p.report.lose(place, "A request without an address was left out")
		return
	}
	if !slices.Contains(methods(), method) {
		p.report.lose(place, "An operation was left out: OpenAPI 2.0 does not know its method (%s)", shorten(strings.ToUpper(method), 20))
		return
	}
	entry := p.paths.object(path)
	if entry == nil {
		entry = &object{}
		p.paths.set(path, entry)
	}
	if entry.has(method) {
		p.report.lose(place, "An operation was left out: another one has the same method and path")
		return
	}
	op := obj("summary", name)
	if !strings.ContainsAny(name, "/{") && pascal(name) != "" {
		op.set("operationId", name)
	}
	if d := descriptionOf(r.get("description")); d != "" {
		op.set("description", d)
	}
	if folder != "" {
		op.set("tags", []any{folder})
	}
	if list := p.parameters(path, query, r); len(list) > 0 {
		op.set("parameters", list)
	}
	if content := bodyOf(r.object("body"), headerValue(r.list("header"), "Content-Type")); content != nil && !withoutBody(method) {
		op.set("requestBody", obj("required", true, "content", content))
	}
	op.set("responses", responsesOf(item))
	entry.set(method, op)
}

// addressOf gives the path after host or base variable, and the query's parameters.
func addressOf(v any) (path string, query []any, ok bool) {
	raw, _ := v.(string)
	if o, isObject := v.(*object); isObject {
		raw = o.text("raw")
		query = o.list("query")
		if segments := o.get("path"); raw == "" && segments != nil {
			if list, isList := segments.([]any); isList {
				raw = "/" + strings.Join(texts(list), "/")
			} else if s, isText := segments.(string); isText {
				raw = s
			}
		}
	}
	raw, _, _ = strings.Cut(strings.TrimSpace(raw), "#")
	raw, text, _ := strings.Cut(raw, "?")
	if query == nil {
		for pair := range strings.SplitSeq(text, "&") {
			if key, value, _ := strings.Cut(pair, "="); key != "" {
				query = append(query, obj("key", unescaped(key), "value", unescaped(value)))
			}
		}
	}
	if _, rest, hasScheme := strings.Cut(raw, "://"); hasScheme {
		raw = rest
	}
	if !strings.HasPrefix(raw, "/") { // a host, or a variable for one
		_, after, slash := strings.Cut(raw, "/")
		if raw == "" {
			return "", nil, false
		}
		raw = "/" + after
		if !slash {
			raw = "/"
		}
	}
	segments := strings.Split(raw, "/")
	for i, s := range segments {
		switch {
		case strings.HasPrefix(s, ":") && len(s) > 1:
			segments[i] = "{" + variableName(s[1:]) + "}"
		default:
			segments[i] = strings.NewReplacer("{{", "{", "}}", "}").Replace(s)
		}
	}
	return strings.Join(segments, "/"), query, true
}

func unescaped(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

func (p *postmanReader) parameters(path string, query []any, r *object) []any {
	var out []any
	known := map[string]*object{}
	if u := r.object("url"); u != nil {
		for _, v := range u.list("variable") {
			o, _ := v.(*object)
			known[orText(o.text("key"), o.text("id"))] = o
		}
	}
	for _, m := range variable.FindAllStringSubmatch(path, -1) {
		param := obj("name", m[1], "in", "path", "required", true, "schema", obj("type", "string"))
		if d := descriptionOf(known[m[1]].get("description")); d != "" {
			param.set("description", d)
		}
		out = append(out, param)
	}
	add := func(list []any, in string) {
		for _, v := range list {
			o, _ := v.(*object)
			key := o.text("key")
			if key == "" || strings.Contains(key, "{{") || in == "header" && skippedHeader(key) {
				continue
			}
			param := obj("name", key, "in", in, "schema", obj("type", "string"))
			if d := descriptionOf(o.get("description")); d != "" {
				param.set("description", d)
			}
			out = append(out, param)
		}
	}
	add(query, "query")
	add(r.list("header"), "header")
	return out
}

// skippedHeader names those that are not a maker's to give.
func skippedHeader(name string) bool {
	return slices.Contains([]string{
		"accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "cookie", "host", "user-agent",
		"postman-token", "cache-control", "x-api-key",
	}, strings.ToLower(name))
}

func headerValue(list []any, name string) string {
	for _, v := range list {
		if o, _ := v.(*object); strings.EqualFold(o.text("key"), name) {
			return o.text("value")
		}
	}
	return ""
}

// bodyOf makes a content of a sample body.
func bodyOf(body *object, contentType string) *object {
	switch body.text("mode") {
	case "raw":
		raw := strings.TrimSpace(body.text("raw"))
		if raw == "" {
			return nil
		}
		if v, err := readJSON([]byte(raw)); err == nil {
			return obj(typeJSON, obj("schema", schemaOf(v, 0), "example", v))
		}
		if isJSON(contentType) || body.object("options").object("raw").text("language") == "json" {
			return obj(typeJSON, obj("schema", obj("type", "object"))) // with variables in it
		}
		return obj(orText(mediaType(contentType), typeText), obj("schema", obj("type", "string")))
	case "urlencoded", "formdata":
		props := &object{}
		for _, v := range body.list(body.text("mode")) {
			f, _ := v.(*object)
			if f.text("key") == "" {
				continue
			}
			field := obj("type", "string")
			if f.text("type") == "file" {
				field.set("format", "binary")
			}
			if d := descriptionOf(f.get("description")); d != "" {
				field.set("description", d)
			}
			props.set(f.text("key"), field)
		}
		kind := typeForm
		if body.text("mode") == "formdata" {
			kind = typeMultipart
		}
		return obj(kind, obj("schema", obj("type", "object", "properties", props)))
	case "graphql":
		return obj(typeJSON, obj("schema", obj("type", "object", "properties", obj("query", obj("type", "string"), "variables", obj("type", "object")))))
	case "file":
		return obj("application/octet-stream", obj("schema", obj("type", "string", "format", "binary")))
	}
	return nil
}

// responsesOf makes answers of saved examples.
func responsesOf(item *object) *object {
	out := &object{}
	for _, v := range append(slices.Clone(item.list("response")), item.list("responses")...) {
		r, _ := v.(*object)
		code := versionText(r.get("code"))
		if c := r.object("responseCode"); c != nil {
			code = versionText(c.get("code"))
		}
		if len(code) != 3 || out.has(code) {
			continue
		}
		one := obj("description", orText(r.text("name"), statusText(code)))
		text := orText(r.text("body"), r.text("text"))
		if v, err := readJSON([]byte(text)); err == nil && text != "" {
			one.set("content", obj(typeJSON, obj("schema", schemaOf(v, 0), "example", v)))
		}
		out.set(code, one)
	}
	if out.len() == 0 {
		out.set("200", obj("description", "OK"))
	}
	return out
}

// schemaOf describes a sample.
func schemaOf(v any, depth int) *object {
	kind := kindOf(v)
	switch v := v.(type) {
	case *object:
		props := &object{}
		for _, m := range v.all() {
			if depth < maxHops {
				props.set(m.key, schemaOf(m.value, depth+1))
			}
		}
		return obj("type", "object", "properties", props)
	case []any:
		items := &object{}
		if len(v) > 0 && depth < maxHops {
			items = schemaOf(v[0], depth+1)
		}
		return obj("type", "array", "items", items)
	case nil:
		return &object{}
	case string:
		return obj("type", kind)
	}
	return obj("type", orText(kind, fmt.Sprintf("%T", v)))
}
