package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sallyport/agent/policy"
	"sallyport/configs"
)

// Texts is one text, or a list of them.
type Texts []string

// UnmarshalText reads one.
func (t *Texts) UnmarshalText(text []byte) error {
	*t = Texts{string(text)}
	return nil
}

// JSONSchema describes the type for package configs/schema.
func (Texts) JSONSchema() map[string]any {
	return map[string]any{"oneOf": []any{
		map[string]any{"type": "string"},
		map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
	}}
}

// Rule is one entry of an allow-list: the rule alone, or the rule and conditions that must all hold.
type Rule struct {
	// The rule: a method and a path.
	Rule string `yaml:"rule,required"`
	// Who may call, as their token proves to the agent (callers must be set): any of person (anybody of the issuer's people),
	// upn=anna@corp.example, oid=GUID, group=GUID, role=NAME (an app role) and app=GUID (an application by itself). Default:
	// everybody, or person where the API is called as: caller.
	Who Texts `yaml:"who"`
	// What the query may say.
	Query *RuleQuery `yaml:"query"`
	// What header fields may say.
	Headers *RuleHeaders `yaml:"headers"`
	// The largest body of a request: 1MB. 0 for none. Default: that of limits.
	Body *configs.Size `yaml:"body"`
	// The media types of bodies: application/json, image/*. Default: any.
	ContentType Texts `yaml:"content_type"`
	// When the rule counts, any of: "Mon-Fri 07:00-19:00 Europe/Berlin". By this machine's clock. Default: always.
	Between Texts `yaml:"between"`
}

// UnmarshalText reads a rule without conditions.
func (r *Rule) UnmarshalText(text []byte) error {
	r.Rule = string(text)
	return nil
}

// RuleQuery is what a query may say. Each parameter may be there once, spelled as here; in a value * stands for any text.
type RuleQuery struct {
	// Parameters that must be there, each with its values: {plant: [P1, P2]}.
	Required map[string]Texts `yaml:"required"`
	// Parameters that may be there, each with its values: {$top: "*"}.
	Allowed map[string]Texts `yaml:"allowed"`
	// What becomes of other parameters: refuse or allow. Default: refuse.
	Others string `yaml:"others" enum:"refuse,allow"`
}

// RuleHeaders is what header fields may say. Each may be there once; in a value * stands for any text. Other fields may
// come as they do without this.
type RuleHeaders struct {
	// Fields that must be there, each with its values: {X-Plant: [P1, P2]}.
	Required map[string]Texts `yaml:"required"`
	// Fields that may be there with these values alone.
	Allowed map[string]Texts `yaml:"allowed"`
}

func texts(m map[string]Texts) map[string][]string {
	out := make(map[string][]string, len(m))
	for name, list := range m {
		out[name] = list
	}
	return out
}

// entry is the rule as package policy has it.
func (r *Rule) entry() policy.Entry {
	e := policy.Entry{Rule: r.Rule, Who: r.Who, Body: policy.NoBound, ContentType: r.ContentType, Between: r.Between}
	if r.Body != nil {
		e.Body = int64(*r.Body)
	}
	if q := r.Query; q != nil {
		e.Query = &policy.Values{Required: texts(q.Required), Allowed: texts(q.Allowed), Others: q.Others == "allow"}
	}
	if h := r.Headers; h != nil {
		e.Headers = &policy.Values{Required: texts(h.Required), Allowed: texts(h.Allowed), Others: true}
	}
	return e
}

func (v validator) allow(path string, a *API) {
	entries := make([]policy.Entry, len(a.Allow))
	for i := range a.Allow {
		v.rule(fmt.Sprintf("%s[%d]", path, i), &a.Allow[i])
		if a.ActsForCallers() && len(a.Allow[i].Who) == 0 {
			a.Allow[i].Who = Texts{policy.Person} // nobody else can be called for
		}
		entries[i] = a.Allow[i].entry()
	}
	p, err := policy.CompileEntries(entries)
	if errs, ok := errors.AsType[policy.Errors](err); ok {
		for _, e := range errs {
			at := fmt.Sprintf("%s[%d]", path, e.Index)
			if e.Rule == "" { // which has been said
				continue
			}
			if e.Field != "" {
				v.Errorf(v.nearest(at+"."+e.Field), "%s: %s", e.Field, e.Message)
				continue
			}
			v.Errorf(v.nearest(at+".rule"), "rule %q, column %d: %s", e.Rule, e.Column, e.Message)
		}
		return
	}
	a.policy = p
	v.allowWarnings(path, a)
}

// nearest is the path itself, if it stands in the file, or what stands around it: one text in place of a list, a rule
// without conditions.
func (v validator) nearest(path string) string {
	for !v.Has(path) {
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return path
		}
		path = path[:i]
	}
	return path
}

// rule checks what package policy does not see.
func (v validator) rule(path string, r *Rule) {
	if len(r.Who) > 0 && v.c.Callers == nil {
		v.Errorf(path+".who", "who needs callers: whose tokens prove who calls (add callers with an issuer and an audience)")
	}
	for _, list := range []struct {
		name string
		list Texts
	}{{"who", r.Who}, {"between", r.Between}, {"content_type", r.ContentType}} {
		if at := path + "." + list.name; len(list.list) == 0 && v.Has(at) {
			v.Errorf(at, "%s is empty (name at least one, or remove it)", list.name)
		}
	}
}

func (v validator) allowWarnings(path string, a *API) {
	if len(a.Allow) == 0 {
		v.warnf(path, "API %s allows nothing (add rules under allow: - GET /orders/**)", a.Name)
	}
	batches := a.policy.Batches()
	for i := range a.Allow {
		rule := a.Allow[i].Rule
		if slices.Contains(batches, rule) {
			v.warnf(fmt.Sprintf("%s[%d]", path, i), "rule %q also admits OData's $batch, whose body can hold calls that no rule admits", rule)
		}
		if wider := a.policy.Wider(i); wider != "" {
			v.warnf(fmt.Sprintf("%s[%d]", path, i), "the conditions of rule %q bind nobody: rule %q admits the same calls without them", rule, wider)
		}
	}
	if a.Auth.Word == AuthNone && a.policy.Writes() {
		v.warnf(path, "API %s is called without a credential (auth: none) and its rules admit writing", a.Name)
	}
}
