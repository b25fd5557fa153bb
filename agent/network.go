package agent

import (
	"net"
	"net/url"
	"strings"

	"sallyport/agent/link"
	"sallyport/internal/bearer"
)

// A Destination is one place that the configuration leads to.
type Destination struct {
	// Host and Port are where a connection goes; a Host may say in words where the operating system decides.
	Host string `json:"host"`
	Port string `json:"port"`
	// Why names the setting behind it. Via is the proxy through which it is reached, "" for none.
	Why string `json:"why"`
	Via string `json:"via,omitempty"`
}

// Network is every destination that the configuration leads to, in the order of the file. It asks nobody and resolves no
// name. Environment of d says which proxy the environment names.
func Network(c *Config, d Deps) ([]Destination, error) {
	proxy, err := link.ProxyFor(c.Proxy, d.Environment)
	if err != nil {
		return nil, err
	}
	n := network{proxies: map[string]bool{}, proxy: proxy}
	n.add(c.Relay, "relay: the link to the relay")
	if c.Callers != nil && c.Callers.Keys == "" {
		rule, _ := c.Callers.rule().Normal()
		n.issuer(rule)
	}
	n.entra(c)
	if s := c.Audit.Syslog; s != nil {
		host, port, _ := net.SplitHostPort(s.To) // the configuration was checked
		n.list = append(n.list, Destination{Host: host, Port: port, Why: "audit.syslog: the collector of the record"})
	}
	kerberos, people := false, false
	for i := range c.APIs {
		a := &c.APIs[i]
		n.direct(a.Address(), "apis: the upstream of API "+a.Name)
		kerberos = kerberos || a.Auth.Windows != nil && a.Auth.Windows.Protocol != "ntlm"
		people = people || a.ActsForCallers()
	}
	if kerberos {
		n.list = append(n.list, Destination{Host: "the domain's controllers, as Kerberos is configured", Port: "88", Why: "auth.windows: tickets (KDC)"})
	}
	if people {
		n.list = append(n.list, Destination{Host: "the domain's controllers, as Kerberos is configured", Port: "389", Why: "auth.windows as caller: accounts and groups (LDAP)"})
	}
	n.list = append(n.list, Destination{Host: "the name servers of this machine", Port: "53", Why: "names of the hosts above"})
	return n.list, nil
}

type network struct {
	list    []Destination
	proxy   link.ProxyFunc
	proxies map[string]bool
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	case u.Scheme == "socks5":
		return "1080"
	}
	return "443"
}

// direct is a destination that no proxy of the agent's stands before.
func (n *network) direct(u *url.URL, why string) {
	n.list = append(n.list, Destination{Host: u.Hostname(), Port: portOf(u), Why: why})
}

// add is a destination that is reached as the relay is.
func (n *network) add(address, why string) {
	u, err := url.Parse(address)
	if err != nil {
		return // the configuration was checked
	}
	d := Destination{Host: u.Hostname(), Port: portOf(u), Why: why}
	if n.proxy != nil && !isLoopback(u.Hostname()) {
		if p, err := n.proxy(u); err == nil && p != nil {
			d.Via = net.JoinHostPort(p.Hostname(), portOf(p))
			if !n.proxies[d.Via] {
				n.proxies[d.Via] = true
				n.direct(p, "proxy: the way out")
			}
		}
	}
	n.list = append(n.list, d)
}

func (n *network) issuer(rule bearer.Rule) {
	n.add(rule.IssuerURL(), "callers: the issuer's configuration and keys (at its jwks_uri, on another host if the issuer says so)")
}

// entra are the places from which the agent gets its own tokens.
func (n *network) entra(c *Config) {
	e := c.Identity.Entra
	if e == nil {
		return
	}
	switch e.Credential {
	case "managed-identity":
		n.direct(&url.URL{Scheme: "http", Host: "169.254.169.254"}, "identity.entra: the machine's own metadata address")
	case "arc":
		n.direct(&url.URL{Scheme: "http", Host: "localhost:40342"}, "identity.entra: the Azure Arc agent on this machine")
	default:
		authority := e.Authority
		if authority == "" {
			authority = bearer.DefaultAuthority
		}
		n.add(strings.TrimSuffix(authority, "/"), "identity.entra: the agent's own tokens")
	}
}
