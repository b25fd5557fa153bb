package definition

import (
	"slices"
	"strings"
)

// isMethod says that a member of a path item is an operation.
func isMethod(key string) bool {
	switch key {
	case "get", "put", "post", "delete", "options", "head", "patch", "trace":
		return true
	}
	return false
}

// A cutter cuts one OpenAPI document.
type cutter struct {
	*document
	o      Options
	report *Report
	base   base
	home   map[string]bool // hosts that are the API's, as the document names them
	kept   map[string]bool // operationIds that leave
	tags   map[string]bool // tags of operations that leave
	budget int             // for what is written out in place of a reference
}

// cutOpenAPI makes another document of what may leave, by naming what is kept: what this program does not know stays.
func (d *document) cutOpenAPI(o Options, h *hosts, report *Report) (*node, error) {
	paths := d.root.get("paths")
	if paths != nil && !paths.isMap() && paths.kind != isNull {
		return nil, d.fail(paths, "/paths", "paths must be a mapping of paths")
	}
	c := &cutter{
		document: d, o: o, report: report, home: map[string]bool{}, kept: map[string]bool{}, tags: map[string]bool{},
		budget: maxInlined,
	}
	c.findBase(paths)
	kept := newMap()
	for i, k := range paths.members() {
		c.path(kept, k, step("/paths", paths, i))
	}
	out := newMap()
	for _, k := range d.root.kids {
		switch key := k.key; {
		case key == "paths":
			out.set(key, kept)
		case key == "info":
			out.set(key, c.info(k.node))
		case key == "tags":
			out.set(key, c.usedTags(k.node))
		case c.rootMember(key):
			out.set(key, k.node)
		case key == "host" || key == "basePath" || key == "schemes" || key == "servers":
			report.strip("/"+key, "the relay has its own address")
		default:
			report.strip("/"+escapePointer(key), "it does not leave")
		}
	}
	if out.get("paths") == nil {
		out.set("paths", kept) // a document of webhooks alone: without them nothing says what it is
	}
	if d.kind == openAPI3 {
		out.set("servers", newListOf(newMap().with("url", newString("/"))))
	}
	c.clean(out, "", isObject)
	c.dropUnused(out)
	return out, nil
}

func newListOf(items ...*node) *node {
	n := newList()
	for _, i := range items {
		n.add(i)
	}
	return n
}

// rootMember names what leaves of the root as it is, apart from what clean takes out of it.
func (c *cutter) rootMember(key string) bool {
	switch key {
	case "x-ms-connector-metadata", "x-ms-capabilities":
		return true
	case "swagger", "consumes", "produces", "definitions", "parameters", "responses":
		return c.kind == swagger2
	case "openapi", "jsonSchemaDialect", "components":
		return c.kind == openAPI3
	}
	return false
}

// servers of the document, a path or an operation, variables replaced by their defaults.
func servers(n *node) (list []string) {
	for _, s := range n.get("servers").items() {
		address := s.node.str("url")
		for _, v := range s.node.get("variables").members() {
			value := v.node.get("default")
			if value != nil && (value.kind == isString || value.kind == isNumber) {
				address = strings.ReplaceAll(address, "{"+v.key+"}", value.text)
			}
		}
		list = append(list, address)
	}
	return list
}

