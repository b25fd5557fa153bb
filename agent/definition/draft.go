package definition

import (
	"net/url"
	"slices"
	"strings"
)

// A Draft is an allow-list made from a description.
type Draft struct {
	Form string `json:"form"`
	// Rules are in the order of the description, methods of one path together.
	Rules []DraftRule `json:"rules"`
	// Left are the operations of other methods, "POST /orders".
	Left []string `json:"left"`
	// Faults are operations for which there is no rule.
	Faults []CutOperation `json:"faults"`
	// Warnings are what a person should look at.
	Warnings []string `json:"warnings"`
}

// A DraftRule is one rule, and what it is for.
type DraftRule struct {
	Rule    string `json:"rule"`
	Summary string `json:"summary,omitempty"`
}

// DraftRules makes rules that admit the operations of a description with these methods. u is the API's url, whose path the
// rules follow; nil: the description's own base path. check says whether a rule can be compiled.
func DraftRules(name string, data []byte, methods []string, u *url.URL, check func(rule string) error) (*Draft, error) {
	d, err := read(name, data)
	if err != nil {
		return nil, err
	}
	w := &drafter{draft: &Draft{
		Form: d.form(), Rules: []DraftRule{}, Left: []string{}, Faults: []CutOperation{}, Warnings: []string{},
	}, methods: methods, check: check}
	report := &Report{}
	if d.kind == postman || d.kind == postman1 {
		err = w.postman(d, u, report)
	} else {
		err = w.openAPI(d, u, report)
	}
	w.draft.Warnings = append(w.draft.Warnings, report.Warnings...)
	return w.draft, err
}

type drafter struct {
	draft   *Draft
	methods []string
	check   func(string) error
}

func (w *drafter) openAPI(d *document, u *url.URL, report *Report) error {
	paths := d.root.get("paths")
	if paths != nil && !paths.isMap() && paths.kind != isNull {
		return d.fail(paths, "/paths", "paths must be a mapping of paths")
	}
	if u == nil {
		u = &url.URL{Path: pathOf(statedBase(d))}
	}
	c := &cutter{document: d, o: Options{URL: u}, report: report, home: map[string]bool{}, budget: maxInlined}
	c.findBase(paths)
	for i, k := range paths.members() {
		item := c.resolveItem(k.node, step("/paths", paths, i))
		template, _ := splitPath(k.key)
		path, ok := c.below(item, template)
		var list []operation
		for _, m := range item.members() {
			if isMethod(m.key) {
				list = append(list, operation{strings.ToUpper(m.key), m.node.str("summary"), c.encoded(item, m.node)})
			}
		}
		if !ok && len(list) > 0 {
			for _, o := range list {
				w.draft.Faults = append(w.draft.Faults, CutOperation{o.method, template, whyElsewhere})
			}
			continue
		}
		w.path(path, list)
	}
	return nil
}

// statedBase is the base path that a description names itself.
func statedBase(d *document) string {
	if d.kind == swagger2 {
		return d.root.str("basePath")
	}
	for _, s := range servers(d.root) {
		return s
	}
	return ""
}

func (w *drafter) postman(d *document, u *url.URL, report *Report) error {
	items := d.root.get("item")
	if d.kind == postman1 {
		items = d.root.fromV1()
	}
	c := d.collection(Options{URL: u}, report)
	c.findHome(items)
	c.each(items, 0, func(r *request) {
		path, ok := c.base.below(c.template(r.path, false))
		if r.host != c.home || !ok {
			w.draft.Faults = append(w.draft.Faults, CutOperation{r.method, r.path, whyOtherHost})
			return
		}
		w.path(path, []operation{{r.method, r.name, nil}})
	})
	return nil
}

type operation struct {
	method, summary string
	encoded         []string // names of parameters whose values are percent-encoded by the caller
}

// encoded gives the path parameters with x-ms-url-encoding: connectors send their values with encoded separators.
func (c *cutter) encoded(item, op *node) (names []string) {
	for _, n := range []*node{item, op} {
		for _, k := range n.get("parameters").items() {
			p := k.node
			if ref := p.str("$ref"); ref != "" {
				p = c.target(ref)
			}
			if p.str("in") == "path" && p.str("x-ms-url-encoding") != "" {
				names = append(names, p.str("name"))
			}
		}
	}
	return names
}

// path adds the rule of one path.
func (w *drafter) path(path string, list []operation) {
	type group struct{ methods, summaries []string }
	groups := map[string]*group{}
	var order []string
	for _, o := range list {
		rule := rulePath(path, o.encoded)
		if !slices.Contains(w.methods, o.method) {
			w.draft.Left = append(w.draft.Left, o.method+" "+rule)
			continue
		}
		if err := w.check(o.method + " " + rule); err != nil {
			w.draft.Faults = append(w.draft.Faults, CutOperation{o.method, path, err.Error()})
			continue
		}
		g := groups[rule]
		if g == nil {
			g = &group{}
			groups[rule] = g
			order = append(order, rule)
		}
		g.methods = append(g.methods, o.method)
		if o.summary != "" {
			g.summaries = append(g.summaries, o.summary)
		}
	}
	for _, rule := range order {
		g := groups[rule]
		text := strings.Join(g.methods, ",") + " " + rule
		if !slices.ContainsFunc(w.draft.Rules, func(r DraftRule) bool { return r.Rule == text }) {
			w.draft.Rules = append(w.draft.Rules, DraftRule{text, oneLine(strings.Join(g.summaries, "; "))})
		}
	}
}

// rulePath writes a path template as a rule has it.
func rulePath(template string, encoded []string) string {
	parts := strings.Split(template, "/")
	for i, p := range parts {
		parts[i] = ruleSegment(p, encoded)
	}
	return strings.Join(parts, "/")
}

// ruleSegment writes one segment. Placeholders side by side are one; {name:encoded} must be the only one of its segment.
func ruleSegment(s string, encoded []string) string {
	var b strings.Builder
	holders := strings.Count(s, "{")
	after := false // a placeholder stands right before
	for s != "" {
		text, rest, open := strings.Cut(s, "{")
		if text != "" {
			b.WriteString(ruleText(text))
			after = false
		}
		name, next, closed := strings.Cut(rest, "}")
		if !open {
			break
		}
		if !closed {
			b.WriteString("%7B" + ruleText(rest))
			break
		}
		if !after {
			word := ruleName(name)
			if slices.Contains(encoded, name) && holders == 1 {
				word += ":encoded"
			}
			b.WriteString("{" + word + "}")
		}
		after, s = true, next
	}
	return b.String()
}

// ruleText encodes what a rule cannot have as such.
func ruleText(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>\^*{}|?#`+"`", c) >= 0 {
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ruleName keeps of a name what a placeholder can have.
func ruleName(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < 0x80 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
			return c
		}
		return -1
	}, s)
	if s == "" {
		return "value"
	}
	return s
}

// oneLine makes text fit to be a comment.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 100 {
		s = string(r[:97]) + "..."
	}
	return s
}
