package policy

import "strings"

// A node is a place in the tree of all rules' segments. A target visits each node at most once, so a decision is bounded
// by the size of the rules whatever the target is.
type node struct {
	literals map[string]*node // by decoded text
	patterns []edge           // with text around placeholders, in the order of the rules
	any      *node            // {id}
	encoded  *node            // {path:encoded}
	ends     []*rule          // rules that end here
	rests    []*rule          // rules that go on with /**
}

type edge struct {
	pattern pattern
	key     string
	to      *node
}

func (n *node) add(r *rule) {
	for _, s := range r.segments {
		n = n.child(s)
	}
	if r.rest {
		n.rests = append(n.rests, r)
	} else {
		n.ends = append(n.ends, r)
	}
}

func (n *node) child(s pattern) *node {
	switch key := s.canonical(); {
	case s.parts == nil:
		if n.literals == nil {
			n.literals = map[string]*node{}
		}
		if n.literals[s.literal] == nil {
			n.literals[s.literal] = &node{}
		}
		return n.literals[s.literal]
	case key == "{_}":
		if n.any == nil {
			n.any = &node{}
		}
		return n.any
	case key == "{_:encoded}":
		if n.encoded == nil {
			n.encoded = &node{}
		}
		return n.encoded
	default:
		for _, e := range n.patterns {
			if e.key == key {
				return e.to
			}
		}
		n.patterns = append(n.patterns, edge{s, key, &node{}})
		return n.patterns[len(n.patterns)-1].to
	}
}

// match gives a rule that admits the segments of t from i on and whose conditions hold, the most literal one, or nil.
func (n *node) match(method string, t *target, i int, j *judgement) *rule {
	if i == len(t.segments) {
		if r := withMethod(n.ends, method, j); r != nil {
			return r
		}
		return withMethod(n.rests, method, j)
	}
	s := t.segments[i]
	if s.risk&^rawParameter == 0 { // a literal's ";" equals a raw one only
		if next := n.literals[s.text]; next != nil {
			if r := next.match(method, t, i+1, j); r != nil {
				return r
			}
		}
	}
	for _, e := range n.patterns {
		if e.pattern.matches(s) {
			if r := e.to.match(method, t, i+1, j); r != nil {
				return r
			}
		}
	}
	if n.any != nil && s.risk == 0 && s.text != "" {
		if r := n.any.match(method, t, i+1, j); r != nil {
			return r
		}
	}
	if n.encoded != nil && s.text != "" && encodedIsSafe(s.text) {
		if r := n.encoded.match(method, t, i+1, j); r != nil {
			return r
		}
	}
	if t.lastRisk < i {
		return withMethod(n.rests, method, j)
	}
	return nil
}

func withMethod(rules []*rule, method string, j *judgement) *rule {
	for _, r := range rules {
		if r.admitsMethod(method) && j.admits(r) {
			return r
		}
	}
	return nil
}

// matches reports whether a segment of a target is as the pattern has it.
func (p pattern) matches(s segment) bool {
	if p.parts == nil {
		return s.risk&^rawParameter == 0 && s.text == p.literal
	}
	if p.encoded {
		again, _ := unescape(s.text)
		return p.hasValue(s.text) && p.hasValue(again) && encodedIsSafe(s.text)
	}
	// Any ";" must be one of the rule's: then none is left for the values.
	if s.risk&^rawParameter != 0 || s.risk != 0 && strings.Count(s.text, ";") != p.semicolons() {
		return false
	}
	return p.glob(s.text)
}

func (p pattern) semicolons() int {
	n := 0
	for _, text := range p.parts {
		n += strings.Count(text, ";")
	}
	return n
}

// hasValue reports whether the text around the only placeholder is there, and more than separators in its place.
func (p pattern) hasValue(text string) bool {
	if len(text) <= len(p.parts[0])+len(p.parts[1]) {
		return false
	}
	text, before := strings.CutPrefix(text, p.parts[0])
	text, after := strings.CutSuffix(text, p.parts[1])
	return before && after && !isBlank(text)
}

// glob matches the parts with at least one byte for each placeholder. Taking each middle part where it first occurs is
// enough: what is left for the later ones is then longest.
func (p pattern) glob(text string) bool {
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	if len(text) <= len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, middle := range p.parts[1 : len(p.parts)-1] {
		i := strings.Index(text[1:], middle)
		if i < 0 {
			return false
		}
		text = text[1+i+len(middle):]
		if text == "" {
			return false
		}
	}
	return true
}
