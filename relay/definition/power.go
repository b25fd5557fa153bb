package definition

import (
	"fmt"
	"slices"
	"strings"
)

// Files are what a custom connector is made of.
type Files struct {
	Definition []byte // apiDefinition.swagger.json
	Properties []byte // apiProperties.json
	Settings   []byte // settings.json, for paconn
	Icon       []byte // icon.png
	Report     Report
	// Operations are the methods and paths, with their IDs, in order.
	Operations []Operation
}

// An Operation is one that a definition has.
type Operation struct {
	Method  string `json:"method"`
	Path    string `json:"path"`
	ID      string `json:"id"`
	Summary string `json:"summary,omitempty"`
}

// A stage is a way to make a definition smaller, on top of those before it.
type stage struct {
	says  string
	apply func(*rules)
}

// stages are in the order of what a maker misses least.
func stages() []stage {
	return []stage{
		{"extensions of other tools than Microsoft's were left out", func(r *rules) { r.extensions = false }},
		{"examples were left out", func(r *rules) { r.examples = false }},
		{"descriptions inside bodies were cut to 200 characters", func(r *rules) { r.descriptions = 200 }},
		{"names for people on members of bodies were not made", func(r *rules) { r.titles = false }},
		{"descriptions inside bodies were cut to 80 characters, those beside references left out", func(r *rules) { r.descriptions = 80; r.beside = false }},
		{"bodies are described for 4 levels of references", func(r *rules) { r.levels = 4 }},
		{"descriptions inside bodies were left out", func(r *rules) { r.descriptions = -1 }},
		{"bodies are described for 2 levels of references", func(r *rules) { r.levels = 2 }},
		{"bodies are described for 1 level of references", func(r *rules) { r.levels = 1 }},
	}
}

// everything is where all begin.
func everything() rules {
	return rules{beside: true, examples: true, extensions: true, titles: true, levels: unlimited}
}

// unlimited levels are as many as a leveler tries for what contains itself.
const unlimited = 6

// PowerPlatform makes the files of a custom connector. The error is an *Invalid, or says what is wrong with the target.
func PowerPlatform(d *Document, t Target) (*Files, error) {
	root, report, err := swaggerFor(d, t)
	if err != nil {
		return nil, err
	}
	f := &Files{Report: *report, Operations: operationsOf(root)}
	if f.Definition = encode(root, "  "); len(f.Definition) >= MaxDefinitionSize {
		f.Definition = append(encode(root, ""), '\n')
	}
	f.Properties = encode(properties(t), "  ")
	f.Settings = encode(settings(), "  ")
	f.Icon, err = icon(orText(t.Color, defaultColor))
	return f, err
}

// swaggerFor makes the OpenAPI 2.0 document within Power Platform's limits.
func swaggerFor(d *Document, t Target) (*object, *Report, error) {
	r := everything()
	var steps []string
	next := stages()
	for {
		root, report, err := build(d, t, r, MaxOperations)
		if err != nil {
			return nil, nil, err
		}
		size := len(encode(root, "")) + 1
		if size < MaxDefinitionSize || len(next) == 0 {
			if size >= MaxDefinitionSize {
				root, report, err = fewer(d, t, r, size, len(operationsOf(root)))
				if err != nil {
					return nil, nil, err
				}
				steps = append(steps, fmt.Sprintf("%d operations were kept, the first ones; let the agent offer fewer, or publish it as several connectors", len(operationsOf(root))))
			}
			report.Steps = append(steps, report.Steps...)
			return root, report, nil
		}
		next[0].apply(&r)
		steps = append(steps, next[0].says)
		next = next[1:]
	}
}

// fewer drops operations from the end until the definition is small enough.
func fewer(d *Document, t Target, r rules, size, operations int) (*object, *Report, error) {
	for {
		operations = max(1, min(operations-1, operations*(MaxDefinitionSize*9/10)/size))
		root, report, err := build(d, t, r, operations)
		if err != nil {
			return nil, nil, err
		}
		if size = len(encode(root, "")) + 1; size < MaxDefinitionSize {
			return root, report, nil
		}
		if operations == 1 {
			return nil, nil, &Invalid{"/paths", "one operation alone is larger than Power Platform takes (1 MB)"}
		}
	}
}

// build converts once, by these rules.
func build(d *Document, t Target, r rules, operations int) (*object, *Report, error) {
	scheme, host, basePath, err := t.address()
	if err != nil {
		return nil, nil, err
	}
	s, report, err := convert(d, r)
	if err != nil {
		return nil, nil, err
	}
	b := &builder{swagger: s, target: t, report: report, rules: r}
	b.disown()
	b.limit(operations)
	b.name()
	b.level(r.levels)
	b.dress()
	b.own()
	b.references()
	b.settle()
	root := obj("swagger", "2.0", "info", b.info(), "host", host, "basePath", basePath, "schemes", []any{scheme},
		"consumes", []any{typeJSON}, "produces", []any{typeJSON}, "paths", b.paths())
	root.set("definitions", b.used())
	root.set("parameters", &object{})
	root.set("responses", &object{})
	definitions, requirement := t.security()
	root.set("securityDefinitions", definitions)
	root.set("security", append([]any{}, requirement...))
	b.tags()
	for _, m := range s.root.all() {
		root.setDefault(m.key, m.value)
	}
	return root, report, nil
}

