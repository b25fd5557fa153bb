package policy

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

// NoBound is an Entry's Body and a Verdict's where no bound is set.
const NoBound = -1

// An Entry is a rule with conditions. All of them must hold. The zero value of each sets none, but for Body.
type Entry struct {
	Rule string
	// Who are the principals that may call, as parseTerm reads them; empty: anybody whom the relay lets through.
	Who []string
	// Query and Headers say which values may come.
	Query, Headers *Values
	// Body is the largest request body in bytes, NoBound for none.
	Body int64
	// ContentType are the media types of bodies: application/json, image/*.
	ContentType []string
	// Between are the times at which the rule counts: "Mon-Fri 07:00-19:00 Europe/Berlin".
	Between []string
}

// A Request is what a rule with conditions judges.
type Request struct {
	Method, Target string
	Header         http.Header
	// Length is the body's length, negative if it is not known.
	Length int64
	// Upgrade says that the request asks for another protocol, whose bytes no bound counts.
	Upgrade bool
	Now     time.Time
	// Principal proves who calls. It is asked only where a rule needs that, and at most once. Nil: nobody is proved.
	Principal func() (Principal, error)
}

// A Principal is who was proved to call.
type Principal interface {
	// Is reports whether the principal is a person or application, or has a group or role: kind is one of the Kinds.
	Is(kind, value string) bool
}

// A condition is what an entry demands beside method and path.
type condition struct {
	who     []term
	query   *values
	headers *values
	body    int64
	types   []string
	windows []window
}

