package definition

import (
	"net/url"
	"strings"
)

// baseVariable stands for the relay's address in the collection that leaves.
const baseVariable = "baseUrl"

// address takes a request's address apart.
func (c *collection) address(r *request, n *node) {
	raw := ""
	switch {
	case n == nil:
	case n.kind == isString:
		raw = n.text
	case n.str("raw") != "":
		raw = n.str("raw")
	default:
		raw = joined(n.get("host"), ".") + "/" + joined(n.get("path"), "/")
		if p := n.str("protocol"); p != "" {
			raw = p + "://" + raw
		}
	}
	raw, _, _ = strings.Cut(raw, "#")
	raw, query, _ := strings.Cut(raw, "?")
	start := 0
	if i := strings.Index(raw, "://"); i >= 0 {
		start = i + 3
	}
	end := len(raw)
	if i := strings.IndexByte(raw[start:], '/'); i >= 0 {
		end = start + i
	}
	at := c.resolve(raw[:end]) // it may have a path of its own
	if _, after, ok := strings.Cut(at, "://"); ok {
		at = after
	}
	host, path, _ := strings.Cut(at, "/")
	r.host = strings.ToLower(host[strings.LastIndexByte(host, '@')+1:])
	if path = strings.Trim(path, "/"); path != "" {
		path = "/" + path
	}
	r.path = path + raw[end:]
	if r.path == "" {
		r.path = "/"
	}
	for _, q := range n.get("query").items() {
		r.query = append(r.query, q.node)
	}
	if r.query == nil && query != "" {
		for pair := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(pair, "=")
			r.query = append(r.query, newMap().with("key", newString(unescapePercent(name))))
		}
	}
}

// joined is a list of words, or a word.
func joined(n *node, with string) string {
	if n == nil || n.kind == isString {
		if n == nil {
			return ""
		}
		return n.text
	}
	var words []string
	for _, k := range n.items() {
		if k.node.kind == isString {
			words = append(words, k.node.text)
		} else {
			words = append(words, k.node.str("value"))
		}
	}
	return strings.Join(words, with)
}

// template writes a path of a collection as OpenAPI does: :id and {{id}} become {id}. With values, variables that have some
// are replaced before.
func (c *collection) template(path string, values bool) string {
	if values {
		path = c.resolve(path)
	}
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if name, ok := strings.CutPrefix(p, ":"); ok && name != "" {
			parts[i] = "{" + name + "}"
			continue
		}
		parts[i] = variable.ReplaceAllStringFunc(p, func(v string) string { return "{" + strings.TrimSpace(v[2:len(v)-2]) + "}" })
	}
	return strings.Join(parts, "/")
}

// place finds the path under which the allow-list admits a request.
func (c *collection) place(r *request) (path, why string) {
	if r.host != c.home {
		return "", whyOtherHost
	}
	why = whyElsewhere
	for _, values := range []bool{false, true} {
		p, below := c.base.below(c.template(r.path, values))
		if !below {
			continue
		}
		if c.o.Allowed(r.method, p) {
			return p, ""
		}
		why = whyNotAllowed
	}
	return "", why
}

// postmanURL writes the address of a request that leaves.
func postmanURL(path string, query []*node) *node {
	parts, variables := newList(), newList()
	words := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, w := range words {
		name, isWhole := strings.CutPrefix(w, "{")
		name, isWhole2 := strings.CutSuffix(name, "}")
		if isWhole && isWhole2 && !strings.ContainsAny(name, "{}") {
			words[i] = ":" + name
			variables.add(newMap().with("key", newString(name)).with("value", newString("")))
		} else {
			words[i] = strings.NewReplacer("{", "{{", "}", "}}").Replace(w)
		}
		parts.add(newString(words[i]))
	}
	raw := "{{" + baseVariable + "}}/" + strings.Join(words, "/")
	list := newList()
	for i, q := range query {
		name := q.str("key")
		one := newMap().with("key", newString(name)).with("value", newString(""))
		if text := describe(q); text != nil {
			one.set("description", text)
		}
		if d := q.get("disabled"); d != nil && d.kind == isBool {
			one.set("disabled", newBool(d.text == "true"))
		}
		list.add(one)
		raw += map[bool]string{true: "?", false: "&"}[i == 0] + url.QueryEscape(name) + "="
	}
	out := newMap().with("raw", newString(raw)).with("host", newListOf(newString("{{"+baseVariable+"}}"))).with("path", parts)
	if len(list.kids) > 0 {
		out.set("query", list)
	}
	if len(variables.kids) > 0 {
		out.set("variable", variables)
	}
	return out
}
