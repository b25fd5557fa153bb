package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxRule bounds a rule, in bytes: a rule is there to be read.
const maxRule = 2048

// A rule is one line of the allow-list, parsed.
type rule struct {
	text     string
	methods  []string // sorted; nil: any
	segments []pattern
	rest     bool       // ends with /**
	when     *condition // nil: none
}

// A pattern is one segment of a rule: a literal, or text with placeholders in it.
type pattern struct {
	literal string   // decoded; "" for what follows a final slash. Used if parts is nil
	parts   []string // the decoded text before, between and after the placeholders; nil for a literal
	encoded bool     // the one placeholder is {name:encoded}
}

// A RuleError is a rule that cannot be compiled.
type RuleError struct {
	Index   int    // of the rule in the list, from 0
	Rule    string // the rule
	Field   string // what of an Entry is wrong (between[0], query.required); "": the rule itself
	Column  int    // where in the rule, in characters, from 1
	Message string // what is wrong and what to write instead
}

func (e *RuleError) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("rule %d (%s), %s: %s", e.Index+1, e.Rule, e.Field, e.Message)
	}
	return fmt.Sprintf("rule %d (%s), column %d: %s", e.Index+1, e.Rule, e.Column, e.Message)
}

// Errors is everything that is wrong with a list of rules, at least one.
type Errors []*RuleError

// Error gives one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the errors one by one.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// ruleParser keeps the rule for its errors.
type ruleParser struct{ text string }

func (p ruleParser) fail(offset int, format string, args ...any) *RuleError {
	column := utf8.RuneCountInString(p.text[:offset]) + 1
	return &RuleError{Rule: p.text, Column: column, Message: fmt.Sprintf(format, args...)}
}

func parseRule(text string) (*rule, *RuleError) {
	p := ruleParser{text}
	if len(text) > maxRule {
		return nil, ruleParser{text[:20] + "..."}.fail(0, "longer than %d bytes", maxRule)
	}
	if i := strings.IndexFunc(text, func(c rune) bool { return c == utf8.RuneError || unicode.IsControl(c) }); i >= 0 {
		return nil, p.fail(i, "a control character, or not UTF-8 (remove it)")
	}
	methods, path, ok := strings.Cut(text, " ")
	start := len(text) - len(strings.TrimLeft(path, " "))
	path = text[start:]
	if !ok || path == "" {
		return nil, p.fail(0, "a rule is a method and a path (GET /orders/{id}, GET,POST /orders, * /orders/**)")
	}
	r := &rule{text: text}
	var err *RuleError
	if r.methods, err = p.methods(methods); err != nil {
		return nil, err
	}
	return r, p.path(r, path, start)
}

func (p ruleParser) methods(list string) ([]string, *RuleError) {
	if list == "*" {
		return nil, nil
	}
	var methods []string
	offset := 0
	for m := range strings.SplitSeq(list, ",") {
		switch {
		case m == "":
			return nil, p.fail(offset, "a method is missing (write one method, several as GET,POST without spaces, or * for any)")
		case m == "CONNECT" || m == "TRACE" || m == "TRACK":
			return nil, p.fail(offset, "%s cannot be allowed (its answer could show the credential that the agent adds)", m)
		case !isToken(m) || m != strings.ToUpper(m) || strings.Contains(m, "*"):
			return nil, p.fail(offset, "%q is not a method (methods are case-sensitive, in capitals: GET)", m)
		}
		methods = append(methods, m)
		offset += len(m) + 1
	}
	slices.Sort(methods)
	return slices.Compact(methods), nil
}

func (p ruleParser) path(r *rule, path string, offset int) *RuleError {
	if path[0] != '/' {
		return p.fail(offset, "the path must begin with \"/\" (it follows the API's url)")
	}
	if i := strings.IndexAny(path, " ?#\\"); i >= 0 {
		return p.fail(offset+i, "%s", map[byte]string{
			' ':  "a space in the path (write it as %20)",
			'?':  "rules match the path alone; the query is free (remove the \"?\" and what follows)",
			'#':  "a \"#\" never reaches an API (remove it and what follows)",
			'\\': "a \"\\\" is always refused (write \"/\" between segments)",
		}[path[i]])
	}
	list := strings.Split(path[1:], "/")
	if len(list) > MaxSegments {
		return p.fail(offset, "more than %d segments", MaxSegments)
	}
	for i, s := range list {
		offset++
		last := i == len(list)-1
		switch {
		case s == "**" && last:
			r.rest = true
			return nil
		case s == "" && !last:
			return p.fail(offset, "an empty segment (//) is always refused (remove one \"/\")")
		}
		seg, err := p.segment(s, offset)
		if err != nil {
			return err
		}
		r.segments = append(r.segments, seg)
		offset += len(s)
	}
	return nil
}

