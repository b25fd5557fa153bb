package definition

import (
	"fmt"
	"strings"
)

// Power Platform's limits (Microsoft, "Custom connector FAQ").
const (
	MaxOperations     = 256
	MaxBodySchemas    = 512
	MaxDefinitionSize = 1 << 20
)

// A leveler keeps bodies within MaxBodySchemas and free of loops, which the validator refuses. A body that is too large,
// or contains itself, is unrolled for so many levels of references as fit; what lies deeper becomes an object without
// members. Schemas that fit are shared; for others there is a copy for each depth.
type leveler struct {
	definitions *object
	heights     map[string]int // levels of references below a definition; missing: without end
	sizes       map[string]int // schemas in a definition and depth, limited to too many
	made        map[string]bool
	queue       []levelled
	report      *Report
}

type levelled struct {
	source, name string
	levels       int
}

// tooMany stands for any count beyond the limit.
const tooMany = MaxBodySchemas + 1

func newLeveler(definitions *object, report *Report) *leveler {
	l := &leveler{definitions: definitions, heights: map[string]int{}, sizes: map[string]int{}, made: map[string]bool{}, report: report}
	l.measure()
	return l
}

// measure finds the heights, from the definitions that refer to none upwards: those within loops are never reached.
func (l *leveler) measure() {
	users := map[string][]string{}
	open := map[string]int{}
	var ready []string
	for _, d := range l.definitions.all() {
		refs := map[string]bool{}
		eachRef(d.value, func(_ *object, name string) { refs[name] = true })
		open[d.key] = len(refs)
		for name := range refs {
			users[name] = append(users[name], d.key)
		}
		if len(refs) == 0 {
			ready = append(ready, d.key)
			l.heights[d.key] = 0
		}
	}
	height := map[string]int{}
	for len(ready) > 0 {
		name := ready[0]
		ready = ready[1:]
		for _, user := range users[name] {
			height[user] = max(height[user], l.heights[name]+1)
			if open[user]--; open[user] == 0 {
				l.heights[user] = height[user]
				ready = append(ready, user)
			}
		}
	}
}

// eachRef calls f with each reference to a definition within a schema.
func eachRef(v any, f func(at *object, name string)) {
	eachSchema(v, func(s *object) {
		if name, ok := strings.CutPrefix(s.text("$ref"), "#/definitions/"); ok {
			f(s, name)
		}
	})
}

// eachSchema calls f with a schema and those within it, without following references.
func eachSchema(v any, f func(*object)) {
	s, ok := v.(*object)
	if !ok {
		return
	}
	f(s)
	for _, p := range s.object("properties").all() {
		eachSchema(p.value, f)
	}
	eachSchema(s.get("items"), f)
	eachSchema(s.get("additionalProperties"), f)
	for _, m := range s.list("allOf") {
		eachSchema(m, f)
	}
}

// size counts the schemas of a schema that is unrolled for so many levels.
func (l *leveler) size(v any, levels int) int {
	n := 0
	eachSchema(v, func(s *object) {
		if n > MaxBodySchemas {
			return
		}
		if name, ok := strings.CutPrefix(s.text("$ref"), "#/definitions/"); ok {
			n += l.sizeOf(name, levels)
			return
		}
		n++
	})
	return min(n, tooMany)
}

func (l *leveler) sizeOf(name string, levels int) int {
	if h, ok := l.heights[name]; ok && h < levels {
		levels = h + 1 // whatever is deeper is the same
	}
	if levels <= 0 {
		return 1
	}
	key := fmt.Sprintf("%s %d", name, levels)
	if n, ok := l.sizes[key]; ok {
		return n
	}
	n := l.size(l.definitions.get(name), levels-1)
	l.sizes[key] = n
	return n
}

// fit unrolls a body as far as it fits, at most so many levels if it does not fit as a whole. allowed bounds what is not
// recursive, too, where the whole document is too large.
func (l *leveler) fit(body *object, most, allowed int, place string) *object {
	height, finite := 0, true
	eachRef(body, func(_ *object, name string) {
		h, ok := l.heights[name]
		finite = finite && ok
		height = max(height, h+1)
	})
	if finite && height <= allowed && l.size(body, height) <= MaxBodySchemas {
		return body
	}
	if finite {
		most = min(most, height)
	}
	levels := most
	for levels > 0 && l.size(body, levels) > MaxBodySchemas {
		levels--
	}
	if finite && levels >= height && l.size(body, levels) <= MaxBodySchemas {
		return body
	}
	l.report.lose(place, "A body that contains itself, or is larger than Power Platform takes, is described for %d levels; below, objects have no members", levels)
	out := l.unrolled(body, levels)
	if l.size(out, levels) > MaxBodySchemas {
		l.report.lose(place, "A body with more than %d members was cut", MaxBodySchemas)
		prune(out, MaxBodySchemas)
	}
	return out
}

// unrolled copies a schema with its references for so many levels.
func (l *leveler) unrolled(v any, levels int) *object {
	out, _ := copyOf(v).(*object)
	eachRef(out, func(at *object, name string) {
		if levels <= 0 {
			stub(at, l.definitions.object(name))
			return
		}
		if h, ok := l.heights[name]; ok && h < levels {
			return
		}
		at.set("$ref", "#/definitions/"+l.copy(name, levels))
	})
	return out
}

// copy gives the name of a definition's copy for so many levels.
func (l *leveler) copy(source string, levels int) string {
	name := fmt.Sprintf("%s_Level%d", source, levels)
	for !l.made[name] && l.definitions.has(name) {
		name += "_"
	}
	if !l.made[name] {
		l.made[name] = true
		l.queue = append(l.queue, levelled{source, name, levels})
	}
	return name
}

// finish adds the copies.
func (l *leveler) finish() {
	originals := l.definitions.shallow()
	for len(l.queue) > 0 {
		next := l.queue[0]
		l.queue = l.queue[1:]
		l.definitions.set(next.name, l.unrolled(originals.get(next.source), next.levels-1))
	}
}

// stub makes of a reference what can be said of its target without its members.
func stub(at, target *object) {
	at.remove("$ref")
	for _, key := range []string{"type", "format", "title", "description", "enum"} {
		if target.has(key) {
			at.set(key, target.get(key))
		}
	}
	if target.text("type") == "array" {
		at.set("items", &object{})
	}
}

// prune leaves so many schemas, those nearest to the top.
func prune(root *object, most int) {
	level := []*object{root}
	count := 1
	for len(level) > 0 {
		var next []*object
		for _, s := range level {
			props := s.object("properties")
			kept := &object{}
			for _, p := range props.all() {
				if count < most {
					count++
					kept.set(p.key, p.value)
					if child, ok := p.value.(*object); ok {
						next = append(next, child)
					}
				}
			}
			if props.len() > 0 {
				s.set("properties", kept)
				keepRequired(s, kept)
			}
			for _, key := range []string{"items", "additionalProperties"} {
				if child := s.object(key); child != nil {
					if count++; count > most {
						s.set(key, &object{})
					} else {
						next = append(next, child)
					}
				}
			}
		}
		level = next
	}
}

func keepRequired(s, props *object) {
	var required []any
	for _, name := range texts(s.list("required")) {
		if props.has(name) {
			required = append(required, name)
		}
	}
	s.remove("required")
	s.remove("discriminator")
	if len(required) > 0 {
		s.set("required", required)
	}
}
