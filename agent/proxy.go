package agent

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"sallyport/agent/link"
	"sallyport/agent/secret"
	"sallyport/agent/winauth"
)

// basicProxy is the protocol of proxy_auth that winauth does not know.
const basicProxy = "basic"

func (v validator) proxy(c *Config) {
	if _, err := link.ProxyFor(c.Proxy, nil); err != nil {
		v.Errorf("proxy", "%v", err)
	} else if u, err := url.Parse(c.Proxy); err == nil && hasPassword(u) {
		v.warnf("proxy", "a password stands in this file, which is no secret (keep it with 'sallyport-agent secret set NAME', and write "+
			"proxy_auth: {as: account, account: USER, secret: NAME, protocol: basic})")
	}
	p := c.ProxyAuth
	if p == nil {
		return
	}
	switch {
	case c.Proxy == "none":
		v.Errorf("proxy_auth", "proxy_auth has no meaning with proxy: none (remove one of the two)")
	case strings.Contains(c.Proxy, "@"):
		v.Errorf("proxy_auth", "the proxy's URL has a user name already (take it out of the URL, or remove proxy_auth)")
	case strings.HasPrefix(c.Proxy, "socks5:"):
		v.Errorf("proxy_auth", "proxy_auth is for http and https proxies (a socks5 proxy takes socks5://user:password@host)")
	}
	if p.Protocol != basicProxy {
		v.windows("proxy_auth", p.windows())
		return
	}
	if p.As != "account" || p.Keytab != "" || p.Principal != "" || p.CCache != "" || p.SPN != "" {
		v.Errorf("proxy_auth.protocol", "basic is a user name and a password (write as: account, account and secret, nothing else)")
	}
	if p.Account == "" || strings.ContainsAny(p.Account, ":\r\n") {
		v.Errorf("proxy_auth.account", "account must not be empty or contain \":\" (RFC 7617 has no way to send it)")
	}
	v.secret("proxy_auth.secret", p.Secret)
	if strings.HasPrefix(c.Proxy, "http:") {
		v.warnf("proxy_auth.protocol", "basic sends the password readable to the proxy (use negotiate, or a proxy of https)")
	}
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

// windows is the same sign-on in the words of an API's.
func (p *ProxyAuth) windows() *Windows {
	return &Windows{
		As: p.As, Account: p.Account, Secret: p.Secret, Keytab: p.Keytab, Principal: p.Principal, CCache: p.CCache,
		SPN: p.SPN, Protocol: p.Protocol,
	}
}

// proxySignOn is how the agent proves itself to a proxy; nil without proxy_auth.
func (d Deps) proxySignOn(c *Config) (*link.SignOn, error) {
	p := c.ProxyAuth
	if p == nil {
		return nil, nil
	}
	s := &link.SignOn{SPN: p.SPN, User: p.Account, Secret: p.Secret}
	if p.Secret != "" {
		get, err := d.secretFor(p.Secret)
		if err != nil {
			return nil, err
		}
		s.Password = get
	}
	if p.Protocol == basicProxy {
		return s, nil
	}
	var err error
	if s.Windows, err = d.windowsCredential(c, p.windows(), s.Password); err != nil {
		return nil, err
	}
	s.User = s.Windows.Identity()
	return s, nil
}

// windowsCredential is the credential that settings describe; password is nil where they name no secret.
func (d Deps) windowsCredential(c *Config, w *Windows, password func() (string, error)) (winauth.Credential, error) {
	o := winauth.Options{
		Protocol: winauth.Protocol(w.Protocol), ChannelBinding: winauth.ChannelBinding(w.ChannelBinding), Mutual: w.Mutual,
		Krb5Config: d.path(c.Kerberos.Config), Log: d.Log,
	}
	if w.As == "service" {
		return winauth.NewService(o, winauth.ServiceSource{
			Keytab: d.path(w.Keytab), Principal: w.Principal, CCache: d.path(w.CCache),
		})
	}
	return winauth.NewAccount(o, winauth.Account{User: w.Account, Keytab: d.path(w.Keytab), Password: password})
}

// secretFor gives a secret's value each time it is needed, so that a changed one counts at once. One that is not there yet
// is a warning: it may be set while the agent runs.
func (d Deps) secretFor(name string) (func() (string, error), error) {
	if err := secret.CheckName(name); err != nil {
		return nil, err
	}
	if d.Secrets == nil {
		return nil, fmt.Errorf("%w: %s", secret.ErrNotFound, name)
	}
	if _, err := d.Secrets.Get(name); err != nil {
		d.logger().Warn("a secret that the configuration names cannot be read", "secret", name, "error", err)
	}
	return func() (string, error) {
		s, err := d.Secrets.Get(name)
		return s.Reveal(), err
	}, nil
}

func (d Deps) logger() *slog.Logger {
	if d.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Log
}
