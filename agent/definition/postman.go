package definition

import (
	"regexp"
	"strings"
)

// postmanSchema is the form of the collection that leaves, whichever came.
const postmanSchema = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"

// A collection is a Postman collection being cut. Unlike an OpenAPI document it is full of what was used when it was made:
// secrets, variables, scripts and answers with real data. So it is made anew of the few things that describe the API, and of
// bodies their shape alone: values are replaced by others of their type.
type collection struct {
	*document
	o         Options
	report    *Report
	base      base
	home      string // the host whose requests are the API's
	variables map[string]string
}

// A request is one of a collection, of any version.
type request struct {
	node         *node // for its line
	at           string
	name         string
	description  *node
	method, host string
	path         string // as it is in the collection, variables included
	query        []*node
	headers      []kid // with a name and the value
	body         *node // as v2 has it
	responses    []*node
}

// collection gathers the variables, whose values say where requests go.
func (d *document) collection(o Options, report *Report) *collection {
	c := &collection{document: d, o: o, report: report, variables: map[string]string{}}
	list := d.root.get("variable")
	if d.kind == postman1 {
		list = d.root.get("variables")
	}
	for _, v := range list.items() {
		if value := v.node.get("value"); value != nil && value.kind == isString {
			c.variables[v.node.str("key")] = value.text
		}
	}
	return c
}

// cutPostman makes a collection of the requests that may leave.
func (d *document) cutPostman(o Options, _ *hosts, report *Report) (*node, error) {
	c := d.collection(o, report)
	var items *node
	if d.kind == postman1 {
		items = d.root.fromV1()
	} else if items = d.root.get("item"); !items.isList() {
		return nil, d.fail(d.root, "/item", "a collection has a list of items")
	}
	c.findHome(items)
	out := newMap()
	info := newMap()
	name := d.root.get("info").str("name")
	if d.kind == postman1 {
		name = d.root.str("name")
	}
	info.set("name", newString(name))
	if text := describe(d.root.get("info")); text != nil {
		info.set("description", text)
	}
	out.set("info", info.with("schema", newString(postmanSchema)))
	kept := c.items(items, "/item", 0)
	out.set("item", kept)
	out.set("variable", newListOf(newMap().with("key", newString(baseVariable)).with("value", newString(""))))
	for _, k := range d.root.kids {
		switch k.key {
		case "event", "auth", "variable", "variables", "events":
			report.strip("/"+k.key, "secrets, scripts and addresses")
		}
	}
	return out, nil
}

// describe gives a description, which may be an object with its content.
func describe(n *node) *node {
	text := n.get("description")
	if text.isMap() {
		text = text.get("content")
	}
	if text == nil || text.kind != isString || text.text == "" {
		return nil
	}
	return newString(text.text)
}

// findHome finds the host and the base path of the API: the url's host if a request has it, or else the most frequent one.
func (c *collection) findHome(items *node) {
	count, paths := map[string]int{}, map[string][]string{}
	c.each(items, 0, func(r *request) {
		count[r.host]++
		paths[r.host] = append(paths[r.host], c.template(r.path, false), c.template(r.path, true))
	})
	if c.o.URL != nil {
		for h := range count {
			if nameOfHost(h) == strings.ToLower(c.o.URL.Hostname()) {
				count[h] += len(items.items()) + 1<<30
			}
		}
	}
	most := 0
	for h, n := range count {
		if n > most || n == most && h < c.home {
			c.home, most = h, n
		}
	}
	var warning string
	if c.base, warning = findBase("", c.o.URL, paths[c.home]); warning != "" {
		c.report.warnf("%s: %s", c.file, warning)
	}
}

func (c *collection) each(items *node, depth int, f func(*request)) {
	for _, k := range items.items() {
		if sub := k.node.get("item"); sub.isList() && depth < maxDepth {
			c.each(sub, depth+1, f)
		} else if r := c.request(k.node, ""); r != nil {
			f(r)
		}
	}
}

// items keeps the requests that may leave, and the folders that have some left.
func (c *collection) items(list *node, at string, depth int) *node {
	out := newList()
	for i, k := range list.items() {
		where := step(at, list, i)
		if sub := k.node.get("item"); sub.isList() && depth < maxDepth {
			folder := newMap().with("name", newString(k.node.str("name")))
			if text := describe(k.node); text != nil {
				folder.set("description", text)
			}
			if kept := c.items(sub, where+"/item", depth+1); len(kept.kids) > 0 {
				out.add(folder.with("item", kept))
			}
			continue
		}
		r := c.request(k.node, where)
		if r == nil {
			c.report.strip(where, "it is no request")
			continue
		}
		if one := c.keep(r); one != nil {
			c.report.Operations++
			out.add(one)
		}
	}
	return out
}

// request reads an item of v2.
func (c *collection) request(n *node, at string) *request {
	q := n.get("request")
	if q == nil {
		return nil
	}
	r := &request{node: n, at: at, name: n.str("name"), method: "GET", description: describe(q)}
	address := q.get("url")
	if q.kind == isString { // a request may be its address
		address = q
	}
	if m := q.str("method"); m != "" {
		r.method = strings.ToUpper(m)
	}
	for _, h := range q.get("header").items() {
		r.headers = append(r.headers, kid{h.node.str("key"), h.node})
	}
	r.body = q.get("body")
	for _, a := range n.get("response").items() {
		r.responses = append(r.responses, a.node)
	}
	c.address(r, address)
	return r
}

var variable = regexp.MustCompile(`\{\{([^{}]*)\}\}`)

// resolve replaces variables whose values the collection has.
func (c *collection) resolve(s string) string {
	for range 5 { // values may have variables
		next := variable.ReplaceAllStringFunc(s, func(v string) string {
			if value := c.variables[strings.TrimSpace(v[2:len(v)-2])]; value != "" {
				return value
			}
			return v
		})
		if next == s || len(next) > 1<<16 {
			break
		}
		s = next
	}
	return s
}
