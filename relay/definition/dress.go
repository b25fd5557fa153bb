package definition

import (
	"slices"
	"strings"
	"unicode"
)

// dress fills in what makers read, where the author has not.
func (b *builder) dress() {
	for _, op := range b.operations {
		b.dressOperation(op)
		for _, p := range op.value.list("parameters") {
			b.dressParameter(p.(*object), op)
		}
		for _, at := range op.bodies() {
			b.dressSchema(at.get("schema"))
		}
	}
	for _, d := range b.definitions.all() {
		b.dressSchema(d.value)
	}
}

func (b *builder) dressOperation(op *operation) {
	v := op.value
	author := v.text("summary")
	summary := strings.Join(strings.Fields(author), " ")
	if len([]rune(summary)) >= 2*maxSummary*3/4 { // the validator's limit, 120
		if !v.has("description") {
			v.set("description", sentence(author))
		}
		summary = fitSummary(summary)
	}
	if summary = endAlphanumeric(summary); summary == "" {
		summary = summaryFrom(op, v.text("operationId"))
	}
	v.set("summary", summary)
	if d := v.text("description"); d == "" {
		v.set("description", sentence(summary))
	} else {
		v.set("description", sentence(b.cut(d)))
	}
	if v.flag("deprecated") {
		v.setDefault("x-ms-visibility", "advanced")
	}
	if next := v.object("x-ms-pageable").text("nextLinkName"); next != "" && next != "nextLink" && next != "@odata.nextLink" {
		v.remove("x-ms-pageable")
		b.report.lose(op.place, "x-ms-pageable was left out: Power Platform follows a link named nextLink or @odata.nextLink alone")
	}
}

// cut keeps descriptions of operations and parameters longer than those within bodies.
func (b *builder) cut(s string) string {
	if b.rules.descriptions == 0 {
		return s
	}
	return shorten(s, max(200, b.rules.descriptions))
}

// sentence ends a text.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	last := []rune(s)
	if len(last) == 0 || !unicode.IsLetter(last[len(last)-1]) && !unicode.IsDigit(last[len(last)-1]) && last[len(last)-1] != ')' {
		return s
	}
	return s + "."
}

func (b *builder) dressParameter(p *object, op *operation) {
	name, in := p.text("name"), p.text("in")
	if p.text("x-ms-visibility") == "internal" && p.flag("required") && in != "body" && !p.has("default") {
		p.remove("x-ms-visibility")
		b.report.lose(op.place, "A parameter that is internal, required and without a default was made visible: nothing could give its value")
	}
	if in == "path" {
		p.setDefault("x-ms-url-encoding", "single")
	}
	if in == "body" {
		p.setDefault("description", "The body of the request.")
		p.sorted("name", "in", "required", "description")
		return
	}
	p.setDefault("x-ms-summary", title(name))
	if d := p.text("description"); d == "" {
		p.set("description", p.text("x-ms-summary")+".")
	} else {
		p.set("description", b.cut(d))
	}
	if !p.has("x-ms-visibility") {
		switch {
		case p.flag("required"):
			p.set("x-ms-visibility", "important")
		case in == "header":
			p.set("x-ms-visibility", "advanced")
		}
	}
	p.sorted("name", "in", "required", "description", "type", "format")
}

// dressSchema names the members of bodies for people.
func (b *builder) dressSchema(v any) {
	eachSchema(v, func(s *object) {
		required := s.list("required")
		for _, p := range s.object("properties").all() {
			member := p.value.(*object)
			if member.has("$ref") {
				continue
			}
			if b.rules.titles && !member.has("title") {
				member.setDefault("x-ms-summary", title(p.key))
			}
			if member.text("x-ms-visibility") == "internal" && slices.Contains(required, any(p.key)) && !member.has("default") &&
				!member.has("x-ms-notification-url") && !member.has("properties") {
				member.remove("x-ms-visibility")
				b.report.lose("", "A member that is internal, required and without a default was made visible: nothing could give its value")
			}
		}
	})
}

// references follows new IDs in Microsoft's extensions, and drops extensions that refer to operations that are not there.
func (b *builder) references() {
	for _, op := range b.operations {
		b.refer(op.value, op.place)
		b.refer(op.pathItem, op.place)
	}
	b.refer(b.definitions, "/definitions")
	b.refer(b.root, "")
}

func (b *builder) refer(v any, place string) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			b.refer(one, place)
		}
	case *object:
		for _, m := range slices.Clone(v.all()) {
			if !strings.HasPrefix(m.key, "x-ms-") {
				b.refer(m.value, place)
				continue
			}
			switch m.key {
			case "x-ms-dynamic-values", "x-ms-dynamic-list", "x-ms-dynamic-schema", "x-ms-dynamic-properties", "x-ms-dynamic-tree",
				"x-ms-notification", "x-ms-operation-context", "x-ms-capabilities":
				value := copyOf(m.value)
				if !b.renamed(value) {
					v.remove(m.key)
					b.report.lose(place, "%s was left out: the operation that it refers to is not offered", m.key)
					continue
				}
				v.set(m.key, value)
			case "x-ms-api-annotation":
				b.annotation(v, m.value)
			case "x-ms-notification-content":
				b.refer(m.value, place)
			}
		}
	}
}

// renamed gives each operationId its new value; false: there is no such operation.
func (b *builder) renamed(v any) bool {
	ok := true
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			ok = b.renamed(one) && ok
		}
	case *object:
		for _, m := range v.members {
			if id, isText := m.value.(string); m.key == "operationId" && isText {
				now, known := b.ids[id]
				v.set("operationId", now)
				ok = ok && known
			} else if m.key != "parameters" {
				ok = b.renamed(m.value) && ok
			}
		}
	}
	return ok
}

// annotation drops a replacement that is not there; the annotation stays.
func (b *builder) annotation(at *object, v any) {
	o, _ := copyOf(v).(*object)
	if r := o.object("replacement"); r != nil {
		now, ok := b.ids[r.text("operationId")]
		if !ok || !at.flag("deprecated") {
			o.remove("replacement")
		} else {
			r.set("operationId", now)
		}
	}
	at.set("x-ms-api-annotation", o)
	if o.len() == 0 {
		at.remove("x-ms-api-annotation")
	}
}

// settle brings what Microsoft's schema takes at the top of a body or in definitions alone into a definition.
func (b *builder) settle() {
	lift := func(holder *object, key string, name string) {
		s := holder.object(key)
		if s == nil || s.has("$ref") || !slices.ContainsFunc([]string{
			"x-ms-dynamic-schema", "x-ms-dynamic-properties", "x-ms-dynamic-tree", "x-ms-media-kind",
		}, s.has) {
			return
		}
		base := orText(cleanName(name), "Dynamic")
		free := base
		for n := 2; b.definitions.has(free); n++ {
			free = base + "_" + num(n).String()
		}
		b.definitions.set(free, s)
		holder.set(key, obj("$ref", "#/definitions/"+free))
	}
	inside := func(name string) func(*object) {
		return func(s *object) {
			props := s.object("properties")
			for _, p := range slices.Clone(props.all()) {
				lift(props, p.key, name+"_"+p.key)
			}
			lift(s, "items", name+"_item")
			lift(s, "additionalProperties", name+"_value")
		}
	}
	for _, op := range b.operations {
		for _, at := range op.bodies() {
			eachSchema(at.get("schema"), inside(op.value.text("operationId")))
		}
	}
	for i := 0; i < len(b.definitions.all()); i++ { // it grows meanwhile
		d := b.definitions.all()[i]
		eachSchema(d.value, inside(d.key))
	}
}
