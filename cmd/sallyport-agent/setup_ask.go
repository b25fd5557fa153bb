package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/term"

	"sallyport/agent"
	"sallyport/agent/policy"
	"sallyport/agent/secret"
	"sallyport/internal/hidden"
)

// An asker asks somebody at a terminal. Where there is none it names the flag that is missing.
type asker struct {
	*program
	terminal bool
	lines    *bufio.Reader
}

func newAsker(p *program) asker {
	return asker{program: p, terminal: term.IsTerminal(int(p.in.Fd())), lines: bufio.NewReader(p.in)}
}

// line asks for a line, until check has nothing against it. Enter alone is proposed.
func (k asker) line(ctx context.Context, flag, question, proposed string, check func(string) error) (string, error) {
	if !k.terminal {
		if proposed != "" {
			return proposed, check(proposed)
		}
		return "", exitError{exitUsage, fmt.Errorf("there is no terminal to ask at: give %s; see: sallyport-agent setup --help", flag)}
	}
	for {
		if proposed != "" {
			fmt.Fprintf(k.err, "%s [%s]: ", question, proposed)
		} else {
			fmt.Fprintf(k.err, "%s: ", question)
		}
		text, err := k.read(ctx)
		if err != nil {
			return "", err
		}
		text = cmp.Or(text, proposed)
		if err := check(text); err != nil {
			fmt.Fprintf(k.err, "  %v\n", err)
			continue
		}
		return text, nil
	}
}

// read gives the next line that is typed.
func (k asker) read(ctx context.Context) (string, error) {
	text, err := hidden.Await(ctx, func() (string, error) { return k.lines.ReadString('\n') })
	if ctx.Err() != nil {
		return "", errors.New("interrupted; nothing was written")
	}
	if err != nil {
		return "", fmt.Errorf("nothing was written: %w", err)
	}
	return strings.TrimSpace(text), nil
}