// segment parses literals and placeholders in turn.
func (p ruleParser) segment(s string, offset int) (pattern, *RuleError) {
	var parts []string
	rest, encoded := s, false
	for {
		open := strings.IndexByte(rest, '{')
		text, at := rest, offset+len(s)-len(rest)
		if open >= 0 {
			text = rest[:open]
		}
		literal, err := p.literal(text, at)
		if err != nil {
			return pattern{}, err
		}
		if literal == "" && open >= 0 && len(parts) > 0 {
			return pattern{}, p.fail(at, "two placeholders side by side (put the text that separates them between)")
		}
		parts = append(parts, literal)
		if open < 0 {
			break
		}
		name, after, ok := strings.Cut(rest[open+1:], "}")
		if !ok {
			return pattern{}, p.fail(at+open, "\"{\" without \"}\" (write a placeholder as {name}, a real \"{\" as %%7B)")
		}
		name, option, hasOption := strings.Cut(name, ":")
		if !isName(name) || hasOption && option != "encoded" {
			return pattern{}, p.fail(at+open, "not a placeholder (write {name} or {name:encoded}; the name is of letters, digits, \"_\", \"-\" and \".\")")
		}
		encoded = encoded || hasOption
		rest = after
	}
	switch {
	case len(parts) == 1:
		return p.literalSegment(s, parts[0], offset)
	case encoded && len(parts) > 2:
		return pattern{}, p.fail(offset, "{name:encoded} must be the only placeholder of its segment")
	}
	return pattern{parts: parts, encoded: encoded}, nil
}

func (p ruleParser) literalSegment(s, text string, offset int) (pattern, *RuleError) {
	switch {
	case hasDotSegment(text):
		return pattern{}, p.fail(offset, "a dot segment is always refused (write the path without it)")
	case text != "" && isBlank(text):
		return pattern{}, p.fail(offset, "a blank segment (%s) is always refused", s)
	}
	return pattern{literal: text}, nil
}

// literal decodes text of a rule and makes sure that a target could match it.
func (p ruleParser) literal(s string, offset int) (string, *RuleError) {
	if i := strings.IndexByte(s, '*'); i >= 0 {
		return "", p.fail(offset+i, "\"*\" has no meaning here (write {name} for one segment, /** at the end for all below, %%2A for a real asterisk)")
	}
	if i := strings.IndexByte(s, '}'); i >= 0 {
		return "", p.fail(offset+i, "\"}\" without \"{\" (write a placeholder as {name}, a real \"}\" as %%7D)")
	}
	text, ok := unescape(s)
	if !ok {
		return "", p.fail(offset+strings.IndexByte(s, '%'), "\"%%\" must be followed by two hex digits (write a real \"%%\" as %%25)")
	}
	r, fault := inspect(text)
	switch {
	case fault != "":
		return "", p.fail(offset, "cannot match: %s", fault)
	case r&^rawParameter != 0 || strings.Count(text, ";") != strings.Count(s, ";"):
		return "", p.fail(offset, "cannot match: %s (write {name:encoded} for a segment with such values)", (r &^ rawParameter).reason())
	}
	return text, nil
}

func isName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == ""
}

func (r *rule) admitsMethod(method string) bool {
	if r.methods == nil {
		// These two echo the request, and with it the credential that the agent added.
		return method != "TRACE" && method != "TRACK" && method != "CONNECT"
	}
	return slices.Contains(r.methods, method)
}

// canonical spells the rule in one way: sorted methods, text escaped as a rule needs it, placeholders without names.
func (r *rule) canonical() string {
	var b strings.Builder
	if r.methods == nil {
		b.WriteByte('*')
	}
	b.WriteString(strings.Join(r.methods, ","))
	b.WriteByte(' ')
	for _, s := range r.segments {
		b.WriteByte('/')
		b.WriteString(s.canonical())
	}
	if r.rest {
		b.WriteString("/**")
	}
	if r.when != nil {
		b.WriteString(r.when.canonical())
	}
	return b.String()
}

func (s pattern) canonical() string {
	if s.parts == nil {
		return escape(s.literal)
	}
	placeholder := "{_}"
	if s.encoded {
		placeholder = "{_:encoded}"
	}
	list := make([]string, len(s.parts))
	for i, text := range s.parts {
		list[i] = escape(text)
	}
	return strings.Join(list, placeholder)
}
