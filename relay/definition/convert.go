package definition

import (
	"fmt"
	"slices"
	"strings"
)

// rules say how much of a document is taken over. They grow stricter where the result is too large.
type rules struct {
	beside       bool // what is said beside references
	examples     bool
	extensions   bool // of other tools than Microsoft's
	titles       bool // names for people that we make ourselves, on members of bodies
	descriptions int  // the most characters of a description inside a body; 0: any
	levels       int  // of references within one body
	samples      bool // the examples of parameters, which OpenAPI 2.0 has no place for, as sampleKey
}

// description cuts one to the length that the rules allow.
func (r rules) description(s string) string {
	s = strings.TrimSpace(s)
	if r.descriptions < 0 {
		return ""
	}
	if r.descriptions == 0 {
		return s
	}
	return shorten(s, r.descriptions)
}

// shorten cuts text to so many characters, at a word's end if one is near.
func shorten(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	cut := string(runes[:most-1])
	if i := strings.LastIndexAny(cut, " \n\t"); i > len(cut)/2 {
		cut = cut[:i]
	}
	return strings.TrimRight(cut, " \n\t.,;:") + "…"
}

// A swagger is a document on its way to OpenAPI 2.0: its operations one by one, before they are named.
type swagger struct {
	root        *object // info and the like, without paths
	operations  []*operation
	definitions *object
}

// An operation is one method of one path.
type operation struct {
	method, path string // lower case; as in "paths"
	place        string // in the input
	value        *object
	pathItem     *object // extensions of the path item
	binary       bool    // the request's body is a file
}

// converter turns one document into OpenAPI 2.0.
type converter struct {
	*schemaWriter
	out   *swagger
	known map[string]string // paths as they were first spelt, by their form without names
	taken map[string]bool   // methods of such paths
}

// convert takes the whole document over, as the rules say. The error is an *Invalid: the document is too complex.
func convert(d *Document, r rules) (out *swagger, report *Report, err error) {
	report = &Report{}
	for _, l := range d.read.Losses {
		for _, p := range l.Places {
			report.lose(p, "%s", l.What)
		}
	}
	defer func() {
		if p := recover(); p != nil {
			complex, ok := p.(tooComplex)
			if !ok {
				panic(p)
			}
			err = &Invalid{complex.place, fmt.Sprintf("the schemas grow to more than %d when they are composed", maxWork)}
		}
	}()
	c := &converter{
		schemaWriter: newSchemaWriter(d, report, r), known: map[string]string{}, taken: map[string]bool{},
		out: &swagger{root: &object{}},
	}
	c.info()
	for _, p := range d.root.object("paths").all() {
		if strings.HasPrefix(p.key, "x-") {
			continue
		}
		c.path(p.key, p.value)
	}
	for _, hook := range d.root.object("webhooks").all() {
		report.lose(pointer("/webhooks", hook.key), "A webhook was left out: Power Platform knows webhooks as triggers, with x-ms-trigger on the operation that subscribes")
	}
	c.finish()
	c.out.definitions = c.definitions
	return c.out, report, nil
}

// info takes over what describes the API as a whole.
func (c *converter) info() {
	in := c.doc.root.object("info")
	info := obj("title", orText(strings.TrimSpace(scalarText(in.get("title"))), "API"))
	if d := strings.TrimSpace(in.text("description")); d != "" {
		info.set("description", d)
	} else if s := strings.TrimSpace(in.text("summary")); s != "" {
		info.set("description", s)
	}
	info.set("version", orText(strings.TrimSpace(scalarText(in.get("version"))), "1.0"))
	if t := in.text("termsOfService"); t != "" {
		info.set("termsOfService", t)
	}
	if contact := contactOf(in.object("contact")); contact.len() > 0 {
		info.set("contact", contact)
	}
	if l := in.object("license"); l.text("name") != "" {
		license := obj("name", l.text("name"))
		if externalDocs(l) != nil {
			license.set("url", l.text("url"))
		}
		info.set("license", license)
	}
	c.copyExtensions(in, "/info", inInfo, info)
	c.out.root.set("info", info)
	c.tags()
	if docs := externalDocs(c.doc.root.object("externalDocs")); docs != nil {
		c.out.root.set("externalDocs", docs)
	}
	c.copyExtensions(c.doc.root, "", inRoot, c.out.root)
	if servers := c.doc.root.list("servers"); len(servers) > 1 {
		c.report.lose("/servers", "All servers but one are left out: the connector has the relay's address")
	}
}

func contactOf(in *object) *object {
	out := &object{}
	if n := in.text("name"); n != "" {
		out.set("name", n)
	}
	if externalDocs(in) != nil {
		out.set("url", in.text("url"))
	}
	if m := in.text("email"); goodMail(m) {
		out.set("email", m)
	}
	return out
}

// goodMail is what RFC 5321 and validators agree on.
func goodMail(m string) bool {
	local, domain, ok := strings.Cut(m, "@")
	if !ok || local == "" || !strings.Contains(domain, ".") || strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") {
		return false
	}
	return !strings.ContainsFunc(m, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`@(),:;<>[\]"`, r) && r != '@' }) &&
		!strings.Contains(domain, "@") && !strings.Contains(m, "..")
}

