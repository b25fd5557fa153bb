package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/audit"
)

// maxLearned bounds the rules that are proposed: anybody who may call can make refusals.
const maxLearned = 1000

func (p *program) learnCommand() *cobra.Command {
	var api, methods string
	var least int
	var asJSON bool
	c := &cobra.Command{
		Use: "learn", Short: "Propose rules for calls that were refused", Args: exactly(0, 0, ""),
		Long: `Reads the audit record and prints, for each API, the narrowest rules that would admit calls which the allow-list refused and still
refuses. It changes nothing and calls nothing. Whoever may call has made these refusals, a prober too: read every rule, and keep
those that you expect. Methods other than GET and HEAD are printed as comments, unless --methods names them. Calls that a condition
refused, and paths that no rule can admit, are counted alone.`,
		Example: "  sallyport-agent policy learn\n  sallyport-agent policy learn --api orders --min 5 --methods GET,POST",
		RunE: does(func(ctx context.Context, _ []string) error {
			return p.learn(ctx, api, strings.Split(methods, ","), least, asJSON)
		}),
	}
	c.Flags().StringVar(&api, "api", "", "this API alone")
	c.Flags().StringVar(&methods, "methods", "GET,HEAD", "the methods to propose, '*' for all")
	c.Flags().IntVar(&least, "min", 1, "leave out what was refused less often")
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return c
}

// A proposal is a rule that would admit what was refused.
type proposal struct {
	API     string    `json:"api"`
	Rule    string    `json:"rule"`
	Method  string    `json:"method"`
	Refused int       `json:"refused"`
	Last    time.Time `json:"last"`
}

// learned are the proposals, and what none could be made for.
type learned struct {
	Proposals []*proposal `json:"proposals"`
	Condition int         `json:"refused_by_condition"`
	Never     int         `json:"never_admitted"`
	More      int         `json:"not_counted"` // beyond maxLearned
	Skipped   int         `json:"unreadable_lines"`

	byRule map[[2]string]*proposal
}

// take learns from one decision.
func (l *learned) take(c *agent.Config, e audit.Event) {
	i := slices.IndexFunc(c.APIs, func(a agent.API) bool { return a.Name == e.API })
	if i < 0 || e.Verdict != audit.Refused {
		return
	}
	v := c.APIs[i].Policy().Decide(e.Method, e.Path)
	switch {
	case v.Allowed:
		if e.Problem == "policy-refused" && len(c.APIs[i].Allow) > 0 && conditional(&c.APIs[i], v.Rule) {
			l.Condition++
		}
		return
	case v.Admit == "" || strings.HasSuffix(e.Path, "[cut]"):
		l.Never++
		return
	}
	key := [2]string{e.API, v.Admit}
	one := l.byRule[key]
	if one == nil {
		if len(l.byRule) >= maxLearned {
			l.More++
			return
		}
		one = &proposal{API: e.API, Rule: v.Admit, Method: e.Method}
		l.byRule[key] = one
		l.Proposals = append(l.Proposals, one)
	}
	one.Refused++
	one.Last = e.Time
}

// conditional reports whether the rule has conditions.
func conditional(a *agent.API, rule string) bool {
	return slices.ContainsFunc(a.Allow, func(r agent.Rule) bool { return r.Rule == rule && len(r.Conditions()) > 0 })
}

func (p *program) learn(ctx context.Context, name string, methods []string, least int, asJSON bool) error {
	c, err := p.oneOrAll(name)
	if err != nil {
		return err
	}
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	l := &learned{Proposals: []*proposal{}, byRule: map[[2]string]*proposal{}}
	if l.Skipped, err = audit.Verdicts(ctx, dir, func(e audit.Event) { l.take(c, e) }); err != nil {
		return err
	}
	l.Proposals = slices.DeleteFunc(l.Proposals, func(one *proposal) bool { return one.Refused < least })
	slices.SortFunc(l.Proposals, func(a, b *proposal) int {
		return cmp.Or(cmp.Compare(a.API, b.API), cmp.Compare(b.Refused, a.Refused), cmp.Compare(a.Rule, b.Rule))
	})
	if asJSON {
		return json.NewEncoder(p.out).Encode(l)
	}
	p.printLearned(l, methods)
	return nil
}

