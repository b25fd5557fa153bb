package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/doctor"
	"sallyport/agent/identity"
	"sallyport/agent/secret"
	"sallyport/agent/state"
	"sallyport/internal/service"
	"sallyport/tunnel"
)

// The ways to sign on that 'setup' knows; agent.yaml has more.
const (
	asNone    = "none"
	asService = "windows-service"
	asAccount = "windows-account"
	asBasic   = "basic"
	asBearer  = "bearer"
	asHeader  = "header"
)

var setupAuths = []string{asNone, asService, asAccount, asBasic, asBearer, asHeader}

// setupAnswers are what 'setup' has to know: each a flag, or the answer to a question.
type setupAnswers struct {
	joinFlags // file is the join string's
	name, url string
	auth      string
	account   string // of asAccount and asBasic
	header    string
	secretIn  string // a file
	allow     []string
	check     string
	service   string // yes, no, or empty: ask

	yes, dry, force bool

	secret secret.Secret
}

func (p *program) setupCommand() *cobra.Command {
	var a setupAnswers
	c := &cobra.Command{
		Use: "setup", Short: "Set this agent up: join, name the first API, try it, and start", Args: exactly(0, 0, "the join string and secrets do not belong on the command line, where others see them"),
		Long: `Asks the few things that an agent needs (the join string, the first API, how to sign on to it, what may be called), tries the way
to the relay and to the API, shows what it would write, and after a yes joins, writes agent.yaml and the secret, and installs the
service where it may. What is there already is kept: an agent that has joined does not join again, and to a file with APIs nothing
is added; what to add is printed instead.

Every answer is also a flag. Without a terminal nothing is asked: what is missing is named, and --yes says that it may be done.`,
		Example: `  sudo sallyport-agent setup
  sallyport-agent setup --join-file join.txt --name orders --url http://erp.corp.example/api/v2 --auth none \
      --allow 'GET /orders/**' --check 'GET /orders' --service yes --yes
  sallyport-agent setup --join-file join.txt --name stock --url https://stock.corp.example --auth windows-account \
      --account 'CORP\svc-stock' --secret-file password.txt --allow 'GET /**' --dry-run`,
		RunE: does(func(ctx context.Context, _ []string) error { return p.setup(ctx, a) }),
	}
	f := c.Flags()
	f.StringVar(&a.file, "join-file", "", "read the join string from this file")
	f.StringVar(&a.proxy, "proxy", "", "system, environment, none, or the proxy's URL (default: agent.yaml's)")
	f.StringVar(&a.proxyAuth, "proxy-auth", "", "service: sign on to the proxy as the account that runs this")
	f.StringVar(&a.ca, "ca", "", "PEM file of certificate authorities to trust besides the system's")
	f.StringVar(&a.name, "name", "", "the API's name, as the relay publishes it: lower-case letters, digits, hyphens")
	f.StringVar(&a.url, "url", "", "the API's URL")
	f.StringVar(&a.auth, "auth", "", "how to sign on to it: "+strings.Join(setupAuths, ", "))
	f.StringVar(&a.account, "account", "", `the account for windows-account (CORP\svc-erp), or the user for basic`)
	f.StringVar(&a.header, "header", "", "the field's name for header: X-API-Key")
	f.StringVar(&a.secretIn, "secret-file", "", "read the password, token or key from this file")
	f.StringArrayVar(&a.allow, "allow", nil, "a `rule` of what may be called: 'GET /orders/**' (may be repeated)")
	f.StringVar(&a.check, "check", "", "a request that changes nothing, to see that calls get through: 'GET /health'; none: no call")
	f.StringVar(&a.service, "service", "", "yes or no: install the service and start it (default: asked)")
	f.BoolVar(&a.yes, "yes", false, "do it without asking")
	f.BoolVar(&a.dry, "dry-run", false, "try everything and show what would be written, and do nothing")
	f.BoolVar(&a.force, "force", false, "do it although something failed when it was tried")
	return c
}

// A setup is one run of the command.
type setup struct {
	*program
	a    setupAnswers
	ask  asker
	join *tunnel.JoinString // nil: it has joined already
	// config is what is there, if there says so.
	config *agent.Config
	there  bool
	// trial is the file that is tried; added is what is written, to the end of what is there, and empty if nothing is; api is
	// the API's part of it.
	trial, added, api string
}

func (p *program) setup(ctx context.Context, a setupAnswers) error {
	s := &setup{program: p, a: a, ask: newAsker(p)}
	steps := []func(context.Context) error{s.membership, s.describeAPI, s.compose, s.try, s.show, s.carryOut}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			if errors.Is(err, errNoMore) {
				return nil
			}
			return err
		}
	}
	return nil
}