func (c *converter) tags() {
	seen := map[string]bool{}
	var list []any
	for _, v := range c.doc.root.list("tags") {
		t, _ := v.(*object)
		name := t.text("name")
		if name == "" || seen[name] {
			continue
		}
		seen[name] = true
		tag := obj("name", name)
		if d := strings.TrimSpace(t.text("description")); d != "" {
			tag.set("description", d)
		}
		list = append(list, tag)
	}
	if len(list) > 0 {
		c.out.root.set("tags", list)
	}
}

// copyExtensions takes over Microsoft's extensions that may stand at a position, and others without references.
func (c *converter) copyExtensions(from *object, place string, where position, to *object) {
	for _, m := range from.all() {
		switch {
		case !strings.HasPrefix(m.key, "x-"):
		case !strings.HasPrefix(m.key, "x-ms-"):
			if c.rules.extensions && !hasRef(m.value) {
				to.set(m.key, m.value)
			}
		default:
			v, ok := microsoft(where, m.key, m.value)
			if ok && m.key == "x-ms-notification-content" {
				v = c.notification(m.value.(*object), pointer(place, m.key))
			}
			if ok {
				to.set(m.key, v)
			} else {
				c.report.lose(place, "%s was left out: Power Platform does not take it here, or not in this form", shorten(m.key, 60))
			}
		}
	}
}

// notification is the content that a webhook trigger receives.
func (c *converter) notification(in *object, place string) *object {
	out := &object{}
	if d := in.text("description"); d != "" {
		out.set("description", d)
	}
	if in.has("schema") {
		out.set("schema", c.body(in.get("schema"), pointer(place, "schema")))
	}
	return out
}

// body is the schema of a whole body. Microsoft's schema wants dynamic extensions at its top or in a definition.
func (c *converter) body(v any, place string) *object { return c.schema(v, place, true) }

// methods are those of OpenAPI 2.0, in the order in which they are written.
func methods() []string { return []string{"get", "post", "put", "patch", "delete", "head", "options"} }

func (c *converter) path(path string, value any) {
	place := pointer("/paths", path)
	item, at, ok := c.doc.resolve(value, place)
	if !ok {
		c.report.lose(place, "A path without a readable description was left out")
		return
	}
	clean, fixed, err := cleanPath(path)
	if err != nil {
		c.report.lose(place, "A path was left out: %v", err)
		return
	}
	clean, renamed := c.spelling(clean)
	for _, m := range item.all() {
		method := strings.ToLower(m.key)
		switch {
		case slices.Contains(methods(), method):
			c.operation(method, clean, m.value, source{item: item, place: at, fixed: fixed, renamed: renamed, key: m.key})
		case method == "trace" || method == "query" || method == "connect":
			c.report.lose(pointer(at, m.key), "An operation was left out: OpenAPI 2.0 does not know its method (%s)", strings.ToUpper(method))
		case method == "servers":
			c.report.lose(pointer(at, m.key), "Servers of a path or an operation are left out: the connector has the relay's address")
		}
	}
}

// A source is where an operation comes from.
type source struct {
	item       *object
	place, key string
	fixed      []*object         // query parameters that the path's text has
	renamed    map[string]string // path parameters whose names another path has set
}

// spelling gives a path as an equal one was spelt before: /a/{id} and /A/{key} are one path to Power Platform.
func (c *converter) spelling(path string) (string, map[string]string) {
	form := strings.ToLower(variable.ReplaceAllString(path, "{}"))
	before, ok := c.known[form]
	if !ok {
		c.known[form] = path
		return path, nil
	}
	renamed := map[string]string{}
	names := variable.FindAllStringSubmatch(before, -1)
	for i, m := range variable.FindAllStringSubmatch(path, -1) {
		if m[1] != names[i][1] {
			renamed[m[1]] = names[i][1]
		}
	}
	return before, renamed
}

func (c *converter) operation(method, path string, value any, from source) {
	place := pointer(from.place, from.key)
	in, _, ok := c.doc.resolve(value, place)
	if !ok {
		c.report.lose(place, "An operation without a readable description was left out")
		return
	}
	key := method + " " + path
	if c.taken[key] {
		c.report.lose(place, "An operation was left out: another one has the same method and path")
		return
	}
	c.taken[key] = true
	op := &operation{method: method, path: path, place: place, value: &object{}, pathItem: &object{}}
	c.copyExtensions(from.item, from.place, inPath, op.pathItem)
	c.describe(op, in)
	c.parameters(op, in, from)
	c.responses(op, in)
	c.copyExtensions(in, place, inOperation, op.value)
	if in.has("callbacks") {
		c.report.lose(pointer(place, "callbacks"), "Callbacks were left out; to make a trigger of the operation, add x-ms-trigger and x-ms-notification-url")
	}
	if in.has("servers") {
		c.report.lose(pointer(place, "servers"), "Servers of a path or an operation are left out: the connector has the relay's address")
	}
	c.out.operations = append(c.out.operations, op)
}

func (c *converter) describe(op *operation, in *object) {
	var tags []any
	for _, t := range texts(in.list("tags")) {
		if t != "" && !slices.Contains(tags, any(t)) {
			tags = append(tags, t)
		}
	}
	if len(tags) > 0 {
		op.value.set("tags", tags)
	}
	for _, key := range []string{"summary", "description", "operationId"} {
		if s := strings.TrimSpace(scalarText(in.get(key))); s != "" {
			op.value.set(key, s)
		}
	}
	if in.flag("deprecated") {
		op.value.set("deprecated", true)
	}
	if docs := externalDocs(in.object("externalDocs")); docs != nil && c.rules.extensions {
		op.value.set("externalDocs", docs)
	}
}