// CompileEntries makes a policy of rules with conditions. The error is an Errors with everything that is wrong.
func CompileEntries(entries []Entry) (*Policy, error) {
	p := &Policy{}
	var errs Errors
	for i, e := range entries {
		r, err := parseRule(e.Rule)
		var bad []*RuleError
		if err != nil {
			bad = append(bad, err)
		} else {
			r.when, bad = e.condition()
		}
		for _, one := range bad {
			one.Index, one.Rule = i, e.Rule
			errs = append(errs, one)
		}
		if len(bad) == 0 {
			p.rules = append(p.rules, r)
			p.root.add(r)
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return p, nil
}

// condition compiles what the entry demands; nil if it demands nothing.
func (e *Entry) condition() (c *condition, bad []*RuleError) {
	c = &condition{body: e.Body}
	fail := func(field string, err error) {
		bad = append(bad, &RuleError{Field: field, Column: 1, Message: err.Error()})
	}
	for i, text := range e.Who {
		t, err := parseTerm(text)
		if err != nil {
			fail(fmt.Sprintf("who[%d]", i), err)
		}
		c.who = append(c.who, t)
	}
	for i, text := range e.Between {
		w, err := parseWindow(text)
		if err != nil {
			fail(fmt.Sprintf("between[%d]", i), err)
		}
		c.windows = append(c.windows, w)
	}
	for i, text := range e.ContentType {
		kind, params, err := mime.ParseMediaType(text)
		if err != nil || len(params) > 0 || strings.Count(kind, "/") != 1 {
			fail(fmt.Sprintf("content_type[%d]", i), fmt.Errorf("%q is not a media type (write application/json, or image/* for all of a kind)", text))
		}
		c.types = append(c.types, kind)
	}
	if e.Query != nil {
		c.query, bad = compileValues("query", e.Query, foldQuery, bad)
	}
	if e.Headers != nil {
		c.headers, bad = compileValues("headers", e.Headers, foldField, bad)
		bad = append(bad, c.headers.reserved()...)
	}
	if c.who == nil && c.windows == nil && c.types == nil && c.query == nil && c.headers == nil && c.body < 0 {
		return nil, bad
	}
	return c, bad
}

// A judgement is one request on its way through the rules.
type judgement struct {
	req      *Request
	query    string
	asked    bool
	who      Principal
	identity error  // why nobody is proved, if a rule needed it and all else held
	reason   string // the first condition that did not hold
	tooLarge bool   // that was the size of the body
}

// admits says whether what a rule demands beside method and path holds.
func (j *judgement) admits(r *rule) bool {
	if j == nil || r.when == nil {
		return true
	}
	c := r.when
	reason := c.fault(j)
	if reason == "" && len(c.who) > 0 {
		reason = j.prove(c.who)
	}
	if reason != "" && j.reason == "" {
		j.reason = reason
	}
	return reason == ""
}

// fault is the first condition, but for who, that does not hold. Nothing in it comes from the rules.
func (c *condition) fault(j *judgement) string {
	r := j.req
	if c.windows != nil && !slices.ContainsFunc(c.windows, func(w window) bool { return w.holds(r.Now) }) {
		return "the allow-list admits this call at other times only"
	}
	if c.query != nil {
		if reason := c.query.checkQuery(j.query); reason != "" {
			return reason
		}
	}
	if c.headers != nil {
		if reason := c.headers.checkHeader(r.Header); reason != "" {
			return reason
		}
	}
	if r.Upgrade && (c.types != nil || c.body >= 0) {
		return "the allow-list admits this call with a body that it can look at, and no change of protocol"
	}
	if c.types != nil {
		if reason := c.checkType(r); reason != "" {
			return reason
		}
	}
	if c.body >= 0 && r.Length > c.body {
		j.tooLarge = true
		return "the body is larger than the allow-list admits for this call"
	}
	return ""
}

func (c *condition) checkType(r *Request) string {
	var lines []string
	for name, vv := range r.Header {
		if foldField(name) != "content-type" {
			continue
		}
		if http.CanonicalHeaderKey(name) != "Content-Type" {
			return "a header field is spelled like Content-Type, which programs read differently"
		}
		lines = append(lines, vv...)
	}
	if len(lines) == 0 && r.Length == 0 {
		return ""
	}
	if len(lines) != 1 {
		return "the allow-list admits this call with one Content-Type only"
	}
	kind, _, err := mime.ParseMediaType(lines[0])
	if err != nil {
		return "the Content-Type is not one media type"
	}
	family, _, _ := strings.Cut(kind, "/")
	if !slices.Contains(c.types, kind) && !slices.Contains(c.types, family+"/*") {
		return "the allow-list does not admit this call with a body of this Content-Type"
	}
	return ""
}

// ErrNobody is the fault of a request without any way to prove who calls.
var ErrNobody = errors.New("the request does not prove who calls")

// prove asks who calls, once, and says why that is nobody of the list.
func (j *judgement) prove(who []term) (reason string) {
	if !j.asked {
		j.asked = true
		j.identity = ErrNobody
		if j.req.Principal != nil {
			j.who, j.identity = j.req.Principal()
		}
	}
	if j.identity != nil {
		return "the allow-list admits this call for certain principals only"
	}
	if slices.ContainsFunc(who, func(t term) bool { return j.who.Is(t.kind, t.value) }) {
		return ""
	}
	return "the allow-list admits this call for other principals only"
}

// canonical spells the condition in one way, for the policy's hash.
func (c *condition) canonical() string {
	var b strings.Builder
	list := func(name string, texts []string) {
		if texts != nil {
			slices.Sort(texts)
			fmt.Fprintf(&b, " %s=%q", name, slices.Compact(texts))
		}
	}
	var who, windows []string
	for _, t := range c.who {
		who = append(who, t.kind+":"+t.value)
	}
	for _, w := range c.windows {
		windows = append(windows, w.canonical())
	}
	list("who", who)
	list("between", windows)
	list("content_type", slices.Clone(c.types))
	if c.body >= 0 {
		fmt.Fprintf(&b, " body=%d", c.body)
	}
	if c.query != nil {
		b.WriteString(" query=" + c.query.canonical())
	}
	if c.headers != nil {
		b.WriteString(" headers=" + c.headers.canonical())
	}
	return b.String()
}
