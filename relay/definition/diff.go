package definition

import (
	"fmt"
	"slices"
	"strings"
)

// A Change is a difference between two definitions that a maker can meet.
type Change struct {
	// Operation is its ID, as flows refer to it.
	Operation string `json:"operation"`
	What      string `json:"what"`
	// Breaking says that flows and apps made with the old definition can fail.
	Breaking bool `json:"breaking"`
}

// Compare lists what is different for makers when the definition before gives way to the one after: breaking changes
// first. Both are brought to the form in which they are exported, so their versions do not matter.
func Compare(before, after *Document) ([]Change, error) {
	neutral := Target{URL: "https://relay.example.com/gateway/api", Gateway: "gateway", Name: "api"}
	olds, _, err := build(before, neutral, everything(), int(^uint(0)>>1))
	if err != nil {
		return nil, fmt.Errorf("the definition before: %w", err)
	}
	news, _, err := build(after, neutral, everything(), int(^uint(0)>>1))
	if err != nil {
		return nil, fmt.Errorf("the definition after: %w", err)
	}
	c := &comparer{old: olds, new: news}
	c.operations()
	slices.SortStableFunc(c.changes, func(a, b Change) int {
		switch {
		case a.Breaking == b.Breaking:
			return 0
		case a.Breaking:
			return -1
		}
		return 1
	})
	return c.changes, nil
}

type comparer struct {
	old, new *object
	id       string // of the operation that is compared
	changes  []Change
}

// maxChanges bounds the list, and maxCompared how deep bodies are compared.
const (
	maxChanges  = 5000
	maxCompared = 12
)

func (c *comparer) say(breaking bool, format string, v ...any) {
	change := Change{c.id, fmt.Sprintf(format, v...), breaking}
	if len(c.changes) < maxChanges && !slices.Contains(c.changes, change) {
		c.changes = append(c.changes, change)
	}
}

func visible(root *object) (list []Operation, values map[string]*object) {
	values = map[string]*object{}
	for _, op := range operationsOf(root) {
		v := root.object("paths").object(op.Path).object(strings.ToLower(op.Method))
		if !strings.HasPrefix(op.Path, ownPrefix) {
			values[op.ID] = v
			list = append(list, op)
		}
	}
	return list, values
}

func (c *comparer) operations() {
	olds, before := visible(c.old)
	news, after := visible(c.new)
	byPath := map[string]string{}
	for _, op := range news {
		byPath[op.Method+" "+op.Path] = op.ID
	}
	renamed := map[string]bool{}
	for _, op := range olds {
		c.id = op.ID
		now, ok := after[op.ID]
		if ok {
			c.operation(before[op.ID], now)
			if i := slices.IndexFunc(news, func(n Operation) bool { return n.ID == op.ID }); news[i].Method+news[i].Path != op.Method+op.Path {
				c.say(false, "is %s %s now; it was %s %s", news[i].Method, news[i].Path, op.Method, op.Path)
			}
			continue
		}
		if id, moved := byPath[op.Method+" "+op.Path]; moved && before[id] == nil {
			renamed[id] = true
			c.say(true, "is called %s now (%s %s): flows that use it lose it", id, op.Method, op.Path)
			continue
		}
		c.say(true, "is gone (%s %s)", op.Method, op.Path)
	}
	for _, op := range news {
		if before[op.ID] == nil && !renamed[op.ID] {
			c.id = op.ID
			c.say(false, "is new (%s %s)", op.Method, op.Path)
		}
	}
}