// errNoMore ends a setup that has nothing more to do.
var errNoMore = errors.New("nothing more to do")

// membership finds out to which relay and gateway the agent belongs, or will.
func (s *setup) membership(ctx context.Context) (err error) {
	if s.config, s.there, err = s.configIfThere(); err != nil {
		return fmt.Errorf("%w\ncorrect the file first, or name another with --config", err)
	}
	if s.config.Identity.Entra != nil {
		return nil
	}
	if dir, err := s.openState(); err == nil {
		if id, err := identity.Load(dir); err == nil && id.Joined {
			fmt.Fprintf(s.out, "This agent has joined gateway %s at %s already.\n", id.Gateway, id.Relay)
			if !s.there {
				s.config.Relay, s.config.Gateway = id.Relay, id.Gateway
			}
			return nil
		}
	}
	line, err := s.ask.hidden(ctx, s.a.file, "--join-file", "Join string, which 'sallyport-relay gateway add' printed (it is not shown): ")
	if err != nil {
		return err
	}
	j, err := tunnel.ParseJoinString(line)
	if err != nil {
		return err
	}
	if s.there && s.config.Gateway != j.Gateway {
		return fmt.Errorf("%s names gateway %s, but the join string is for gateway %s; correct one of them", s.program.config, s.config.Gateway, j.Gateway)
	}
	fmt.Fprintf(s.out, "Gateway %s at %s.\n", j.Gateway, j.Relay)
	s.join = &j
	if !s.there {
		s.config.Relay, s.config.Gateway = j.Relay, j.Gateway
	}
	return nil
}

// compose makes the file, and finds everything that is wrong with the answers.
func (s *setup) compose(context.Context) error {
	head := "\n"
	s.api = s.a.apiText()
	switch {
	case !s.there:
		first := firstConfig(tunnel.JoinString{Relay: s.config.Relay, Gateway: s.config.Gateway}, s.a.joinFlags, s.statePath(), s.program.config)
		head, _, _ = strings.Cut(first, "# Name your APIs below.")
		s.added = head + "apis:\n" + s.api
		s.trial = s.added
	case len(s.config.APIs) == 0:
		old, err := os.ReadFile(s.program.config)
		if err != nil {
			return err
		}
		s.added = head + "apis:\n" + s.api
		s.trial = string(old) + s.added
	default: // nothing is added; the API is tried alone
		first := firstConfig(tunnel.JoinString{Relay: s.config.Relay, Gateway: s.config.Gateway}, joinFlags{proxy: s.config.Proxy, ca: s.config.CA}, s.statePath(), "")
		s.trial = first + "apis:\n" + s.api
	}
	if _, err := agent.ParseConfig("agent.yaml", []byte(s.trial)); err != nil {
		return fmt.Errorf("with these answers agent.yaml would be wrong:\n%w", err)
	}
	return nil
}

