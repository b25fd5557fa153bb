package relay

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"sallyport/configs"
	"sallyport/relay/admin"
	"sallyport/relay/gateway"
)

// Admin says where the admin API answers over HTTPS, and whom.
type Admin struct {
	// Host is the host name that serves the admin API and nothing else: admin.relay.example.com. It leads to the relay, is in
	// its certificate, and is another one than callers use.
	Host string `yaml:"host,required"`
	// OIDC says whose tokens count.
	OIDC AdminOIDC `yaml:"oidc,required"`
}

// AdminOIDC is the OpenID Connect issuer of the admins' tokens.
type AdminOIDC struct {
	// Issuer is the issuer's URL, exactly as its tokens have it: https://login.microsoftonline.com/TENANT/v2.0.
	Issuer string `yaml:"issuer,required"`
	// Audience are the names of the admin API at the issuer. A token must be for one of them.
	Audience []string `yaml:"audience,required"`
	// Client is the public client that people sign on with by 'sallyport-relay login'. Default: only automation signs on.
	Client string `yaml:"client"`
	// Scopes are what 'sallyport-relay login' asks for: [api://sallyport-admin/.default, offline_access].
	Scopes []string `yaml:"scopes"`
	// Claim of the token has the values that give roles. Default: roles.
	Claim string `yaml:"claim"`
	// Roles say who may do what. A token without any of them may do nothing.
	Roles []AdminRole `yaml:"roles,required"`
}

// AdminRole gives a role to whoever's token has a value.
type AdminRole struct {
	// Value in the claim: Sallyport.Admin, or a group's ID.
	Value string `yaml:"value,required"`
	// Role is viewer (see everything but secrets), publisher (also publish connectors of some gateways and make their keys)
	// or admin (everything).
	Role string `yaml:"role,required" enum:"viewer,publisher,admin"`
	// Gateways are those of a publisher.
	Gateways []string `yaml:"gateways"`
}

// checkAdmin reports what is wrong with the settings of the admin API.
func (c *Config) checkAdmin(d *configs.Doc) {
	a := c.Admin
	if a == nil {
		return
	}
	if name := hostName(a.Host); name == "" || name != strings.ToLower(a.Host) || !strings.Contains(name, ".") {
		d.Errorf("admin.host", "%q is no host name (write admin.relay.example.com, without a port)", a.Host)
	}
	if u, err := url.Parse(c.PublicURL); err == nil && u.Host != "" && hostName(u.Host) == hostName(a.Host) {
		d.Errorf("admin.host", "%s is the host of public_url: the admin API needs one of its own, which serves no connector", a.Host)
	}
	if u, err := url.Parse(a.OIDC.Issuer); err != nil || u.Host == "" || u.Scheme != "https" || u.RawQuery != "" {
		d.Errorf("admin.oidc.issuer", "%q is no issuer's URL (write https://login.example.com/tenant)", a.OIDC.Issuer)
	}
	for i, r := range a.OIDC.Roles {
		path := fmt.Sprintf("admin.oidc.roles[%d]", i)
		if (r.Role == string(admin.Publisher)) != (len(r.Gateways) > 0) {
			d.Errorf(path+".gateways", "gateways belong to the role publisher, and it needs one or more")
		}
		for _, g := range r.Gateways {
			if err := gateway.CheckName(g); err != nil {
				d.Errorf(path+".gateways", "%v", err)
			}
		}
	}
}

// adminHost is the admin API's host name, empty if it answers on the socket alone.
func (c *Config) adminHost() string {
	if c.Admin == nil {
		return ""
	}
	return hostName(c.Admin.Host)
}

func (c *Config) adminOIDC() *admin.OIDC {
	if c.Admin == nil {
		return nil
	}
	o := c.Admin.OIDC
	out := &admin.OIDC{Issuer: o.Issuer, Audience: o.Audience, Client: o.Client, Scopes: o.Scopes, Claim: o.Claim}
	for _, r := range o.Roles {
		out.Grants = append(out.Grants, admin.Grant{Value: r.Value, Role: admin.Role(r.Role), Gateways: r.Gateways})
	}
	return out
}

// serveAdmin answers on the admin API's host, where nothing else is served.
func (r *Relay) serveAdmin(w http.ResponseWriter, q *http.Request) {
	if !r.trusted.Secure(q) {
		plain(w, http.StatusForbidden, "The admin API is for HTTPS alone: a token must not travel in the clear.\n")
		return
	}
	r.remote.ServeHTTP(w, q)
}

// isAdminHost reports whether the admin API alone answers on a host. A connector that had the name before is not served on it.
func (r *Relay) isAdminHost(name string) bool { return name != "" && name == r.config.adminHost() }
