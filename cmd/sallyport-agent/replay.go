package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/agent"
	"sallyport/agent/audit"
	"sallyport/agent/policy"
	"sallyport/agent/state"
)

// maxCompared bounds the groups of calls that are told apart: callers choose their paths.
const maxCompared = 10_000

// A replay is what a proposed file makes of the calls on record.
type replay struct {
	Since   time.Time    `json:"since"`
	Judged  int          `json:"judged"`
	Differ  []*callGroup `json:"differ"`
	Unknown []*callGroup `json:"cannot_be_told"`
	Other   int          `json:"refused_for_other_reasons"` // a pause, a record that could not be written: no rule was asked
	More    int          `json:"not_counted"`               // beyond maxCompared
	Skipped int          `json:"unreadable_lines"`

	was, next   *agent.Config
	sameCallers bool
	policy      string // the hash of the policy in force; "" if it is not known
	asWas       bool   // the policy in force decided about the call at hand
	groups      map[callGroup]*callGroup
}

// A callGroup is calls that are the same but for their time.
type callGroup struct {
	API       string `json:"api"`
	Method    string `json:"method"`
	Path      string `json:"path"`
	Principal string `json:"principal,omitempty"`
	Was       string `json:"was"`
	WasRule   string `json:"was_rule,omitempty"`
	Now       string `json:"now"`
	NowRule   string `json:"now_rule,omitempty"`
	Why       string `json:"why,omitempty"`
	Calls     int    `json:"calls"`
}

// unknown is the verdict about a call for which more would have to be on record.
const unknown = "unknown"

func (p *program) replay(ctx context.Context, was, next *agent.Config, span time.Duration) (*replay, error) {
	dir, err := p.stateDir(was)
	if err != nil {
		return nil, err
	}
	r := &replay{
		Since: time.Now().Add(-span).UTC(), Differ: []*callGroup{}, Unknown: []*callGroup{}, was: was, next: next,
		sameCallers: reflect.DeepEqual(was.Callers, next.Callers), groups: map[callGroup]*callGroup{},
	}
	if r.policy, err = p.policyInForce(dir); err != nil {
		return nil, err
	}
	r.Skipped, err = audit.Events(ctx, dir, func(_ []byte, e audit.Event) error {
		r.take(e)
		return nil
	})
	for _, list := range [][]*callGroup{r.Differ, r.Unknown} {
		slices.SortStableFunc(list, func(a, b *callGroup) int {
			return cmp.Or(cmp.Compare(a.API, b.API), cmp.Compare(a.Now, b.Now), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Path, b.Path))
		})
	}
	return r, err
}

// policyInForce is the hash under which the record has the file in force, "" if the agent has not run by it.
func (p *program) policyInForce(dir state.Dir) (string, error) {
	text, err := os.ReadFile(p.config)
	if err != nil {
		return "", err
	}
	all, err := agent.PolicyHistory(dir)
	sum := sha256.Sum256(text)
	for _, v := range all {
		if v.File == "sha256:"+hex.EncodeToString(sum[:]) {
			return v.Policy, err
		}
	}
	return "", err
}

// take follows which policy was in force, and judges calls.
func (r *replay) take(e audit.Event) {
	switch {
	case e.Kind == audit.Start || e.Kind == audit.Policy && e.Verdict != audit.Refused:
		r.asWas = r.policy != "" && e.Hash == r.policy
		return
	case e.Kind != audit.Call || e.Verdict == "" || e.API == "" || e.Time.Before(r.Since):
		return
	case e.Verdict == audit.Refused && slices.Contains([]string{"paused", "unrecorded", "internal"}, e.Problem):
		r.Other++
		return
	}
	r.Judged++
	g := callGroup{
		API: e.API, Method: e.Method, Path: e.Path, Principal: cmp.Or(e.Principal, e.Caller), Was: e.Verdict, WasRule: e.Rule,
	}
	g.Now, g.NowRule, g.Why = r.judge(&e)
	if g.Now == g.Was {
		return
	}
	one := r.groups[g]
	if one == nil {
		if len(r.groups) >= maxCompared {
			r.More++
			return
		}
		one = new(callGroup)
		*one = g
		r.groups[g] = one
		if g.Now == unknown {
			r.Unknown = append(r.Unknown, one)
		} else {
			r.Differ = append(r.Differ, one)
		}
	}
	one.Calls++
}