// hosts names the machines that the document itself says it is about.
func (d *document) hosts() (list []string) {
	if h := d.root.str("host"); d.kind == swagger2 && h != "" {
		list = append(list, strings.ToLower(h))
	}
	if d.kind != openAPI3 {
		return list
	}
	seen := []*node{d.root}
	for _, p := range d.root.get("paths").members() {
		seen = append(seen, p.node)
		for _, m := range p.node.members() {
			if isMethod(m.key) {
				seen = append(seen, m.node)
			}
		}
	}
	for _, n := range seen {
		for _, s := range servers(n) {
			if h := hostOf(s); h != "" && !strings.ContainsAny(h, "{}") {
				list = append(list, h)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// findBase looks at the base path, or at the server that is most likely the API's: the one with its host, or with its path,
// or the first.
func (c *cutter) findBase(paths *node) {
	names := make([]string, 0, len(paths.members()))
	for _, k := range paths.members() {
		names = append(names, k.key)
	}
	own, ownPath := "", ""
	if c.o.URL != nil {
		own, ownPath = strings.ToLower(c.o.URL.Host), strings.TrimRight(c.o.URL.EscapedPath(), "/")
		c.home[nameOfHost(own)] = true
	}
	stated := c.root.str("basePath")
	if c.kind == openAPI3 {
		list := servers(c.root)
		best := -1
		for _, s := range list {
			rank := 0
			if hostOf(s) == own {
				rank += 2
			}
			if strings.TrimRight(pathOf(s), "/") == ownPath {
				rank++
			}
			if rank > best {
				best, stated = rank, pathOf(s)
			}
			c.home[nameOfHost(hostOf(s))] = true
		}
	}
	var warning string
	if c.base, warning = findBase(stated, c.o.URL, names); warning != "" {
		c.report.warnf("%s: %s", c.file, warning)
	}
}

// path keeps what may leave of one path.
func (c *cutter) path(kept *node, k kid, at string) {
	item := c.resolveItem(k.node, at)
	if !strings.HasPrefix(k.key, "/") || !item.isMap() {
		if !strings.HasPrefix(k.key, "x-") {
			c.report.strip(at, "it is no path")
		}
		return
	}
	template, rest := splitPath(k.key)
	out := newMap()
	operations := 0
	for _, m := range item.kids {
		switch {
		case isMethod(m.key):
			if c.operation(item, m, template) {
				out.set(m.key, m.node)
				operations++
				if m.node.del("servers") {
					c.report.strip(at+"/"+m.key+"/servers", "the relay has its own address")
				}
				m.node.del("security") // the agent signs on
			}
		case m.key != "servers" && m.key != "$ref":
			out.set(m.key, m.node)
		}
	}
	if operations == 0 {
		return
	}
	path, _ := c.below(item, template)
	if path += rest; kept.get(path) != nil {
		c.report.warnf("%s:%d: at %s: a second path that is %s below the url; the first one counts", c.file, k.node.line, at, path)
		return
	}
	c.inline(out, at, 0)
	c.report.Operations += operations
	kept.set(path, out)
}

// splitPath takes off a query or a fragment, which some definitions use to tell operations of one path apart.
func splitPath(key string) (path, rest string) {
	if i := strings.IndexAny(key, "?#"); i >= 0 {
		return key[:i], key[i:]
	}
	return key, ""
}

// below gives a path of the document as it follows the url, with the path's own servers if it has some.
func (c *cutter) below(item *node, template string) (string, bool) {
	for _, s := range servers(item) {
		b, _ := findBase(pathOf(s), c.o.URL, []string{template})
		return b.below(template)
	}
	return c.base.below(template)
}

// operation decides about one operation.
func (c *cutter) operation(item *node, m kid, template string) bool {
	method := strings.ToUpper(m.key)
	path, below := c.below(item, template)
	why := ""
	switch {
	case !m.node.isMap():
		why = "it is no operation"
	case !below || !c.sameBase(m.node, template, path):
		why = whyElsewhere
	case c.elsewhere(item) || c.elsewhere(m.node):
		why = whyOtherHost
	case !c.o.Allowed(method, path):
		why = whyNotAllowed
	}
	if why != "" {
		c.report.Cut = append(c.report.Cut, CutOperation{method, template, why})
		return false
	}
	if id := m.node.str("operationId"); id != "" {
		c.kept[id] = true
	}
	for _, t := range m.node.get("tags").items() {
		c.tags[t.node.text] = true
	}
	return true
}

// sameBase says that an operation's own servers, if it has some, do not lead to another path.
func (c *cutter) sameBase(n *node, template, path string) bool {
	for _, s := range servers(n) {
		b, _ := findBase(pathOf(s), c.o.URL, []string{template})
		if p, ok := b.below(template); !ok || p != path {
			return false
		}
	}
	return true
}

// elsewhere reports whether servers of a path or an operation are all on hosts that the document does not have otherwise.
func (c *cutter) elsewhere(n *node) bool {
	list := servers(n)
	for _, s := range list {
		if h := nameOfHost(hostOf(s)); h == "" || c.home[h] {
			return false
		}
	}
	return len(list) > 0
}

// resolveItem follows the reference of a path item.
func (c *cutter) resolveItem(n *node, at string) *node {
	ref := n.str("$ref")
	if ref == "" {
		return n
	}
	target := c.target(ref)
	if !target.isMap() || target == n || target.str("$ref") != "" {
		c.report.warnf("%s:%d: at %s: the reference %s leads to no path", c.file, n.line, at, ref)
		return nil
	}
	copied := target.copy(&c.budget) // each use is cut for itself
	if copied == nil {
		c.report.warnf("%s:%d: at %s: %v", c.file, n.line, at, errTooMany)
		return nil
	}
	for _, k := range n.kids {
		if k.key != "$ref" && copied.get(k.key) == nil {
			copied.set(k.key, k.node)
		}
	}
	return copied
}

// target is what a reference within the document leads to, or nil.
func (c *cutter) target(ref string) *node {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil
	}
	return c.root.at(pointer)
}

// maxInline bounds references within what was written out for a reference, maxInlined the values that are written out.
const (
	maxInline  = 20
	maxInlined = 1 << 18
)

// inline writes out references into paths, which bundling programs make: the paths are not those of what leaves, and may not
// leave at all. A reference out of the document is no use to anybody outside and is taken away.
func (c *cutter) inline(n *node, at string, depth int) {
	for i := range n.kids {
		where := step(at, n, i)
		within := depth
		for range maxInline { // what is written out may be a reference itself
			if !c.inlineOne(&n.kids[i], where, within) {
				break
			}
			within++
		}
		c.inline(n.kids[i].node, where, within)
	}
}

// inlineOne writes out one reference, and says whether it did.
func (c *cutter) inlineOne(k *kid, at string, depth int) bool {
	ref := k.node.get("$ref")
	switch {
	case ref == nil || ref.kind != isString:
		return false
	case !strings.HasPrefix(ref.text, "#"):
		c.report.strip(at, "it refers out of the document, which is not followed")
		k.node.del("$ref")
		return false
	case !c.outside(ref.text):
		return false
	}
	var copied *node
	if target := c.target(ref.text); target != nil && depth < maxInline {
		copied = target.copy(&c.budget)
	}
	if copied == nil {
		c.report.strip(at, "it refers to what does not leave")
		copied = newMap()
	}
	k.node = copied
	return true
}

// outside says that a reference leads to something other than a component.
func (c *cutter) outside(ref string) bool {
	_, ok := componentOf(ref, c.kind)
	return !ok
}

// usedTags are the descriptions of tags that operations have which leave.
func (c *cutter) usedTags(n *node) *node {
	out := newList()
	for i, t := range n.items() {
		if c.tags[t.node.str("name")] {
			out.add(t.node)
		} else {
			c.report.strip(step("/tags", n, i), "no operation that leaves has this tag")
		}
	}
	return out
}

// info keeps what describes the API, and not whom to ask inside.
func (c *cutter) info(n *node) *node {
	out := newMap()
	for _, k := range n.members() {
		switch k.key {
		case "title", "version", "description", "summary", "license":
			out.set(k.key, k.node)
		case "contact":
			contact := newMap()
			for _, m := range k.node.members() {
				if m.key == "name" || m.key == "email" {
					contact.set(m.key, m.node)
				} else {
					c.report.strip("/info/contact/"+escapePointer(m.key), "an address")
				}
			}
			out.set(k.key, contact)
		default:
			c.report.strip("/info/"+escapePointer(k.key), "it does not leave")
		}
	}
	return out
}