// builder makes of a converted document one that Power Platform rewards.
type builder struct {
	*swagger
	target Target
	report *Report
	rules  rules
	ids    map[string]string // as the author wrote them, to what they are
	taken  map[string]bool
}

func (b *builder) info() *object {
	info := b.root.object("info").shallow()
	if !info.has("description") {
		info.set("description", fmt.Sprintf("%s, through the gateway %s.", strings.TrimRight(info.text("title"), "."), b.target.Gateway))
	}
	return info.sorted("title", "description", "version")
}

// limit keeps to the number of operations: those that are deprecated go first, then the last ones.
func (b *builder) limit(most int) {
	excess := len(b.operations) + b.target.own() - most
	drop := func(deprecated bool) {
		for i := len(b.operations) - 1; i >= 0 && excess > 0; i-- {
			if op := b.operations[i]; op.value.flag("deprecated") == deprecated {
				b.report.lose(op.place, "Operations beyond Power Platform's limits (%d) were left out; let the agent offer fewer, or publish several connectors", MaxOperations)
				b.operations = slices.Delete(b.operations, i, i+1)
				excess--
			}
		}
	}
	drop(true)
	drop(false)
}

// name gives the operations their IDs.
func (b *builder) name() {
	b.ids, b.taken = map[string]string{}, map[string]bool{}
	for _, op := range b.operations {
		author := op.value.text("operationId")
		id := cleanID(author)
		if b.target.KeepIDs && goodID(author) {
			id = author
		}
		if id == "" {
			id = idFrom(op)
		}
		id = uniqueID(id, b.taken)
		if _, ok := b.ids[author]; !ok && author != "" {
			b.ids[author] = id
		}
		op.value.set("operationId", id)
	}
}

// level keeps bodies within the limits.
func (b *builder) level(levels int) {
	l := newLeveler(b.definitions, b.report)
	allowed := levels
	if levels == unlimited {
		allowed = maxDepth
	}
	for _, op := range b.operations {
		for _, at := range op.bodies() {
			if s := at.object("schema"); s != nil {
				at.set("schema", l.fit(s, levels, allowed, op.place))
			}
		}
	}
	l.finish()
}

// bodies are the objects of an operation that have a schema.
func (o *operation) bodies() []*object {
	var out []*object
	for _, p := range o.value.list("parameters") {
		if p := p.(*object); p.text("in") == "body" {
			out = append(out, p)
		}
	}
	for _, r := range o.value.object("responses").all() {
		out = append(out, r.value.(*object))
	}
	if n := o.pathItem.object("x-ms-notification-content"); n != nil {
		out = append(out, n)
	}
	return out
}

// paths gathers the operations by path, in their order.
func (b *builder) paths() *object {
	paths := &object{}
	for _, op := range b.operations {
		item := paths.object(op.path)
		if item == nil {
			item = &object{}
			paths.set(op.path, item)
		}
		for _, m := range op.pathItem.all() {
			item.setDefault(m.key, m.value)
		}
		item.set(op.method, op.value.sorted("tags", "summary", "description", "operationId", "deprecated", "externalDocs",
			"consumes", "produces", "parameters", "responses"))
	}
	for _, p := range paths.all() {
		p.value.(*object).sorted(methods()...)
	}
	return paths
}

// used are the definitions that the operations lead to.
func (b *builder) used() *object {
	used := map[string]bool{}
	var queue []string
	mark := func(_ *object, name string) {
		if !used[name] {
			used[name] = true
			queue = append(queue, name)
		}
	}
	for _, op := range b.operations {
		for _, at := range op.bodies() {
			eachRef(at.get("schema"), mark)
		}
	}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		eachRef(b.definitions.get(name), mark)
	}
	out := &object{}
	for _, d := range b.definitions.all() {
		if used[d.key] {
			out.set(d.key, d.value)
		}
	}
	return out.byKey()
}

// tags keeps those that operations have.
func (b *builder) tags() {
	var used []any
	for _, op := range b.operations {
		used = union(used, op.value.list("tags"))
	}
	kept := slices.DeleteFunc(slices.Clone(b.root.list("tags")), func(t any) bool {
		return !slices.Contains(used, t.(*object).get("name"))
	})
	b.root.remove("tags")
	if len(kept) > 0 {
		b.root.set("tags", kept)
	}
}

// operationsOf lists those of an OpenAPI document.
func operationsOf(root *object) []Operation {
	var out []Operation
	for _, p := range root.object("paths").all() {
		item, _ := p.value.(*object)
		for _, method := range methods() {
			if op := item.object(method); op != nil {
				out = append(out, Operation{strings.ToUpper(method), p.key, op.text("operationId"), op.text("summary")})
			}
		}
	}
	return out
}
