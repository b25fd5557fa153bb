package agent

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"sallyport/agent/identity/entra"
	"sallyport/agent/link"
	"sallyport/agent/secret"
	"sallyport/agent/state"
)

// certificateLimit bounds the file of a certificate with its key.
const certificateLimit = 256 << 10

var (
	guid        = regexp.MustCompile(`^(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	fingerprint = regexp.MustCompile(`^sha256:[0-9A-Za-z_-]{43}$`)
)

func (v validator) entra(path string, e *Entra) {
	if !strings.HasSuffix(e.Scope, "/.default") {
		v.Errorf(path+".scope", "scope must end in /.default (write api://sallyport/.default, or the relay's client GUID and /.default)")
	}
	if !fingerprint.MatchString(e.RelayKey) {
		v.Errorf(path+".relay_key", "relay_key must be the fingerprint of the relay's signing key (sha256:..., as 'sallyport-relay status' shows it)")
	}
	for key, value := range map[string]string{"tenant": e.Tenant, "client": e.Client} {
		if value != "" && !guid.MatchString(value) {
			v.Errorf(path+"."+key, "%s must be a GUID", key)
		}
	}
	if u, err := url.Parse(e.Authority); e.Authority != "" && (err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "") {
		v.Errorf(path+".authority", "authority must be a URL of https without a path (https://login.microsoftonline.us)")
	}
	application := e.Credential == entra.ClientSecret || e.Credential == entra.Certificate
	if application && (e.Tenant == "" || e.Client == "") {
		v.Errorf(path, "credential: %s needs tenant and client", e.Credential)
	}
	if e.Credential == entra.ClientSecret && e.Secret == "" {
		v.Errorf(path+".secret", "secret is missing (write the name of the secret with the application's secret)")
	}
	if e.Credential == entra.Certificate && e.Certificate == "" {
		v.Errorf(path+".certificate", "certificate is missing (write the path of a file with the certificate and its key)")
	}
	if e.Secret != "" {
		v.secret(path+".secret", e.Secret)
	}
	if !application && e.Secret != "" {
		v.Errorf(path+".secret", "secret has no meaning with credential: %s (remove it)", e.Credential)
	}
	if e.Credential != entra.Certificate && e.Certificate != "" {
		v.Errorf(path+".certificate", "certificate has no meaning with credential: %s (remove it)", e.Credential)
	}
}

// newEntra makes the identity that the configuration describes.
func newEntra(c *Config, d Deps, dialer *link.Dialer) (*entra.Identity, error) {
	e := c.Identity.Entra
	ec := entra.Config{
		Credential: e.Credential, Tenant: e.Tenant, Client: e.Client, Scope: e.Scope, Authority: e.Authority,
		Gateway: c.Gateway, HTTP: dialer.HTTPClient(), Log: d.Log,
	}
	if e.Secret != "" {
		if d.Secrets == nil {
			return nil, fmt.Errorf("identity.entra: %w: %s", secret.ErrNotFound, e.Secret)
		}
		var err error
		if ec.Secret, err = d.Secrets.Get(e.Secret); err != nil {
			return nil, fmt.Errorf("identity.entra: %w", err)
		}
	}
	if e.Certificate != "" {
		var err error
		if ec.Certificate, err = state.ReadFile(d.path(e.Certificate), certificateLimit); err != nil {
			return nil, fmt.Errorf("identity.entra.certificate: %w", err)
		}
	}
	return entra.New(ec)
}

// keepToken renews an Entra token and shows each new one over the links that are up, until ctx ends.
func (a *Agent) keepToken(ctx context.Context) {
	if a.entra != nil {
		a.entra.Run(ctx, func() { a.links.Prove(ctx) })
	}
}
