package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/agent/state"
	"sallyport/internal/service"
	"sallyport/tunnel"
)

// A joinFlags is what 'join' can be told.
type joinFlags struct {
	file, proxy, proxyAuth, ca string
	replace                    bool
}

func (p *program) joinCommand() *cobra.Command {
	var f joinFlags
	c := &cobra.Command{
		Use: "join", Short: "Make this agent a member of a gateway",
		Args: exactly(0, 0, "a join string does not belong on the command line, where others see it; give it at the prompt, on standard input or with --file. Make a new one now"),
		Long: `Takes the join string that 'sallyport-relay gateway add' printed: from a prompt, from standard input, or from a file,
never from the command line, where other users could see it. Makes a key that stays on this machine, proves it and the
join string's one-time code to the relay, and writes a first agent.yaml if there is none.

If it is interrupted, run it again with the same join string.`,
		Example: "  sallyport-agent join\n  sallyport-agent join --file join.txt --config ./agent.yaml --state ./state",
		RunE:    does(func(ctx context.Context, _ []string) error { return p.join(ctx, f) }),
	}
	c.Flags().StringVar(&f.file, "file", "", "read the join string from this file")
	c.Flags().StringVar(&f.proxy, "proxy", "", "system, environment, none, or the proxy's URL (default: agent.yaml's)")
	c.Flags().StringVar(&f.proxyAuth, "proxy-auth", "", "service: sign on to the proxy as the account that runs this (default: agent.yaml's proxy_auth)")
	c.Flags().StringVar(&f.ca, "ca", "", "PEM file of certificate authorities to trust besides the system's (default: agent.yaml's)")
	c.Flags().BoolVar(&f.replace, "replace", false, "join anew although this agent has joined; the old key is set aside")
	return c
}