// judge says what the proposed file makes of a call, as far as the record tells. The rule is the one that admits it, or, if
// that cannot be told, the one that might.
func (r *replay) judge(e *audit.Event) (verdict, rule, why string) {
	api := apiOf(r.next, e.API)
	if api == nil {
		return audit.Refused, "", "the proposed file has no such API"
	}
	before := apiOf(r.was, e.API)
	if r.asWas && before != nil && len(diffRules(before.Allow, api.Allow)) == 0 && (r.sameCallers || !api.Policy().NeedsPrincipal()) {
		return e.Verdict, e.Rule, "" // the same rules
	}
	if strings.HasSuffix(e.Path, "[cut]") || strings.HasSuffix(e.Method, "[cut]") {
		return unknown, "", "the record has only the beginning of it"
	}
	v := api.Policy().Decide(e.Method, e.Path)
	if !v.Allowed {
		return audit.Refused, "", v.Reason
	}
	if r.asWas && e.Problem == "ambiguous-target" && before != nil && before.Policy().Decide(e.Method, e.Path).Allowed {
		return audit.Refused, "", "its query was refused for its form"
	}
	if e.Verdict == audit.Refused && slices.Contains([]string{"unknown-api", "ambiguous-target", policy.FaultTooLong}, e.Problem) {
		return unknown, v.Rule, "its query is not on record, and can be what is refused"
	}
	// The most literal rule whose conditions hold gives its name; that one holds is what decides.
	explained := api.Policy().Explain(&policy.Request{Method: e.Method, Target: e.Path})
	perhaps, missing := "", ""
	held := ""
	for i, one := range explained {
		if !one.Path {
			continue
		}
		switch holds, lacks := r.holds(e, &api.Allow[i]); {
		case lacks != "":
			perhaps, missing = cmp.Or(perhaps, one.Rule), cmp.Or(missing, lacks)
		case holds && (held == "" || one.Rule == v.Rule):
			held = one.Rule
		}
	}
	switch {
	case held != "":
		return audit.Allowed, held, ""
	case perhaps != "":
		return unknown, perhaps, "not on record: " + missing
	}
	return audit.Refused, "", "the conditions of its rules do not hold"
}

// holds says whether the conditions of a rule of the proposed file held for a call, or else what would have to be on record
// to tell.
func (r *replay) holds(e *audit.Event, rule *agent.Rule) (holds bool, lacks string) {
	if len(rule.Conditions()) == 0 {
		return true, ""
	}
	if len(rule.Between) > 0 {
		at, err := policy.CompileEntries([]policy.Entry{{Rule: rule.Rule, Body: policy.NoBound, Between: rule.Between}})
		if err != nil || !at.Judge(&policy.Request{Method: e.Method, Target: e.Path, Now: e.Time}).Allowed {
			return false, ""
		}
	}
	if decided, held := r.decidedThen(e, rule); decided {
		return held, ""
	}
	var missing []string
	for _, one := range []struct {
		there bool
		what  string
	}{
		{len(rule.Who) > 0, "all that proves who called"},
		{rule.Query != nil, "the query"},
		{rule.Headers != nil, "header fields"},
		{rule.Body != nil, "the body's size"},
		{len(rule.ContentType) > 0, "the Content-Type"},
	} {
		if one.there {
			missing = append(missing, one.what)
		}
	}
	return len(missing) == 0, strings.Join(missing, ", ")
}

// decidedThen uses that the agent itself judged the same rule, with the same conditions, when the call came.
func (r *replay) decidedThen(e *audit.Event, rule *agent.Rule) (decided, held bool) {
	before := apiOf(r.was, e.API)
	if !r.asWas || before == nil || len(rule.Who) > 0 && !r.sameCallers {
		return false, false
	}
	same := func(o agent.Rule) bool { return o.Rule == rule.Rule }
	i := slices.IndexFunc(before.Allow, same)
	if i < 0 || slices.ContainsFunc(before.Allow[i+1:], same) || !equalRule(&before.Allow[i], rule) {
		return false, false
	}
	if e.Verdict == audit.Allowed {
		return sameRule(rule.Rule, e.Rule), true // others may have held too
	}
	// An issuer that could not be asked has decided nothing.
	return e.Problem != "issuer-unreachable", false
}

func (r *replay) print(b *strings.Builder) {
	fmt.Fprintf(b, "calls on record since %s: %d judged\n", r.Since.Format(time.DateTime), r.Judged)
	for _, part := range []struct {
		title, verdict string
		list           []*callGroup
	}{
		{"newly refused", audit.Refused, r.Differ},
		{"newly allowed", audit.Allowed, r.Differ},
		{"cannot be told", unknown, r.Unknown},
	} {
		title := part.title + ":\n"
		for _, g := range part.list {
			if g.Now == part.verdict {
				b.WriteString(title + g.text())
				title = ""
			}
		}
	}
	if len(r.Differ)+len(r.Unknown)+r.More == 0 {
		b.WriteString("none would be decided otherwise\n")
	}
	for _, note := range []struct {
		n    int
		text string
	}{
		{r.Other, "were refused for reasons that are no rule's (a pause, a record that could not be written)"},
		{r.More, "are not counted: there are too many different ones"},
		{r.Skipped, "lines of the record could not be read"},
	} {
		if note.n > 0 {
			fmt.Fprintf(b, "%d %s\n", note.n, note.text)
		}
	}
}

// text is a group for people. What a stranger chose is quoted if it could mean something to a terminal.
func (g *callGroup) text() string {
	words := []string{g.API, g.Method, g.Path, g.Principal}
	for i, w := range words {
		if q := strconv.QuoteToASCII(w); q != `"`+w+`"` {
			words[i] = q
		}
	}
	s := fmt.Sprintf("  %d x %s", g.Calls, strings.TrimRight(strings.Join(words, " "), " "))
	if g.Was != g.Now && g.Now == unknown {
		s += ", then " + g.Was
	}
	if g.WasRule != "" {
		s += fmt.Sprintf(", was by %q", g.WasRule)
	}
	if g.NowRule != "" {
		s += fmt.Sprintf(", now by %q", g.NowRule)
	}
	if g.Why != "" {
		s += ": " + g.Why
	}
	return s + "\n"
}