func (c *comparer) operation(before, after *object) {
	key := func(p *object) string { return p.text("in") + " " + p.text("name") }
	find := func(op *object, k string) *object {
		for _, v := range op.list("parameters") {
			if p := v.(*object); key(p) == k || p.text("in") == "body" && strings.HasPrefix(k, "body ") {
				return p
			}
		}
		return nil
	}
	for _, v := range before.list("parameters") {
		p := v.(*object)
		now := find(after, key(p))
		what := fmt.Sprintf("the parameter %s (%s)", p.text("name"), p.text("in"))
		switch {
		case now == nil:
			c.say(true, "%s is gone", what)
		case !p.flag("required") && now.flag("required") && !now.has("default"):
			c.say(true, "%s is required now", what)
		case p.text("in") == "body":
			c.schema(p.object("schema"), now.object("schema"), "the request", true, 0)
		default:
			c.plain(p, now, what, true)
		}
	}
	for _, v := range after.list("parameters") {
		p := v.(*object)
		if find(before, key(p)) == nil {
			must := p.flag("required") && !p.has("default")
			c.say(must, "the parameter %s (%s) is new%s", p.text("name"), p.text("in"), map[bool]string{true: " and required", false: ""}[must])
		}
	}
	c.answer(before, after)
}

func (c *comparer) answer(before, after *object) {
	_, old := mainSchema(before)
	_, now := mainSchema(after)
	switch {
	case old == nil && now == nil:
	case now == nil:
		c.say(true, "the answer is not described any more")
	case old == nil:
		c.say(false, "the answer is described now")
	default:
		c.schema(old, now, "the answer", false, 0)
	}
}

func mainSchema(op *object) (string, *object) {
	for _, r := range op.object("responses").all() {
		if s := r.value.(*object).object("schema"); s != nil {
			return r.key, s
		}
	}
	return "", nil
}

// plain compares types and listed values.
func (c *comparer) plain(before, after *object, what string, input bool) {
	if a, b := before.text("type"), after.text("type"); a != b && b != "" {
		c.say(true, "%s is of type %s now; it was %s", what, orText(b, "any"), orText(a, "any"))
		return
	}
	from, to := before, after
	if !input {
		return // new values in an answer break nobody who reads carefully, and lists are rarely complete
	}
	if gone := missing(from.list("enum"), to.list("enum")); to.has("enum") && (len(gone) > 0 || !from.has("enum")) {
		c.say(true, "%s takes fewer values", what)
	}
}

func missing(from, in []any) (gone []any) {
	for _, v := range from {
		if !slices.ContainsFunc(in, func(o any) bool { return equal(o, v) }) {
			gone = append(gone, v)
		}
	}
	return gone
}

func (c *comparer) schema(before, after *object, what string, input bool, depth int) {
	if depth > maxCompared || before == nil || after == nil {
		return
	}
	before, after = definitionOf(c.old, before), definitionOf(c.new, after)
	c.plain(before, after, what, input)
	mustBefore, must := before.list("required"), after.list("required")
	for _, p := range before.object("properties").all() {
		name := fmt.Sprintf("%s: %s", what, p.key)
		if depth > 0 {
			name = what + "." + p.key
		}
		now := after.object("properties").object(p.key)
		if now == nil {
			if after.object("properties").len() > 0 || before.text("type") == after.text("type") {
				c.say(true, "%s is gone", name)
			}
			continue
		}
		if input && slices.Contains(must, any(p.key)) && !slices.Contains(mustBefore, any(p.key)) && !now.has("default") {
			c.say(true, "%s is required now", name)
		}
		c.schema(p.value.(*object), now, name, input, depth+1)
	}
	for _, p := range after.object("properties").all() {
		if !before.object("properties").has(p.key) {
			required := input && slices.Contains(must, any(p.key)) && !p.value.(*object).has("default")
			name := fmt.Sprintf("%s: %s", what, p.key)
			if depth > 0 {
				name = what + "." + p.key
			}
			c.say(required, "%s is new%s", name, map[bool]string{true: " and required", false: ""}[required])
		}
	}
	c.schema(before.object("items"), after.object("items"), what+"[]", input, depth+1)
}

func definitionOf(root, s *object) *object {
	if name, ok := strings.CutPrefix(s.text("$ref"), "#/definitions/"); ok {
		return root.object("definitions").object(name)
	}
	return s
}
