package relay

import (
	"strings"

	"sallyport/relay/gateway"
	"sallyport/relay/gateway/entra"
)

func (e *Entra) verifier() (*entra.Verifier, error) {
	audience := make([]string, len(e.Audience))
	for i, a := range e.Audience {
		if audience[i] = a; !strings.Contains(a, "://") {
			audience[i] = strings.ToLower(a) // a GUID; tokens have them in lower case
		}
	}
	return entra.New(entra.Config{Tenant: strings.ToLower(e.Tenant), Audience: audience, Authority: e.Authority})
}

// takeTokens has the gateways take the tokens that the configuration describes.
func (c *Config) takeTokens(g *gateway.Config) error {
	if c.Entra == nil {
		return nil
	}
	v, err := c.Entra.verifier()
	if err != nil {
		return err
	}
	g.Tokens, g.Tenant = v, strings.ToLower(c.Entra.Tenant)
	return nil
}