func (p *program) printLearned(l *learned, methods []string) {
	fmt.Fprintln(p.out, "# Proposed from refused calls. Read every rule before you keep it.")
	api := ""
	for _, one := range l.Proposals {
		if one.API != api {
			api = one.API
			fmt.Fprintf(p.out, "# API %s\n    allow:\n", api)
		}
		mark := ""
		if !slices.Contains(methods, one.Method) && !slices.Contains(methods, "*") {
			mark = "# "
		}
		fmt.Fprintf(p.out, "      %s- %s  # refused %d times, last %s\n", mark, one.Rule, one.Refused, one.Last.UTC().Format(time.DateTime))
	}
	for _, note := range []struct {
		n    int
		text string
	}{
		{l.Condition, "were refused by a condition of a rule that admits method and path"},
		{l.Never, "have a path that no rule admits, or one that is too long"},
		{l.More, "are not counted: there are too many different ones"},
		{l.Skipped, "lines of the record could not be read"},
	} {
		if note.n > 0 {
			fmt.Fprintf(p.out, "# %d %s\n", note.n, note.text)
		}
	}
}

// oneOrAll is the configuration with all its APIs, or with that of a name alone.
func (p *program) oneOrAll(name string) (*agent.Config, error) {
	c, err := agent.ReadConfig(p.config)
	if err != nil || name == "" {
		return c, err
	}
	one, err := pick(c, name)
	if err == nil {
		c.APIs = []agent.API{*one}
	}
	return c, err
}

func (p *program) unusedCommand() *cobra.Command {
	var api string
	var asJSON bool
	c := &cobra.Command{
		Use: "unused", Short: "List rules that no recorded call has needed", Args: exactly(0, 0, ""),
		Long: `Reads the audit record and prints the rules that admitted no call in it, and since when the record goes back. A call counts for the most
literal rule that admitted it. It changes nothing.`,
		Example: "  sallyport-agent policy unused\n  sallyport-agent policy unused --json",
		RunE:    does(func(ctx context.Context, _ []string) error { return p.unused(ctx, api, asJSON) }),
	}
	c.Flags().StringVar(&api, "api", "", "this API alone")
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts: all rules, with how often and when they were used")
	return c
}

// A ruleUse is how often a rule admitted a call.
type ruleUse struct {
	API   string     `json:"api"`
	Rule  string     `json:"rule"`
	Calls int        `json:"calls"`
	Last  *time.Time `json:"last,omitempty"`
}

func (p *program) unused(ctx context.Context, name string, asJSON bool) error {
	c, err := p.oneOrAll(name)
	if err != nil {
		return err
	}
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	list := []*ruleUse{}
	for i := range c.APIs {
		for _, rule := range c.APIs[i].Policy().Rules() {
			list = append(list, &ruleUse{API: c.APIs[i].Name, Rule: rule})
		}
	}
	var since *time.Time
	_, err = audit.Verdicts(ctx, dir, func(e audit.Event) {
		if since == nil {
			since = &e.Time
		}
		for _, u := range list {
			if e.Verdict == audit.Allowed && u.API == e.API && sameRule(u.Rule, e.Rule) {
				u.Calls++
				u.Last = &e.Time
			}
		}
	})
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(map[string]any{"since": since, "rules": list})
	}
	if since == nil {
		fmt.Fprintln(p.out, "no call is on record yet")
		return nil
	}
	fmt.Fprintf(p.out, "rules that admitted no call since %s:\n", since.UTC().Format(time.DateTime))
	none := true
	for _, u := range list {
		if u.Calls == 0 {
			none = false
			fmt.Fprintf(p.out, "  %s  %s\n", u.API, u.Rule)
		}
	}
	if none {
		fmt.Fprintln(p.out, "  none")
	}
	return nil
}

// sameRule compares a rule with what is on record, where long ones are cut.
func sameRule(rule, recorded string) bool {
	start, cut := strings.CutSuffix(recorded, "[cut]")
	return rule == recorded || cut && strings.HasPrefix(rule, start)
}
