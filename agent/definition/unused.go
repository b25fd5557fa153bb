package definition

import "strings"

// componentOf reads a reference to a component: which section it is in and what it is called.
func componentOf(ref string, k form) (c component, ok bool) {
	if k == openAPI3 {
		ref, ok = strings.CutPrefix(ref, "#/components/")
	} else {
		ref, ok = strings.CutPrefix(ref, "#/")
	}
	section, rest, ok2 := strings.Cut(ref, "/")
	if !ok || !ok2 || k == swagger2 && section != "definitions" && section != "parameters" && section != "responses" {
		return component{}, false
	}
	name, _, _ := strings.Cut(rest, "/")
	return component{section, unescapePointer(name)}, true
}

type component struct{ section, name string }

// sections gives the mappings of components, by name.
func (c *cutter) sections(out *node) map[string]*node {
	found := map[string]*node{}
	if c.kind == openAPI3 {
		for _, k := range out.get("components").members() {
			found[k.key] = k.node
		}
		return found
	}
	for _, name := range []string{"definitions", "parameters", "responses"} {
		if n := out.get(name); n != nil {
			found[name] = n
		}
	}
	return found
}

// A reacher finds the components that the rest of a document needs.
type reacher struct {
	*cutter
	sections map[string]*node
	index    map[string]map[string]*node // of each section, by name
	reached  map[component]bool
	open     []component // reached, and not looked at yet
}

// dropUnused keeps the components that an operation needs which leaves, or that such a component needs. Ways to sign on are
// not among them: the relay has its own.
func (c *cutter) dropUnused(out *node) {
	r := &reacher{cutter: c, sections: c.sections(out), index: map[string]map[string]*node{}, reached: map[component]bool{}}
	for section, n := range r.sections {
		r.index[section] = make(map[string]*node, len(n.members()))
		for _, k := range n.members() {
			r.index[section][k.key] = k.node
		}
	}
	for _, k := range out.kids {
		if k.key != "components" && r.sections[k.key] == nil {
			r.look(k.node)
		}
	}
	for len(r.open) > 0 {
		next := r.open[len(r.open)-1]
		r.open = r.open[:len(r.open)-1]
		n := r.index[next.section][next.name]
		c.inline(newListOf(n), "/"+next.section+"/"+escapePointer(next.name), 0)
		r.look(n)
	}
	dropped := 0
	for section, n := range r.sections {
		if !n.isMap() {
			continue
		}
		kept := n.kids[:0]
		for _, k := range n.kids {
			if r.reached[component{section, k.key}] {
				kept = append(kept, k)
			} else {
				dropped++
			}
		}
		n.kids = kept
	}
	r.dropEmpty(out)
	if dropped > 0 {
		where := "/definitions"
		if c.kind == openAPI3 {
			where = "/components"
		}
		c.report.strip(where, plural(dropped, "component")+" that no operation needs which leaves")
	}
}

// dropEmpty takes away the sections that have nothing in them any more: their names say something too.
func (r *reacher) dropEmpty(out *node) {
	holder := out
	if r.kind == openAPI3 {
		if holder = out.get("components"); !holder.isMap() {
			return
		}
	}
	for section, n := range r.sections {
		if len(n.members()) == 0 {
			holder.del(section)
		}
	}
	if holder != out && len(holder.kids) == 0 {
		out.del("components")
	}
}

// look notes what a value refers to.
func (r *reacher) look(n *node) {
	for _, k := range n.kids {
		if k.node.kind != isString {
			r.look(k.node)
			continue
		}
		if strings.HasPrefix(k.node.text, "#/") { // "$ref", and the values of a discriminator's mapping
			if c, ok := componentOf(k.node.text, r.kind); ok {
				r.reach(c)
			}
		}
	}
	for _, m := range n.get("discriminator").get("mapping").members() {
		if m.node.kind == isString && !strings.ContainsAny(m.node.text, "#/") {
			r.reach(component{"schemas", m.node.text})
		}
	}
}

func (r *reacher) reach(c component) {
	if c.section == "securitySchemes" || r.reached[c] || r.index[c.section][c.name] == nil {
		return
	}
	r.reached[c] = true
	r.open = append(r.open, c)
}
