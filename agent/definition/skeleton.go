package definition

import (
	"slices"
	"strings"
)

// A Sample is a JSON file that shows what an operation takes or answers. Its names and types leave, its values do not.
type Sample struct {
	Method, Path string
	// Request and Response are JSON; nil: none. The names are what errors call them.
	Request, Response         []byte
	RequestName, ResponseName string
}

// maxSkeleton bounds the operations of a skeleton.
const maxSkeleton = 4096

// Skeleton drafts an OpenAPI document from the rules of an allow-list ("GET,PATCH /orders/{id}"), for an API that has no
// definition. A rule with /** becomes the path before it and one segment below. Samples fill in the bodies.
func Skeleton(title string, rules []string, samples []Sample, o Options) (*Result, error) {
	r := &Result{Report: Report{Form: "allow-list", Cut: []CutOperation{}, Stripped: []Stripped{}, Warnings: []string{}}}
	paths := newMap()
	for _, rule := range rules {
		methods, path, _ := strings.Cut(rule, " ")
		for _, p := range below(strings.TrimLeft(path, " ")) {
			for _, m := range methodsOf(methods) {
				if r.Report.Operations >= maxSkeleton || !addDraft(paths, m, p, o.Allowed) {
					continue
				}
				r.Report.Operations++
			}
		}
	}
	for _, s := range samples {
		if err := addSample(paths, s, &r.Report); err != nil {
			return nil, err
		}
	}
	out := newMap().with("openapi", newString("3.0.3"))
	out.set("info", newMap().with("title", newString(title)).with("version", newString("1")))
	out.set("servers", newListOf(newMap().with("url", newString("/"))))
	out.set("paths", paths)
	return r, r.finish(title, out, newHosts(o.URL, o.Hosts))
}

// below gives the paths that a rule's path stands for.
func below(path string) []string {
	rest, ok := strings.CutSuffix(path, "/**")
	switch {
	case !ok:
		return []string{path}
	case rest == "":
		return []string{"/", "/{path}"}
	}
	return []string{rest, rest + "/{path}"}
}

func methodsOf(list string) []string {
	if list == "*" {
		return []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
	}
	return strings.Split(list, ",")
}

// addDraft adds an operation with its path parameters, unless it is there.
func addDraft(paths *node, method, rule string, allowed func(string, string) bool) bool {
	key := strings.ToLower(method)
	names, encoded := placeholders(rule)
	path := strings.ReplaceAll(rule, ":encoded}", "}")
	if !isMethod(key) || !allowed(method, path) {
		return false
	}
	item := paths.get(path)
	if item == nil {
		item = newMap()
		paths.set(path, item)
	}
	if item.get(key) != nil {
		return false
	}
	op := newMap().with("operationId", newString(operationID(key, path))).with("summary", newString(method+" "+path))
	list := newList()
	for _, name := range names {
		p := newMap().with("name", newString(name)).with("in", newString("path")).with("required", newBool(true))
		if slices.Contains(encoded, name) {
			p.set("x-ms-url-encoding", newString("double"))
		}
		list.add(p.with("schema", newMap().with("type", newString("string"))))
	}
	if len(list.kids) > 0 {
		op.set("parameters", list)
	}
	if key == "post" || key == "put" || key == "patch" {
		op.set("requestBody", jsonContent(newMap()))
	}
	answer := newMap().with("description", newString("What the API answers."))
	op.set("responses", newMap().with("default", answer))
	item.set(key, op)
	return true
}

// placeholders of a rule's path, and those of them that are {name:encoded}.
func placeholders(path string) (names, encoded []string) {
	for rest := path; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return names, encoded
		}
		name, after, _ := strings.Cut(after, "}")
		name, option, _ := strings.Cut(name, ":")
		if names = append(names, name); option == "encoded" {
			encoded = append(encoded, name)
		}
		rest = after
	}
}

// operationID names an operation by its method and path, in one word: "GetOrdersById".
func operationID(method, path string) string {
	var b strings.Builder
	upper := true
	for _, c := range method + strings.ReplaceAll(path, "{", "/By/") {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			if upper {
				b.WriteString(strings.ToUpper(string(c)))
			} else {
				b.WriteRune(c)
			}
			upper = false
		default:
			upper = true
		}
	}
	return b.String()
}

func jsonContent(schema *node) *node {
	return newMap().with("content", newMap().with("application/json", newMap().with("schema", schema)))
}

// addSample puts the schemas of a sample into its operation.
func addSample(paths *node, s Sample, report *Report) error {
	op := paths.get(s.Path).get(strings.ToLower(s.Method))
	if op == nil {
		report.warnf("the sample for %s %s is not used: the allow-list does not have this operation", s.Method, s.Path)
		return nil
	}
	if s.Request != nil {
		schema, err := schemaOf(s.RequestName, s.Request)
		if err != nil {
			return err
		}
		op.set("requestBody", jsonContent(schema))
	}
	if s.Response != nil {
		schema, err := schemaOf(s.ResponseName, s.Response)
		if err != nil {
			return err
		}
		answer := newMap().with("description", newString("OK"))
		answer.kids = append(answer.kids, jsonContent(schema).kids...)
		op.set("responses", newMap().with("200", answer))
	}
	return nil
}

func schemaOf(name string, data []byte) (*node, error) {
	data, err := utf8Of(data)
	if err != nil {
		return nil, &Error{File: name, What: err.Error()}
	}
	n, err := readJSON(name, data)
	if err != nil {
		return nil, err
	}
	return schema(n), nil
}

// schema describes a value by its names and types.
func schema(n *node) *node {
	word := func(t string) *node { return newMap().with("type", newString(t)) }
	switch n.kind {
	case isString:
		return word("string")
	case isBool:
		return word("boolean")
	case isNumber:
		if strings.ContainsAny(n.text, ".eE") {
			return word("number")
		}
		return word("integer")
	case isList:
		items := newMap()
		for i, k := range n.kids {
			if i == 0 {
				items = schema(k.node)
			} else {
				items = merge(items, schema(k.node))
			}
		}
		return word("array").with("items", items)
	case isMap:
		properties := newMap()
		for _, k := range n.kids {
			properties.kids = append(properties.kids, kid{k.key, schema(k.node)})
		}
		return word("object").with("properties", properties)
	}
	return newMap().with("nullable", newBool(true)) // null tells no type
}

// merge describes both of two values: what they disagree about is left open.
func merge(a, b *node) *node {
	ta, tb := a.str("type"), b.str("type")
	switch {
	case ta == "" || tb == "":
		if ta == "" {
			a, b = b, a
		}
		if a.get("nullable") == nil && b.get("nullable") != nil && a.str("type") != "" {
			a.set("nullable", newBool(true))
		}
		return a
	case ta != tb && strings.Contains("integer number", ta) && strings.Contains("integer number", tb):
		return newMap().with("type", newString("number"))
	case ta != tb:
		return newMap()
	case ta == "array":
		a.set("items", merge(a.get("items"), b.get("items")))
	case ta == "object":
		into := a.get("properties")
		for _, k := range b.get("properties").members() {
			if had := into.get(k.key); had != nil {
				into.set(k.key, merge(had, k.node))
			} else {
				into.kids = append(into.kids, k)
			}
		}
	}
	return a
}
