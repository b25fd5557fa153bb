package definition

import (
	"strings"
)

// keep makes the request that leaves of one that may; nil if it may not.
func (c *collection) keep(r *request) *node {
	path, why := c.place(r)
	if why != "" {
		shown, _, _ := strings.Cut(c.template(r.path, false), "?")
		c.report.Cut = append(c.report.Cut, CutOperation{r.method, shown, why})
		return nil
	}
	q := newMap().with("method", newString(r.method))
	if r.description != nil {
		q.set("description", r.description)
	}
	q.set("header", c.headers(r.headers, r.at))
	q.set("url", postmanURL(path, r.query))
	if b := c.body(r); b != nil {
		q.set("body", b)
	}
	out := newMap().with("name", newString(r.name)).with("request", q)
	answers := newList()
	for _, a := range r.responses {
		answers.add(c.answer(a))
	}
	return out.with("response", answers)
}

// headers keeps names, without those that sign on, and of the values the types of bodies.
func (c *collection) headers(list []kid, at string) *node {
	out := newList()
	for _, h := range list {
		lower := strings.ToLower(h.key)
		if lower == "" || secretive(lower) || lower == "host" || lower == "cookie" || lower == "set-cookie" {
			c.report.strip(at+"/request/header/"+escapePointer(h.key), "it may be a credential")
			continue
		}
		value := ""
		if lower == "content-type" || lower == "accept" {
			value = h.node.str("value")
		}
		one := newMap().with("key", newString(h.key)).with("value", newString(value))
		if text := describe(h.node); text != nil {
			one.set("description", text)
		}
		out.add(one)
	}
	return out
}

func secretive(name string) bool {
	for _, word := range []string{"auth", "key", "token", "secret", "session", "password", "signature"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// body keeps the shape of a body.
func (c *collection) body(r *request) *node {
	mode := r.body.str("mode")
	switch mode {
	case "raw":
		return newMap().with("mode", newString(mode)).with("raw", newString(shapeOf(r.body.str("raw")))).with("options",
			newMap().with("raw", newMap().with("language", newString("json"))))
	case "urlencoded", "formdata":
		fields := newList()
		for _, f := range r.body.get(mode).items() {
			one := newMap().with("key", newString(f.node.str("key"))).with("value", newString(""))
			if f.node.str("type") == "file" {
				one.set("type", newString("file"))
			}
			if text := describe(f.node); text != nil {
				one.set("description", text)
			}
			fields.add(one)
		}
		return newMap().with("mode", newString(mode)).with(mode, fields)
	case "file":
		return newMap().with("mode", newString(mode))
	case "graphql":
		return newMap().with("mode", newString(mode)).with(mode, newMap().with("query", newString("")))
	}
	return nil
}

// answer keeps status, type and shape of an example.
func (c *collection) answer(a *node) *node {
	out := newMap().with("name", newString(a.str("name")))
	code := a.get("code")
	if code == nil {
		code = a.get("responseCode").get("code") // v1
	}
	if code != nil && code.kind == isNumber {
		out.set("code", &node{kind: isNumber, text: code.text})
	}
	headers := newList()
	for _, h := range a.get("header").items() {
		if strings.EqualFold(h.node.str("key"), "content-type") {
			headers.add(newMap().with("key", newString("Content-Type")).with("value", newString(h.node.str("value"))))
		}
	}
	body := a.str("body")
	if body == "" {
		body = a.str("text") // v1
	}
	return out.with("header", headers).with("body", newString(shapeOf(body)))
}

// shapeOf is a JSON body with other values of the same types, and lists with their first item alone; "" for any other body.
func shapeOf(body string) string {
	if strings.TrimSpace(body) == "" {
		return ""
	}
	n, err := readJSON("", []byte(body))
	if err != nil { // variables stand in it without quotes
		n, err = readJSON("", []byte(variable.ReplaceAllLiteralString(body, "0")))
	}
	if err != nil {
		return ""
	}
	return string(shape(n).appendJSON(nil))
}

func shape(n *node) *node {
	switch n.kind {
	case isString:
		return newString("string")
	case isNumber:
		if strings.ContainsAny(n.text, ".eE") {
			return &node{kind: isNumber, text: "0.5"}
		}
		return &node{kind: isNumber, text: "0"}
	case isBool:
		return newBool(false)
	case isList:
		if len(n.kids) > 0 {
			return newListOf(shape(n.kids[0].node))
		}
		return newList()
	case isMap:
		out := newMap()
		for _, k := range n.kids {
			out.kids = append(out.kids, kid{k.key, shape(k.node)})
		}
		return out
	}
	return &node{}
}

// fromV1 turns the requests of a v1 collection into items of v2, in the order and the folders that it states.
func (n *node) fromV1() *node {
	byID := map[string]*node{}
	var rest []string
	for _, k := range n.get("requests").items() {
		id := k.node.str("id")
		byID[id] = k.node
		rest = append(rest, id)
	}
	items := newList()
	take := func(into *node, order *node) {
		for _, k := range order.items() {
			if q := byID[k.node.text]; q != nil {
				delete(byID, k.node.text)
				into.add(requestFromV1(q))
			}
		}
	}
	for _, f := range n.get("folders").items() {
		sub := newList()
		take(sub, f.node.get("order"))
		folder := newMap().with("name", newString(f.node.str("name")))
		if text := describe(f.node); text != nil {
			folder.set("description", text)
		}
		items.add(folder.with("item", sub))
	}
	take(items, n.get("order"))
	for _, id := range rest { // those in no order
		if q := byID[id]; q != nil {
			delete(byID, id)
			items.add(requestFromV1(q))
		}
	}
	return items
}

func requestFromV1(q *node) *node {
	headers := newList()
	for line := range strings.SplitSeq(q.str("headers"), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			headers.add(newMap().with("key", newString(strings.TrimSpace(name))).with("value", newString(strings.TrimSpace(value))))
		}
	}
	out := newMap().with("method", newString(q.str("method"))).with("url", newString(q.str("url"))).with("header", headers)
	if text := describe(q); text != nil {
		out.set("description", text)
	}
	body := newMap()
	switch mode := q.str("dataMode"); mode {
	case "raw":
		body.with("mode", newString("raw")).with("raw", newString(q.str("rawModeData")))
	case "urlencoded", "params":
		if mode == "params" {
			mode = "formdata"
		}
		if data := q.get("data"); data.isList() && len(data.kids) > 0 {
			body.with("mode", newString(mode)).with(mode, data)
		}
	}
	if len(body.kids) > 0 {
		out.set("body", body)
	}
	item := &node{kind: isMap, line: q.line}
	item.with("name", newString(q.str("name"))).with("request", out)
	if answers := q.get("responses"); answers.isList() {
		item.set("response", answers)
	}
	return item
}
