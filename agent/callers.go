package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"sallyport/agent/caller"
	"sallyport/internal/bearer"
	"sallyport/internal/issuer"
)

// Callers says whose tokens prove to the agent who calls. Rules with who need it. The agent verifies each token itself; what
// the relay says of a caller does not count.
type Callers struct {
	// Who issues the tokens, exactly as they have it (claim iss): https://login.example.com/realms/plant. For Microsoft Entra
	// ID write entra instead.
	Issuer string `yaml:"issuer"`
	// The tokens are Microsoft Entra ID's, of either version.
	Entra *CallersEntra `yaml:"entra"`
	// The API's names at the issuer; a token must be for one of them (claim aud): api://sallyport-orders, or a client GUID.
	Audience Texts `yaml:"audience,required"`
	// A file with the issuer's public keys (a JSON Web Key Set), for an agent that is not to ask the issuer. Default: the
	// agent fetches them from the issuer, through 'proxy' and with 'ca', and renews them.
	Keys string `yaml:"keys"`
	// For how long a token counts after it was issued, whatever its own end: so long could a relay that was taken over show it
	// again. At least 1m. Default: 90m.
	MaxTokenAge time.Duration `yaml:"max_token_age"`
	// By how much this machine's clock and the issuer's may differ, up to 5m. Default: 1m.
	Leeway time.Duration `yaml:"leeway"`
	// The algorithms that may sign. Default: RS256 for entra, else all with public keys.
	Algorithms []string `yaml:"algorithms"`
	// The applications that may show tokens, by client ID. Default: any that the issuer gives one.
	Apps []string `yaml:"apps"`
	// People of other tenants that count, by object ID, each with the user principal name that it has inside:
	// {4c6b0f9e-0000-4000-8000-000000000001: anna.ext@corp.example}. Default: no guest counts.
	Guests map[string]string `yaml:"guests"`
}

// CallersEntra is a Microsoft Entra ID tenant.
type CallersEntra struct {
	// The tenant's GUID.
	Tenant string `yaml:"tenant,required"`
	// The URL of the cloud's sign-on, for others than the public one. Default: https://login.microsoftonline.com.
	Authority string `yaml:"authority"`
}

func (c *Callers) rule() bearer.Rule {
	r := bearer.Rule{Issuer: c.Issuer, Audience: c.Audience, Clients: c.Apps, Leeway: c.Leeway, Algorithms: c.Algorithms}
	if c.Entra != nil {
		r.Tenant, r.Authority = c.Entra.Tenant, c.Entra.Authority
	}
	return r
}

func (v validator) callers(path string, c *Callers) {
	switch {
	case c.Issuer == "" && c.Entra == nil:
		v.Errorf(path, "callers: who issues the tokens is missing (write issuer: URL, or entra: {tenant: GUID})")
		return
	case c.Issuer != "" && c.Entra != nil:
		v.Errorf(path, "callers: issuer and entra are two issuers (keep one)")
		return
	case len(c.Audience) == 0:
		v.Errorf(path+".audience", "audience is empty (name the API as the issuer knows it: without it, tokens for any other API would count)")
		return
	}
	_, bad := c.rule().Normal()
	for _, text := range bad {
		v.Errorf(path, "callers: %s", text)
	}
	if c.MaxTokenAge != 0 && c.MaxTokenAge < time.Minute || c.MaxTokenAge == 0 && v.Has(path+".max_token_age") {
		v.Errorf(path+".max_token_age", "max_token_age must be at least 1m (leave it out for %s)", caller.DefaultMaxAge)
	}
	if c.Entra == nil && len(c.Guests) > 0 {
		v.Errorf(path+".guests", "only Entra's tokens tell guests from members (remove guests)")
	}
	for id, upn := range c.Guests {
		if strings.Count(upn, "@") != 1 || strings.ToLower(id) != id {
			v.Errorf(path+".guests", "guests: write each as an object ID in lower case and a user principal name: OBJECT-ID: anna.ext@corp.example")
		}
	}
}

// verifier makes what proves callers, or takes over old's if nothing about it has changed, with the keys that it knows. Nil:
// no callers are set.
func (a *Agent) verifier(c *Config, old *snapshot) (v *caller.Verifier, key string, err error) {
	if c.Callers == nil {
		return nil, "", nil
	}
	var file []byte
	if c.Callers.Keys != "" {
		if file, err = os.ReadFile(a.deps.path(c.Callers.Keys)); err != nil {
			return nil, "", fmt.Errorf("read 'callers.keys': %w", err)
		}
	}
	data, err := json.Marshal([]any{c.Callers, file, c.Proxy, c.CA})
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(data)
	if key = hex.EncodeToString(sum[:]); old != nil && old.callersKey == key {
		return old.callers, key, nil
	}
	rule, bad := c.Callers.rule().Normal()
	if len(bad) > 0 {
		return nil, "", fmt.Errorf("callers: %s", strings.Join(bad, "; "))
	}
	keys, err := a.keys(c, rule, file)
	if err != nil {
		return nil, "", err
	}
	v, err = caller.New(caller.Config{Rule: rule, Keys: keys, MaxAge: c.Callers.MaxTokenAge, Guests: c.Callers.Guests})
	return v, key, err
}

func (a *Agent) keys(c *Config, rule bearer.Rule, file []byte) (bearer.Keys, error) {
	if file != nil {
		keys, err := caller.Pinned(file)
		if err != nil {
			err = fmt.Errorf("callers.keys %s: %w", c.Callers.Keys, err)
		}
		return keys, err
	}
	dialer, err := NewDialer(c, a.deps)
	if err != nil {
		return nil, err
	}
	return issuer.Through(rule.IssuerURL(), dialer.HTTPClient().Transport), nil
}

// wantsToken says that the Authorization with which a caller proves itself is needed inside.
func (a *api) wantsToken() bool {
	return a.from.TakesPasswords() || a.from.Auth.Word == AuthPassthrough || a.policy.NeedsPrincipal()
}
