package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"sallyport/relay/admin"
)

// loginTimeout is how long somebody may take to sign on in a browser; issuers end a device code about then.
const loginTimeout = 15 * time.Minute

func (p *program) loginCommand() *cobra.Command {
	return &cobra.Command{
		Use: "login URL", Short: "Sign on to a relay's admin API over HTTPS", Args: exactly("URL"),
		Long: `Signs a person on: it prints an address and a code, to be opened in any browser on any machine. The token is kept in a file
of mode 0600 in the user's configuration folder and renewed when needed; 'logout' deletes it. Then --relay URL administers
that relay.

Automation does not log in. It sets ` + clientVariable + ` and ` + secretFileVariable + ` (a file with the secret) and
gives --relay URL.`,
		Example: "  sallyport-relay login https://admin.relay.example.com\n" +
			"  sallyport-relay --relay https://admin.relay.example.com status",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), loginTimeout)
			defer cancel()
			return p.login(ctx, args[0])
		},
	}
}

func (p *program) login(ctx context.Context, base string) error {
	s, err := p.session(ctx, base)
	if err != nil {
		return err
	}
	if s.Client == "" {
		return errors.New("this relay lets only automation sign on over HTTPS: relay.yaml has no 'client' in admin.oidc")
	}
	if s.DeviceURL == "" {
		return fmt.Errorf("the issuer %s has no sign-on by device code (RFC 8628)", s.Issuer)
	}
	c := s.config()
	device, err := c.DeviceAuth(ctx)
	if err != nil {
		return fmt.Errorf("ask %s for a code: %w", s.Issuer, err)
	}
	// On standard error, so that --json has nothing but the outcome.
	fmt.Fprintf(p.err, "Open %s\nand enter the code %s\n", text(device.VerificationURI), text(device.UserCode))
	token, err := c.DeviceAccessToken(ctx, device)
	if err != nil {
		return fmt.Errorf("sign on at %s: %w", s.Issuer, err)
	}
	s.keep(token)
	client, err := admin.NewRemoteClient(base, func(context.Context) (string, error) { return token.AccessToken, nil })
	if err != nil {
		return err
	}
	me, err := client.Whoami(ctx)
	if err != nil {
		return fmt.Errorf("signed on at %s, but the relay says: %w", s.Issuer, err)
	}
	if err := p.saveSession(base, s); err != nil {
		return err
	}
	return p.printWhoami(me)
}

// text makes what an issuer says fit for a terminal.
func text(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s[:min(len(s), 512)])
}

func (p *program) printWhoami(me admin.Whoami) error {
	return p.print(me, func(w io.Writer) {
		role := string(me.Role)
		if len(me.Gateways) > 0 {
			role += " of " + strings.Join(me.Gateways, ", ")
		}
		fmt.Fprintf(w, "Signed on as %s, role %s.\n", me.Actor, role)
	})
}

func (p *program) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Say who the relay takes you for, and with which role", Args: exactly(),
		Example: "  sallyport-relay --relay https://admin.relay.example.com whoami",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			me, err := c.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			return p.printWhoami(me)
		},
	}
}

func (p *program) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout URL", Short: "Delete the token that 'login' keeps", Args: exactly("URL"),
		Long:    "Deletes the kept token. The issuer still knows it until it ends; end the session there if it has leaked.",
		Example: "  sallyport-relay logout https://admin.relay.example.com",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := p.removeSession(args[0]); err != nil {
				return err
			}
			return p.print(map[string]string{"loggedOut": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Logged out of", args[0]) })
		},
	}
}

// session asks the relay where to get a token, and that issuer for its endpoints.
func (p *program) session(ctx context.Context, base string) (*session, error) {
	c, err := admin.NewRemoteClient(base, nil)
	if err != nil {
		return nil, &usageError{err}
	}
	l, err := c.Login(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the relay where to sign on: %w", err)
	}
	if !strings.HasPrefix(l.Issuer, "https://") {
		return nil, fmt.Errorf("the relay names the issuer %.200q; https is needed", l.Issuer)
	}
	provider, err := oidc.NewProvider(ctx, l.Issuer)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of the issuer %s: %w", l.Issuer, err)
	}
	e := provider.Endpoint()
	for _, u := range []string{e.TokenURL, e.DeviceAuthURL} {
		if u != "" && !strings.HasPrefix(u, "https://") {
			return nil, fmt.Errorf("the issuer %s names the address %.200q; https is needed", l.Issuer, u)
		}
	}
	return &session{Issuer: l.Issuer, Client: l.Client, Scopes: l.Scopes, TokenURL: e.TokenURL, DeviceURL: e.DeviceAuthURL}, nil
}

func (s *session) config() *oauth2.Config {
	return &oauth2.Config{ClientID: s.Client, Scopes: s.Scopes, Endpoint: oauth2.Endpoint{TokenURL: s.TokenURL, DeviceAuthURL: s.DeviceURL}}
}