// confirm asks yes or no; no is errNoMore.
func (k asker) confirm(ctx context.Context, question string, proposed bool) error {
	words := map[bool]string{true: "Y/n", false: "y/N"}
	text, err := k.line(ctx, "--yes", question, words[proposed], func(s string) error {
		if s != words[proposed] && !slices.Contains([]string{"y", "yes", "n", "no"}, strings.ToLower(s)) {
			return errors.New("write y or n")
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case text == words[true] || strings.HasPrefix(strings.ToLower(text), "y") && text != words[false]:
		return nil
	}
	return errNoMore
}

// hidden asks for a secret, or reads it from a file.
func (k asker) hidden(ctx context.Context, file, flag, question string) (string, error) {
	if file == "" && !k.terminal {
		return "", exitError{exitUsage, fmt.Errorf("there is no terminal to ask at: give %s; see: sallyport-agent setup --help", flag)}
	}
	if file != "" {
		return k.readSecretly(ctx, file, "")
	}
	return hidden.Read(ctx, k.in, k.err, question)
}

// describeAPI asks for what is not given as a flag.
func (s *setup) describeAPI(ctx context.Context) (err error) {
	a := &s.a
	if s.join == nil && slices.ContainsFunc(s.config.APIs, func(there agent.API) bool { return there.Name == a.name && there.URL == a.url }) {
		return s.repeated(ctx)
	}
	one := func(value *string, flag, question, proposed string, check func(string) error) {
		if err == nil && *value != "" {
			if err = check(*value); err != nil {
				err = exitError{exitUsage, fmt.Errorf("%s: %w", flag, err)}
			}
		} else if err == nil {
			*value, err = s.ask.line(ctx, flag, question, proposed, check)
		}
	}
	one(&a.url, "--url", "URL of the API inside (http://erp.corp.example/api/v2)", "", checkURL)
	one(&a.name, "--name", "Its name, as the relay publishes it", "", s.checkNewName)
	if err != nil {
		return err
	}
	if a.auth == "" && s.ask.terminal {
		s.tellOffer(ctx)
	}
	one(&a.auth, "--auth", "How to sign on to it ("+strings.Join(setupAuths, ", ")+")", "", checkSetupAuth)
	if a.auth == asAccount || a.auth == asBasic {
		one(&a.account, "--account", `The account (CORP\svc-erp)`, "", notEmpty)
	}
	if a.auth == asHeader {
		one(&a.header, "--header", "The name of the header field", "X-API-Key", notEmpty)
	}
	if err == nil && a.needsSecret() {
		err = s.readSecret(ctx)
	}
	if err == nil && len(a.allow) == 0 {
		a.allow, err = s.askRules(ctx)
	}
	one(&a.check, "--check", "A request that changes nothing, to see that calls get through (GET /orders/1, or none)", "none", s.checkTrial)
	return err
}

// repeated ends a setup that was run before with the same API, as what sets up machines does: only the service may be missing.
func (s *setup) repeated(ctx context.Context) error {
	fmt.Fprintf(s.out, "%s has the API %s already, and stays as it is.\n", s.program.config, s.a.name)
	if !s.a.dry {
		if err := s.serviceIfWanted(ctx); err != nil {
			return err
		}
	}
	return errNoMore
}

func (s *setup) readSecret(ctx context.Context) error {
	value, err := s.ask.hidden(ctx, s.a.secretIn, "--secret-file", "The password, token or key (it is not shown): ")
	if err != nil {
		return err
	}
	if s.a.secret = secret.New(secret.TrimLineEnd(value)); s.a.secret.Empty() {
		return errors.New("the password, token or key is empty")
	}
	return nil
}

// tellOffer shows which sign-on the API asks for.
func (s *setup) tellOffer(ctx context.Context) {
	c, err := agent.ParseConfig("agent.yaml", []byte("relay: https://relay.invalid\ngateway: g\napis:\n  - {name: "+s.a.name+", url: "+quote(s.a.url)+", auth: none}\n"))
	if err != nil {
		return // compose says what is wrong
	}
	look, err := agent.Look(ctx, c, &c.APIs[0], agent.Deps{}, "HEAD", "")
	switch {
	case err != nil:
		fmt.Fprintf(s.err, "  (asked without a credential: %v)\n", err)
	case len(look.Schemes) > 0:
		fmt.Fprintf(s.err, "  (asked without a credential, it answers %d and asks for %s)\n", look.Status, strings.Join(look.Schemes, ", "))
	default:
		fmt.Fprintf(s.err, "  (asked without a credential, it answers %d)\n", look.Status)
	}
}

// askRules asks for rules until an empty line.
func (s *setup) askRules(ctx context.Context) (rules []string, err error) {
	check := func(text string) error {
		if text == "" && len(rules) > 0 {
			return nil
		}
		_, err := policy.Compile([]string{text})
		return err
	}
	for {
		question := "What may be called (GET /orders/**, POST /orders; nothing else gets through)"
		if len(rules) > 0 {
			question = "Another rule, or Enter"
		}
		text, err := s.ask.line(ctx, "--allow", question, "", check)
		if err != nil || text == "" {
			return rules, err
		}
		rules = append(rules, text)
	}
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("write a URL that begins with http:// or https://")
	}
	return fits(setupAnswers{name: "x", url: text, auth: asNone, allow: []string{"GET /"}})
}

// checkNewName also wants a name that no API has yet.
func (s *setup) checkNewName(text string) error {
	if slices.ContainsFunc(s.config.APIs, func(a agent.API) bool { return a.Name == text }) {
		return fmt.Errorf("%s has an API that is named %s already; choose another name", s.program.config, text)
	}
	return checkName(text)
}

// checkTrial wants a request that the rules admit.
func (s *setup) checkTrial(text string) error {
	a := s.a
	a.check = text
	return fits(a)
}

// place is where in the file an error is, which nobody has seen who is asked.
var place = regexp.MustCompile(`(?m)^agent\.yaml:\d+:\d+: `)

// fits says what is wrong with answers as a part of agent.yaml.
func fits(a setupAnswers) error {
	_, err := agent.ParseConfig("agent.yaml", []byte("relay: https://relay.invalid\ngateway: g\napis:\n"+a.apiText()))
	if err != nil {
		return errors.New(place.ReplaceAllString(err.Error(), ""))
	}
	return nil
}

func checkName(text string) error {
	if text == "" || len(text) > 63 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return errors.New("write lower-case letters, digits and hyphens: orders")
	}
	return nil
}

func checkSetupAuth(text string) error {
	if !slices.Contains(setupAuths, text) {
		return fmt.Errorf("write one of: %s; agent.yaml knows more", strings.Join(setupAuths, ", "))
	}
	return nil
}

func notEmpty(text string) error {
	if text == "" {
		return errors.New("this is needed")
	}
	return nil
}

func (a *setupAnswers) needsSecret() bool {
	return slices.Contains([]string{asAccount, asBasic, asBearer, asHeader}, a.auth)
}

// secretName is the secret's in the store.
func (a *setupAnswers) secretName() string { return a.name + "-secret" }

// apiText is the API's part of agent.yaml.
func (a *setupAnswers) apiText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n    url: %s\n    auth: ", a.name, quote(a.url))
	switch a.auth {
	case asNone:
		b.WriteString("none\n")
	case asService:
		b.WriteString("{windows: {as: service}}\n")
	case asAccount:
		fmt.Fprintf(&b, "{windows: {as: account, account: %s, secret: %s}}\n", quote(a.account), a.secretName())
	case asBasic:
		fmt.Fprintf(&b, "{basic: {user: %s, secret: %s}}\n", quote(a.account), a.secretName())
	case asBearer:
		fmt.Fprintf(&b, "{bearer: {secret: %s}}\n", a.secretName())
	case asHeader:
		fmt.Fprintf(&b, "{header: {name: %s, secret: %s}}\n", quote(a.header), a.secretName())
	}
	if a.check != "" && a.check != "none" {
		fmt.Fprintf(&b, "    check: %s\n", quote(a.check))
	}
	b.WriteString("    allow:\n")
	for _, rule := range a.allow {
		fmt.Fprintf(&b, "      - %s\n", quote(rule))
	}
	return b.String()
}