// try examines the installation as it would be: the way to the relay, and the API with its credential.
func (s *setup) try(ctx context.Context) error {
	fmt.Fprintln(s.err, "Trying it, which takes up to a minute...")
	folder, err := os.MkdirTemp("", "sallyport-setup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	dir, err := state.Open(filepath.Join(folder, "state"))
	if err != nil {
		return err
	}
	if !s.a.secret.Empty() {
		store, err := secret.Open(dir, "")
		if err == nil {
			err = store.Set(s.a.secretName(), s.a.secret)
		}
		if err != nil {
			return err
		}
	}
	file := filepath.Join(folder, "agent.yaml")
	if err := os.WriteFile(file, []byte(s.trial), 0o600); err != nil {
		return err
	}
	all, err := doctor.Examine(ctx, doctor.Options{
		Config: file, Named: true, API: s.a.name, Environment: environmentProxy(), Version: version(),
		State:   func(*agent.Config) string { return dir.String() },
		Secrets: func(d state.Dir) (*secret.Store, error) { return secret.Open(d, "") },
	})
	if err != nil {
		return err
	}
	// The rest is about the folder of the trial, where nobody has joined.
	list := slices.DeleteFunc(all, func(f doctor.Finding) bool {
		return f.ID == "relay.member" || !strings.HasPrefix(f.ID, "relay.") && !strings.HasPrefix(f.ID, "api.") && !strings.HasPrefix(f.ID, "config.")
	})
	if err := printFindings(s.out, list); err != nil {
		return err
	}
	if doctor.Worst(list) != doctor.Fail || s.a.force || s.a.dry {
		return nil
	}
	if !s.ask.terminal {
		return errors.New("nothing was written, because something failed; mend it, or add --force")
	}
	return s.ask.confirm(ctx, "Something failed. Go on all the same?", false)
}

// show says what would be done, and asks for leave.
func (s *setup) show(ctx context.Context) error {
	switch {
	case s.added == "":
		fmt.Fprintf(s.out, "\n%s has APIs already, and stays as it is. Add this under apis:\n\n%s\n", s.program.config, s.api)
	case s.there:
		fmt.Fprintf(s.out, "\nTo %s is added:\n\n%s\n", s.program.config, indent(s.added))
	default:
		fmt.Fprintf(s.out, "\n%s will be:\n\n%s\n", s.program.config, indent(s.added))
	}
	if s.join != nil {
		fmt.Fprintf(s.out, "Then: join gateway %s, with a key that stays in %s.\n", s.join.Gateway, s.statePath())
	}
	if !s.a.secret.Empty() {
		fmt.Fprintf(s.out, "Then: keep the secret %s there.\n", s.a.secretName())
	}
	switch {
	case s.a.dry:
		fmt.Fprintln(s.out, "\nNothing was written (--dry-run).")
		return errNoMore
	case s.a.yes:
		return nil
	case !s.ask.terminal:
		return errors.New("nothing was written: add --yes to have it done")
	}
	return s.ask.confirm(ctx, "Do it?", true)
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + line)
	}
	return b.String()
}

// carryOut joins, keeps the secret, writes the file and installs the service; each may be repeated.
func (s *setup) carryOut(ctx context.Context) error {
	dir, err := s.stateDir(s.config)
	if err != nil {
		return err
	}
	if s.join != nil {
		if err := s.enter(ctx, dir); err != nil {
			return err
		}
	}
	if !s.a.secret.Empty() {
		store, err := s.secrets(dir)
		if err == nil {
			err = store.Set(s.a.secretName(), s.a.secret)
		}
		if err != nil {
			return fmt.Errorf("keep the secret: %w", err)
		}
	}
	if s.added != "" {
		if err := s.write(); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
		fmt.Fprintf(s.out, "Wrote %s.\n", s.program.config)
	}
	if err := s.serviceIfWanted(ctx); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\nNext, at the relay: sallyport-relay connector publish %s/%s --auth key\nHow it is going here: sallyport-agent check\n", s.config.Gateway, s.a.name)
	return nil
}

func (s *setup) enter(ctx context.Context, dir state.Dir) error {
	log, _, err := s.logger(s.config.Log)
	if err != nil {
		return err
	}
	dialer, err := s.joinDialer(s.config, *s.join, s.a.joinFlags, dir)
	if err != nil {
		return err
	}
	id, err := agent.Join(ctx, agent.JoinConfig{String: *s.join, State: dir, Dialer: dialer, Name: hostName(), Version: version(), Log: log})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Joined gateway %s as agent %s; the fingerprint of its key is %s.\n", id.Gateway, id.Agent, id.Fingerprint())
	if id.Pending {
		fmt.Fprintf(s.out, "It waits for approval: 'sallyport-relay agent approve %s' there; it links by itself then.\n", id.Agent)
	}
	return nil
}

// serviceIfWanted makes the agent a service, where that is wanted and this account may.
func (s *setup) serviceIfWanted(ctx context.Context) error {
	if s.a.service == "" && s.ask.terminal {
		if err := s.ask.confirm(ctx, "Install the service, and start it with the machine?", true); err == nil {
			s.a.service = "yes"
		} else if !errors.Is(err, errNoMore) {
			return err
		}
	}
	if s.a.service != "yes" {
		fmt.Fprintln(s.out, "It runs with 'sallyport-agent run', or as a service with 'sallyport-agent service install'.")
		return nil
	}
	spec, err := s.serviceSpec()
	if err == nil {
		err = service.Install(ctx, s.out, spec, false)
	}
	if err != nil {
		return fmt.Errorf("everything is written, but the service could not be installed: %w; then: sallyport-agent service install", err)
	}
	return nil
}

// write makes the file, or adds to the one that is there, which keeps its owner and mode.
func (s *setup) write() error {
	if !s.there {
		return writeNew(s.program.config, s.added)
	}
	f, err := os.OpenFile(s.program.config, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s.added) // at once: a running agent reads the file when it changes
	return errors.Join(err, f.Sync(), f.Close())
}
