package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpguts"

	"sallyport/agent"
	"sallyport/agent/policy"
	"sallyport/configs"
)

// A question is what 'policy test' and 'policy explain' are told of a request beside method and target.
type question struct {
	headers, as []string
	at, body    string
}

func (q *question) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&q.headers, "header", nil, "a header field of the request, as 'Name: value'; can be repeated")
	c.Flags().StringArrayVar(&q.as, "as", nil, "who calls, as in a rule's who (person, upn=..., oid=..., group=..., role=..., app=...); can be repeated")
	c.Flags().StringVar(&q.at, "at", "", "when, as 2026-11-23T07:30:00+01:00 (default: now)")
	c.Flags().StringVar(&q.body, "body", "0", "the size of the body: 64KiB")
}

func (q *question) request(method, target string) (*policy.Request, error) {
	r := &policy.Request{Method: method, Target: target, Header: http.Header{}, Now: time.Now()}
	size, err := configs.ParseSize(q.body)
	if err != nil {
		return nil, fmt.Errorf("--body: %w", err)
	}
	r.Length = int64(size)
	if q.at != "" {
		if r.Now, err = time.Parse(time.RFC3339, q.at); err != nil {
			return nil, fmt.Errorf("--at: %q is no time such as 2026-11-23T07:30:00+01:00", q.at)
		}
	}
	for _, h := range q.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || !httpguts.ValidHeaderFieldName(name) {
			return nil, fmt.Errorf("--header: %.80q is no header field (write 'Name: value')", h)
		}
		r.Header.Add(name, strings.TrimSpace(value))
	}
	if len(q.as) > 0 {
		if _, err := policy.CompileEntries([]policy.Entry{{Rule: "GET /", Body: policy.NoBound, Who: q.as}}); err != nil {
			return nil, fmt.Errorf("--as: %w", err)
		}
		r.Principal = func() (policy.Principal, error) { return supposed(q.as), nil }
	}
	return r, nil
}

// supposed is a principal at the admin's word: 'policy test' proves nobody.
type supposed []string

// Is implements policy.Principal. Whoever has a person's name is a person.
func (s supposed) Is(kind, value string) bool {
	return slices.ContainsFunc(s, func(one string) bool {
		k, v, _ := strings.Cut(one, "=")
		if kind == policy.Person {
			return slices.Contains([]string{policy.Person, policy.UPN, policy.Object, policy.Group}, k)
		}
		return k == kind && (v == value || kind == policy.UPN && strings.EqualFold(v, value))
	})
}

// statusOf is what the caller would be answered; 0 if the call would be let through.
func statusOf(v policy.Verdict) int {
	switch {
	case v.Allowed:
		return 0
	case v.Fault == policy.FaultTooLong:
		return http.StatusRequestURITooLong
	case v.Fault == policy.FaultBody:
		return http.StatusRequestEntityTooLarge
	case v.Ambiguous:
		return http.StatusBadRequest
	case v.Identity != nil:
		return http.StatusUnauthorized
	}
	return http.StatusForbidden
}

func (p *program) explainPolicy(name, method, target string, q question, asJSON bool) error {
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
	type said struct {
		Rule  string `json:"rule"`
		Path  bool   `json:"path"`
		Holds bool   `json:"holds"`
		Fails string `json:"fails,omitempty"`
	}
	list := []said{}
	for _, e := range api.Policy().Explain(r) {
		list = append(list, said(e))
	}
	if asJSON {
		err = json.NewEncoder(p.out).Encode(map[string]any{"api": api.Name, "allowed": v.Allowed, "rule": v.Rule, "reason": v.Reason, "rules": list})
	} else {
		d := decision{api.Name, method, target, v.Allowed, statusOf(v), v.Rule, v.Reason, v.Admit}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		for _, one := range list {
			word := "other method or path"
			switch {
			case one.Holds:
				word = "admits it"
			case one.Path:
				word = one.Fails
			}
			fmt.Fprintf(w, "  %s\t%s\n", one.Rule, word)
		}
		if err = w.Flush(); err == nil {
			_, err = fmt.Fprint(p.out, d.text())
		}
	}
	if err == nil && !v.Allowed {
		return exitError{code: exitRefused}
	}
	return err
}

func (p *program) showNetwork(asJSON bool) error {
	c, err := agent.ReadConfig(p.config)
	if err != nil {
		return err
	}
	list, err := agent.Network(c, agent.Deps{File: p.config, Environment: environmentProxy()})
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(list)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tPORT\tVIA\tWHY")
	for _, d := range list {
		via := d.Via
		if via == "" {
			via = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Host, d.Port, via, d.Why)
	}
	return w.Flush()
}