func (p *program) join(ctx context.Context, f joinFlags) error {
	c, there, err := p.configIfThere()
	if err != nil {
		return err
	}
	if c.Identity.Entra != nil {
		return fmt.Errorf("%s has identity.entra: such an agent does not join; take that out first if it shall", p.config)
	}
	log, _, err := p.logger(c.Log)
	if err != nil {
		return err
	}
	line, err := p.readSecretly(ctx, f.file, "Join string (it is not shown): ")
	if err != nil {
		return fmt.Errorf("read the join string: %w", err)
	}
	j, err := tunnel.ParseJoinString(line)
	if err != nil {
		return err
	}
	if there && c.Gateway != j.Gateway {
		return fmt.Errorf("%s names gateway %s, but the join string is for gateway %s; correct one of them", p.config, c.Gateway, j.Gateway)
	}
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	if !there && !f.replace {
		// It has joined, and was stopped before it could write agent.yaml: that is all that is left to do.
		if id, err := identity.Load(dir); err == nil && id.Joined && id.RelayKey == j.RelayKey && id.Gateway == j.Gateway {
			fmt.Fprintf(p.out, "This agent has joined gateway %s at %s already, as agent %s.\n", id.Gateway, id.Relay, id.Agent)
			return p.firstConfig(ctx, there, j, f, dir)
		}
	}
	dialer, err := p.joinDialer(c, j, f, dir)
	if err != nil {
		return err
	}
	id, err := agent.Join(ctx, agent.JoinConfig{
		String: j, State: dir, Dialer: dialer, Replace: f.replace, Name: hostName(), Version: version(), Log: log,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "Joined gateway %s at %s as agent %s.\nThe agent's key is in %s; its fingerprint is %s.\n",
		id.Gateway, id.Relay, id.Agent, dir, id.Fingerprint())
	if id.Pending {
		fmt.Fprintf(p.out, "\nWaiting for approval, fingerprint %s.\nAn admin of the relay compares it and approves this agent "+
			"('sallyport-relay agent approve %s'); it links by itself then.\n", id.Fingerprint(), id.Agent)
	}
	return p.firstConfig(ctx, there, j, f, dir)
}

// joinDialer gets to the relay as the configuration says, or else the flags.
func (p *program) joinDialer(c *agent.Config, j tunnel.JoinString, f joinFlags, dir state.Dir) (*link.Dialer, error) {
	via := agent.Config{Relay: j.Relay, Proxy: c.Proxy, ProxyAuth: c.ProxyAuth, CA: c.CA, Kerberos: c.Kerberos}
	if f.proxy != "" {
		via.Proxy = f.proxy
	}
	if f.proxyAuth == proxyAsService {
		via.ProxyAuth = &agent.ProxyAuth{As: proxyAsService}
	} else if f.proxyAuth != "" {
		return nil, fmt.Errorf("--proxy-auth %q is not known (write service; anything else belongs under proxy_auth in agent.yaml)", f.proxyAuth)
	}
	if f.ca != "" {
		ca, err := filepath.Abs(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		via.CA = ca
	}
	return p.dialer(&via, dir)
}

// dialer is the way to the relay that a configuration describes.
func (p *program) dialer(c *agent.Config, dir state.Dir) (*link.Dialer, error) {
	store, err := p.secrets(dir)
	if err != nil {
		return nil, err
	}
	return agent.NewDialer(c, agent.Deps{Environment: environmentProxy(), Version: version(), File: p.config, Secrets: store})
}

// proxyAsService is how --proxy-auth names the account that the agent runs as.
const proxyAsService = "service"

// firstConfig writes agent.yaml if there is none, and says what to do next.
func (p *program) firstConfig(ctx context.Context, there bool, j tunnel.JoinString, f joinFlags, dir state.Dir) error {
	if !there {
		if err := writeNew(p.config, firstConfig(j, f, dir.String(), p.config)); err != nil {
			return fmt.Errorf("the agent has joined, but the first configuration could not be written: %w", err)
		}
		if err := dir.ReadOnly(p.config); err != nil {
			return fmt.Errorf("the agent has joined, but its service could change the first configuration: %w", err)
		}
		fmt.Fprintf(p.out, "Wrote a first configuration: %s. It allows nothing yet.\n", p.config)
	}
	_, err := fmt.Fprintf(p.out, "\nNext:\n  1. name the APIs, and what of them may be called, in %[1]s\n  2. sallyport-agent config check %[1]s\n  3. %[2]s\n",
		p.config, p.howToStart(ctx))
	return err
}

// howToStart is the command that has the agent run: as the service, where this machine has one for this configuration.
func (p *program) howToStart(ctx context.Context) string {
	spec, err := p.serviceSpec()
	if err == nil && spec.Config == spec.DefaultConfig && spec.State == spec.DefaultState {
		if st, err := service.Ask(ctx, spec); err == nil && st.Installed {
			return "sallyport-agent service start"
		}
	}
	return "sallyport-agent run --config " + p.config
}

// writeNew writes a file that must not be there. The configuration holds no secret and reviewers read it.
func writeNew(path, text string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody was faster; theirs counts
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

const configForm = `# agent.yaml: what the cloud may call inside. Nothing else gets through, and only this file decides.
# It is read again when it changes. All settings: sallyport-agent config example

relay: %s
gateway: %s
state: %s
%s
# Name your APIs below. An example, to be changed and uncommented:
#
# apis:
#   - name: orders                          # the relay publishes it under this name; it never learns the address
#     url: http://erp.corp.example/api/v2
#     auth:
#       windows: {as: service}              # the account that the agent runs as; or none, basic, bearer, header
#     allow:                                # nothing else gets through
#       - GET /orders/**                    # /orders and everything below
#       - POST /orders
#       - GET,PATCH /orders/{id}            # {id} is one segment
#
# Try a rule without calling anything: sallyport-agent policy test --config %s GET /orders/5
`

func firstConfig(j tunnel.JoinString, f joinFlags, dir, path string) string {
	var extra strings.Builder
	if f.proxy != "" {
		fmt.Fprintf(&extra, "proxy: %s\n", quote(f.proxy))
	}
	if f.proxyAuth != "" {
		fmt.Fprintf(&extra, "proxy_auth: {as: %s}\n", f.proxyAuth)
	}
	if ca, err := filepath.Abs(f.ca); f.ca != "" && err == nil {
		fmt.Fprintf(&extra, "ca: %s\n", quote(ca))
	}
	return fmt.Sprintf(configForm, quote(j.Relay), quote(j.Gateway), quote(dir), extra.String(), path)
}

// quote makes a YAML scalar of any line: in single quotes nothing but the quote itself has a meaning.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
