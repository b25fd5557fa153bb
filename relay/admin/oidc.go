package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// issuerTimeout bounds each request to the issuer; issuerLimit what is read of an answer.
	issuerTimeout = 5 * time.Second
	issuerLimit   = 1 << 20
	// maxLabel bounds what is taken over from a token into the log.
	maxLabel = 128
)

// OIDC says whose tokens count over HTTPS.
type OIDC struct {
	// Issuer is the one whose tokens count: exactly as they have it.
	Issuer string
	// Audience are the names of this relay's admin API at the issuer; a token must be for one of them.
	Audience []string
	// Client is the public client that people sign on with (the device flow), Scopes what it asks for.
	Client string
	Scopes []string
	// Claim is the one that Grants look at. Default: "roles".
	Claim  string
	Grants []Grant
	// HTTP goes to the issuer. Default: one with the system's trust store.
	HTTP *http.Client

	mu  sync.Mutex
	set *oidc.IDTokenVerifier // guarded by mu; nil before the first token
}

// unavailable says that a token could not be judged.
type unavailable struct{ err error }

func (e *unavailable) Error() string { return e.err.Error() }
func (e *unavailable) Unwrap() error { return e.err }

// login is what a program needs to get a token.
func (o *OIDC) login() Login {
	return Login{Issuer: o.Issuer, Client: o.Client, Scopes: o.Scopes}
}

// algorithms are those with a public key; "none" and those with a shared secret never count.
func algorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}
}

// verifier finds out where the issuer's keys are, once. While that fails, each token tries again.
func (o *OIDC) verifier(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set != nil {
		return o.set, nil
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}}
	if o.HTTP != nil {
		*client = *o.HTTP
	}
	client.Timeout, client.Transport = issuerTimeout, &limited{client.Transport}
	ctx = oidc.ClientContext(context.WithoutCancel(ctx), client)
	p, err := oidc.NewProvider(ctx, o.Issuer)
	if err != nil {
		return nil, &unavailable{fmt.Errorf("read the configuration of the issuer %s: %w", o.Issuer, err)}
	}
	// The audience is checked below: there may be several names.
	o.set = p.VerifierContext(ctx, &oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: algorithms()})
	return o.set, nil
}

// principal says who a request's token proves, and what the grants allow.
func (o *OIDC) principal(q *http.Request) (*principal, error) {
	raw, err := bearer(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(q.Context(), 2*issuerTimeout)
	defer cancel()
	v, err := o.verifier(ctx)
	if err != nil {
		return nil, err
	}
	token, err := v.Verify(ctx, raw)
	switch {
	case err != nil && strings.Contains(err.Error(), "fetching keys"): // go-oidc has no type for it
		return nil, &unavailable{err}
	case err != nil:
		return nil, err
	case !slices.ContainsFunc(token.Audience, func(a string) bool { return slices.Contains(o.Audience, a) }):
		return nil, fmt.Errorf("the token is for %.200q", token.Audience)
	case token.Subject == "":
		return nil, errors.New("the token names no subject")
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return nil, errors.New("the token's claims have an unexpected form")
	}
	return o.granted(token.Subject, claims), nil
}

// granted gives a proven subject its roles. One without any is a principal too, who may nothing.
func (o *OIDC) granted(subject string, claims map[string]any) *principal {
	p := &principal{subject: printable(subject), gateways: map[string]bool{}}
	for _, name := range []string{"name", "preferred_username", "app_displayname", "azp", "appid", "client_id"} {
		if text, ok := claims[name].(string); ok && text != "" {
			p.name = printable(text)
			break
		}
	}
	claim := o.Claim
	if claim == "" {
		claim = "roles"
	}
	held := texts(claims[claim])
	for _, g := range o.Grants {
		if !slices.Contains(held, g.Value) {
			continue
		}
		switch g.Role {
		case Everyone:
			p.admin = true
		case Viewer:
			p.viewer = true
		case Publisher:
			for _, name := range g.Gateways {
				p.gateways[name] = true
			}
		}
	}
	return p
}

// texts gives a claim that is a text, or a list of them.
func texts(claim any) (out []string) {
	switch c := claim.(type) {
	case string:
		return []string{c}
	case []any:
		for _, v := range c {
			if text, ok := v.(string); ok {
				out = append(out, text)
			}
		}
	}
	return out
}

// printable makes text of a token fit for the log.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return -1
		}
		return r
	}, text)
	if len(text) > maxLabel {
		text = strings.ToValidUTF8(text[:maxLabel], "")
	}
	return text
}

// limited reads no more of an answer than the issuer's documents can be.
type limited struct{ next http.RoundTripper }

func (l *limited) RoundTrip(q *http.Request) (*http.Response, error) {
	next := l.next
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(q)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, issuerLimit), resp.Body}
	}
	return resp, err
}
