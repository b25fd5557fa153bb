package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sallyport/internal/issuer"
)

// maxLabel bounds what is taken over from a token into the log.
const maxLabel = 128

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
}

// login is what a program needs to get a token.
func (o *OIDC) login() Login {
	return Login{Issuer: o.Issuer, Client: o.Client, Scopes: o.Scopes}
}

// principal says who a request's token proves, and what the grants allow.
func (a *Admin) principal(q *http.Request) (*principal, error) {
	raw, err := bearerToken(q)
	if err != nil {
		return nil, err
	}
	o := a.c.OIDC
	token, err := a.issuer.Verify(q.Context(), raw, o.Issuer, issuer.PublicKeyAlgorithms())
	switch {
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
