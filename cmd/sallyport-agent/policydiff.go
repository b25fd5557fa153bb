package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/configs"
)

func (p *program) diffCommand() *cobra.Command {
	var since string
	var asJSON bool
	c := &cobra.Command{
		Use: "diff PROPOSED.yaml", Short: "Judge a proposed agent.yaml beside the one in force", Args: exactly(1, 1, "PROPOSED.yaml"),
		Long: `Says what a proposed file would change: its APIs, its rules with their conditions, and the places that it leads to. With --since it
also goes through the calls on record and says which of them it would decide otherwise. It changes nothing and calls nothing: the file in force alone decides. The
record has method and path, but no query, header fields or bodies; calls for which these would decide are listed as such and not guessed at.
The signature of the proposed file is not looked at, nor are settings that neither decide about calls nor lead anywhere.

Exit code 0: nothing would change; 3: something would, or it cannot be told; 1: a file or the record cannot be read; 2: wrong usage.`,
		Example: "  sallyport-agent policy diff proposed.yaml\n  sallyport-agent policy diff proposed.yaml --since 7d\n" +
			"  sallyport-agent policy diff proposed.yaml --since 24h --json",
		RunE: does(func(ctx context.Context, args []string) error { return p.diffPolicy(ctx, args[0], since, asJSON) }),
	}
	c.Flags().StringVar(&since, "since", "", "judge the calls on record that are not older than this: 7d, 24h")
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return c
}

// A policyDiff is what a proposed file would change.
type policyDiff struct {
	APIs         []apiDiff         `json:"apis"`
	Destinations []destinationDiff `json:"destinations"`
	// Callers says that tokens of callers would be verified otherwise.
	Callers bool `json:"callers_changed"`
	// Calls is nil without --since.
	Calls *replay `json:"calls,omitempty"`
}

// An apiDiff is what would change of one API.
type apiDiff struct {
	API    string     `json:"api"`
	Change string     `json:"change"` // added, removed or changed
	URL    string     `json:"url,omitempty"`
	Was    string     `json:"url_was,omitempty"`
	Rules  []ruleDiff `json:"rules"`
}

// A ruleDiff is what would change of one rule.
type ruleDiff struct {
	Rule   string   `json:"rule"`
	Change string   `json:"change"`
	Now    []string `json:"conditions,omitempty"`
	Was    []string `json:"conditions_were,omitempty"`
}

type destinationDiff struct {
	Change string `json:"change"` // added or removed
	agent.Destination
}

// Words of a change, and the mark of each in print.
const (
	added   = "added"
	removed = "removed"
	changed = "changed"
)

func mark(change string) string {
	return map[string]string{added: "+", removed: "-", changed: "~"}[change]
}

func (p *program) diffPolicy(ctx context.Context, proposed, since string, asJSON bool) error {
	var span time.Duration
	if since != "" {
		d, err := configs.ParseDuration(since)
		if err == nil && d <= 0 {
			err = fmt.Errorf("%q is no time back (write 7d or 24h)", since)
		}
		if err != nil {
			return exitError{exitUsage, fmt.Errorf("--since: %w", err)}
		}
		span = d
	}
	was, err := agent.ReadConfig(p.config)
	if err != nil {
		return fmt.Errorf("the file in force: %w", err)
	}
	next, err := agent.ReadConfig(proposed)
	if err != nil {
		return fmt.Errorf("the proposed file: %w", err)
	}
	d := &policyDiff{APIs: diffAPIs(was, next), Callers: !reflect.DeepEqual(was.Callers, next.Callers)}
	if d.Destinations, err = p.diffNetwork(was, next, proposed); err != nil {
		return err
	}
	if since != "" {
		if d.Calls, err = p.replay(ctx, was, next, span); err != nil {
			return err
		}
	}
	if asJSON {
		err = json.NewEncoder(p.out).Encode(d)
	} else {
		_, err = io.WriteString(p.out, d.text())
	}
	if err == nil && d.differs() {
		return exitError{code: exitRefused}
	}
	return err
}

func (d *policyDiff) differs() bool {
	return len(d.APIs) > 0 || len(d.Destinations) > 0 || d.Callers || d.Calls != nil && len(d.Calls.Differ)+len(d.Calls.Unknown)+d.Calls.More > 0
}

