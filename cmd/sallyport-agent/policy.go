package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/agent"
)

func (p *program) policyCommand() *cobra.Command {
	var api string
	var asJSON, network bool
	var q question
	test := &cobra.Command{
		Use: "test METHOD URL-PATH", Short: "Say whether a request would be allowed, and by which rule", Args: exactly(2, 2, ""),
		Long: `Decides as the running agent does and calls nothing. URL-PATH follows the API's url, as in a rule, and may have a
query. For rules with conditions the flags say more of the request; a principal is taken at your word here. Exit code 0:
allowed; 3: refused.`,
		Example: "  sallyport-agent policy test GET /orders/5\n  sallyport-agent policy test --api files --json POST '/files/a%2Fb'\n" +
			"  sallyport-agent policy test --as upn=anna@corp.example --at 2026-11-23T06:30:00Z GET '/stock?plant=P1'",
		RunE: does(func(_ context.Context, args []string) error { return p.testPolicy(api, args[0], args[1], q, asJSON) }),
	}
	explain := &cobra.Command{
		Use: "explain METHOD URL-PATH", Short: "Say of each rule what it makes of a request", Args: exactly(2, 2, ""),
		Long: `Goes through all rules of the API, and names of each whether it admits method and path, and else the first condition
that does not hold. It takes the flags of 'policy test', and ends with the same exit codes.`,
		Example: "  sallyport-agent policy explain GET /orders/5\n  sallyport-agent policy explain --as role=Buyer --header 'X-Plant: P1' GET /stock",
		RunE:    does(func(_ context.Context, args []string) error { return p.explainPolicy(api, args[0], args[1], q, asJSON) }),
	}
	show := &cobra.Command{
		Use: "show", Short: "List what may be called", Args: exactly(0, 0, ""),
		Long: `Lists the rules with their conditions. With --network: every host and port that the configuration leads to, and why; nothing
is asked or resolved.`,
		Example: "  sallyport-agent policy show\n  sallyport-agent policy show --network --json",
		RunE: does(func(context.Context, []string) error {
			if network {
				return p.showNetwork(asJSON)
			}
			return p.showPolicy(api, asJSON)
		}),
	}
	show.Flags().BoolVar(&network, "network", false, "list the destinations in place of the rules")
	for _, c := range []*cobra.Command{test, explain, show} {
		c.Flags().StringVar(&api, "api", "", "the API's name; not needed if there is only one")
		c.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	}
	q.flags(test)
	q.flags(explain)
	all := []*cobra.Command{test, explain, show, p.draftCommand(), p.learnCommand(), p.unusedCommand(), p.historyCommand(), p.diffCommand()}
	return group("policy", "Draft, try, show and sign the allow-list", append(all, p.signCommands()...)...)
}

// A decision is the answer of 'policy test' for scripts.
type decision struct {
	API       string `json:"api"`
	Method    string `json:"method"`
	Target    string `json:"target"`
	Allowed   bool   `json:"allowed"`
	Status    int    `json:"status,omitempty"` // what the caller would be answered
	Rule      string `json:"rule,omitempty"`
	Reason    string `json:"reason,omitempty"`
	AdmitWith string `json:"admit_with,omitempty"`
}

func (p *program) testPolicy(name, method, target string, q question, asJSON bool) error {
	c, err := agent.ReadConfig(p.config)
	if err != nil {
		return err
	}
	api, err := pick(c, name)
	if err != nil {
		return err
	}
	r, err := q.request(method, target)
	if err != nil {
		return err
	}
	v := api.Policy().Judge(r)
	d := decision{api.Name, method, target, v.Allowed, statusOf(v), v.Rule, v.Reason, v.Admit}
	if asJSON {
		err = json.NewEncoder(p.out).Encode(d)
	} else {
		_, err = fmt.Fprint(p.out, d.text())
	}
	if err == nil && !v.Allowed {
		return exitError{code: exitRefused}
	}
	return err
}

func (d decision) text() string {
	if d.Allowed {
		return fmt.Sprintf("allowed by the rule %q of API %s\n", d.Rule, d.API)
	}
	s := fmt.Sprintf("refused with %d: %s\n", d.Status, d.Reason)
	if d.AdmitWith != "" {
		s += fmt.Sprintf("this rule under 'allow' of API %s would admit it:\n  - %s\n", d.API, d.AdmitWith)
	}
	return s
}

// pick gives the API of that name, or the only one.
func pick(c *agent.Config, name string) (*agent.API, error) {
	var names []string
	for i := range c.APIs {
		if c.APIs[i].Name == name || name == "" && len(c.APIs) == 1 {
			return &c.APIs[i], nil
		}
		names = append(names, c.APIs[i].Name)
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("the configuration has no APIs")
	case name == "":
		return nil, fmt.Errorf("there are several APIs; add --api with one of: %s", strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("there is no API %q; there are: %s", name, strings.Join(names, ", "))
}

func (p *program) showPolicy(name string, asJSON bool) error {
	c, err := agent.ReadConfig(p.config)
	if err != nil {
		return err
	}
	if name != "" {
		one, err := pick(c, name)
		if err != nil {
			return err
		}
		c.APIs = []agent.API{*one}
	}
	type shown struct {
		API        string              `json:"api"`
		URL        string              `json:"url"`
		Hash       string              `json:"hash"`
		Rules      []string            `json:"rules"`
		Conditions map[string][]string `json:"conditions,omitempty"` // by "RULE", of those that have some
		all        []agent.Rule
	}
	list := []shown{}
	for i := range c.APIs {
		a := &c.APIs[i]
		one := shown{API: a.Name, URL: a.URL, Hash: a.Policy().Hash(), Rules: append([]string{}, a.Policy().Rules()...), all: a.Allow}
		for i := range a.Allow {
			if c := a.Allow[i].Conditions(); len(c) > 0 {
				if one.Conditions == nil {
					one.Conditions = map[string][]string{}
				}
				one.Conditions[a.Allow[i].Rule] = append(one.Conditions[a.Allow[i].Rule], c...)
			}
		}
		list = append(list, one)
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(list)
	}
	for _, a := range list {
		fmt.Fprintf(p.out, "%s  %s  %s\n", a.API, a.URL, a.Hash)
		for i := range a.all {
			fmt.Fprintf(p.out, "  %s\n", a.all[i].Rule)
			for _, c := range a.all[i].Conditions() {
				fmt.Fprintf(p.out, "      %s\n", c)
			}
		}
		if len(a.Rules) == 0 {
			fmt.Fprintln(p.out, "  nothing")
		}
	}
	return nil
}