func diffAPIs(was, next *agent.Config) []apiDiff {
	list := []apiDiff{}
	for i := range was.APIs {
		old := &was.APIs[i]
		now := apiOf(next, old.Name)
		if now == nil {
			list = append(list, apiDiff{API: old.Name, Change: removed, Was: old.URL, Rules: diffRules(old.Allow, nil)})
			continue
		}
		d := apiDiff{API: old.Name, Change: changed, Rules: diffRules(old.Allow, now.Allow)}
		if old.URL != now.URL {
			d.URL, d.Was = now.URL, old.URL
		}
		if d.URL != "" || len(d.Rules) > 0 {
			list = append(list, d)
		}
	}
	for i := range next.APIs {
		if now := &next.APIs[i]; apiOf(was, now.Name) == nil {
			list = append(list, apiDiff{API: now.Name, Change: added, URL: now.URL, Rules: diffRules(nil, now.Allow)})
		}
	}
	return list
}

func apiOf(c *agent.Config, name string) *agent.API {
	i := slices.IndexFunc(c.APIs, func(a agent.API) bool { return a.Name == name })
	if i < 0 {
		return nil
	}
	return &c.APIs[i]
}

// diffRules pairs what is the same, then what has the same method and path. The order of rules decides nothing.
func diffRules(was, now []agent.Rule) []ruleDiff {
	list := []ruleDiff{}
	var fresh []agent.Rule
	left := slices.Clone(was)
	for _, r := range now {
		if i := slices.IndexFunc(left, func(o agent.Rule) bool { return equalRule(&o, &r) }); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			fresh = append(fresh, r)
		}
	}
	for _, r := range fresh {
		d := ruleDiff{Rule: r.Rule, Change: added, Now: r.Conditions()}
		if i := slices.IndexFunc(left, func(o agent.Rule) bool { return o.Rule == r.Rule }); i >= 0 {
			d.Change, d.Was = changed, left[i].Conditions()
			left = slices.Delete(left, i, i+1)
		}
		list = append(list, d)
	}
	for _, r := range left {
		list = append(list, ruleDiff{Rule: r.Rule, Change: removed, Was: r.Conditions()})
	}
	return list
}

// equalRule reports whether two entries are the same rule with the same conditions.
func equalRule(a, b *agent.Rule) bool {
	return a.Rule == b.Rule && slices.Equal(a.Conditions(), b.Conditions())
}

func (p *program) diffNetwork(was, next *agent.Config, proposed string) ([]destinationDiff, error) {
	before, err := agent.Network(was, agent.Deps{File: p.config, Environment: environmentProxy()})
	if err != nil {
		return nil, fmt.Errorf("the file in force: %w", err)
	}
	after, err := agent.Network(next, agent.Deps{File: proposed, Environment: environmentProxy()})
	if err != nil {
		return nil, fmt.Errorf("the proposed file: %w", err)
	}
	list := []destinationDiff{}
	for _, d := range after {
		if !slices.Contains(before, d) {
			list = append(list, destinationDiff{added, d})
		}
	}
	for _, d := range before {
		if !slices.Contains(after, d) {
			list = append(list, destinationDiff{removed, d})
		}
	}
	return list, nil
}

func (d *policyDiff) text() string {
	var b strings.Builder
	for _, a := range d.APIs {
		fmt.Fprintf(&b, "%s API %s\n", mark(a.Change), a.API)
		if a.Was != "" {
			fmt.Fprintf(&b, "  - url %s\n", a.Was)
		}
		if a.URL != "" {
			fmt.Fprintf(&b, "  + url %s\n", a.URL)
		}
		for _, r := range a.Rules {
			fmt.Fprintf(&b, "  %s %s\n", mark(r.Change), r.Rule)
			for _, c := range r.Was {
				fmt.Fprintf(&b, "      - %s\n", c)
			}
			for _, c := range r.Now {
				fmt.Fprintf(&b, "      + %s\n", c)
			}
		}
	}
	if d.Callers {
		b.WriteString("~ callers: tokens would be verified otherwise\n")
	}
	for _, one := range d.Destinations {
		via := ""
		if one.Via != "" {
			via = " via " + one.Via
		}
		fmt.Fprintf(&b, "%s destination %s port %s%s (%s)\n", mark(one.Change), one.Host, one.Port, via, one.Why)
	}
	if len(d.APIs) == 0 && len(d.Destinations) == 0 && !d.Callers {
		b.WriteString("no API, rule or destination would change\n")
	}
	if d.Calls != nil {
		d.Calls.print(&b)
	}
	return b.String()
}
