package relay

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sallyport/configs"
	"sallyport/relay/connector"
)

// Config is relay.yaml. Every setting may be left out; what then holds is in its comment. An empty file is a relay on
// loopback with plain HTTP, for trying it out.
type Config struct {
	// Listen is the address that callers and agents connect to, host:port. Default: ":443" with tls, else
	// "127.0.0.1:8080".
	Listen string `yaml:"listen"`
	// PublicURL is the URL under which callers and agents reach the relay, without a path. It stands in join strings and
	// in the URLs of connectors. Default: the listen address, if that is one address.
	PublicURL string `yaml:"public_url"`
	// TLS is the relay's certificate. Without it the relay speaks plain HTTP and belongs behind a balancer that speaks
	// TLS, or on loopback.
	TLS *TLS `yaml:"tls"`
	// TrustedProxies are the balancers in front of the relay, as addresses or networks (10.0.0.0/8). X-Forwarded-For,
	// -Proto and -Host are believed from them alone. Default: none.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// Data is the folder of everything durable: gateways, connectors, keys, the relay's signing key, the access log. Only
	// the relay's account may read it. Default: /var/lib/sallyport-relay.
	Data string `yaml:"data"`
	// Socket is the local socket of the admin API, which the commands use. Whoever may open it is an admin. Default:
	// admin.sock in the data folder.
	Socket string `yaml:"socket"`

	// Entra lets agents sign on with tokens of Microsoft Entra ID. Which application may link as an agent of which gateway is
	// said with 'sallyport-relay gateway allow-entra'. Default: the relay takes none.
	Entra *Entra `yaml:"entra"`

	// Admin lets people and automation administer the relay over HTTPS. Default: the local socket alone does.
	Admin *Admin `yaml:"admin"`

	// Limits bound what callers can make the relay hold.
	Limits Limits `yaml:"limits"`
	// Timeouts end what waits.
	Timeouts Timeouts `yaml:"timeouts"`
	// Operations bound what the relay keeps of calls that outlive their callers: answers of deferred calls, and of calls
	// whose repeats are known.
	Operations Operations `yaml:"operations"`
	// Log is the program's own log, on standard error.
	Log Log `yaml:"log"`
	// AccessLog is one JSON line for each call.
	AccessLog AccessLog `yaml:"access_log"`
	// AdminLog is the record of what admins did, in the data folder. It cannot be switched off.
	AdminLog AdminLog `yaml:"admin_log"`
	// Syslog forwards both to a collector. Default: none.
	Syslog *Syslog `yaml:"syslog"`
	// Traces exports calls to an OpenTelemetry collector. Default: none; a caller's traceparent is passed on all the same.
	Traces *Traces `yaml:"traces"`
	// Metrics tells Prometheus how the relay fares, on a listener of its own. Default: none.
	Metrics *Metrics `yaml:"metrics"`
}

// Entra says which tokens of Microsoft Entra ID agents can sign on with.
type Entra struct {
	// Tenant is the GUID of the one tenant whose tokens count.
	Tenant string `yaml:"tenant,required"`
	// Audience are the names of this relay as the tenant has registered it: its application ID URI (api://...), which
	// version 1 tokens are for, and its client GUID, which version 2 tokens are for. Any other token is refused.
	Audience []string `yaml:"audience,required"`
	// Authority is the URL of the cloud's sign-on, for others than the public one: https://login.microsoftonline.us.
	// Default: https://login.microsoftonline.com.
	Authority string `yaml:"authority"`
}

// TLS says where the relay's certificate comes from: from two files, or from an authority by ACME.
type TLS struct {
	// Cert is the file with the certificate and its chain, PEM. It is read again when it changes; a broken new pair is
	// reported and the old one stays in use.
	Cert string `yaml:"cert"`
	// Key is the file with the certificate's private key, PEM.
	Key string `yaml:"key"`
	// ACME gets the certificate from an authority and renews it, instead of cert and key.
	ACME *ACME `yaml:"acme"`
}

// ACME gets certificates by RFC 8555. The relay starts without them if the authority is out of reach, and tries again.
type ACME struct {
	// AgreeTerms says that you agree to the authority's terms of service. Nothing is asked for without it.
	AgreeTerms bool `yaml:"agree_terms"`
	// Hosts are the names to get certificates for. Default: the host of public_url and, if there is one, of the admin API.
	Hosts []string `yaml:"hosts"`
	// Email is told to the authority, for its warnings. Default: none.
	Email string `yaml:"email"`
	// Directory is the URL of the authority's ACME directory. Default: Let's Encrypt's.
	Directory string `yaml:"directory"`
	// CA is a PEM file of authorities to trust besides the system's when the directory is called, for an authority of your
	// own. Default: none.
	CA string `yaml:"ca"`
	// Challenge is how the authority is shown that the names are yours: tls-alpn-01 (it calls the relay at port 443),
	// http-01 (it calls at port 80) or dns-01 (a program of yours changes the DNS). Default: tls-alpn-01.
	Challenge string `yaml:"challenge" enum:"tls-alpn-01,http-01,dns-01"`
	// ListenHTTP is where http-01 is answered, while a certificate is being asked for. Default: :80.
	ListenHTTP string `yaml:"listen_http"`
	// Hook is the program for dns-01. It is called with "present" or "cleanup", the name of the TXT record and its value, and
	// returns when the world sees the change. Default: none.
	Hook string `yaml:"hook"`
	// Account is the ID of an account that the authority has given out (external account binding). Default: none.
	Account string `yaml:"account"`
	// AccountKeyFile is the file with that account's MAC key, in base64url. Only the relay's account may read it.
	AccountKeyFile string `yaml:"account_key_file"`
}

// Limits bound what callers can make the relay hold. A connector can have its own limit for bodies.
type Limits struct {
	// Header is the size of a request's header fields together. Default: 128KiB, at least 64KiB.
	Header configs.Size `yaml:"header"`
	// Body is the size of a request's body, for connectors without a limit of their own. Default: 100MB.
	Body configs.Size `yaml:"body"`
	// Connections is the number of connections of callers and agents. One more is closed at once. Default: 20000.
	Connections int `yaml:"connections"`
	// Calls is the number of calls under way at once. Default: 8192.
	Calls int `yaml:"calls"`
	// CallsPerConnector is the same for each connector, so that one cannot use up the relay. Default: 2048.
	CallsPerConnector int `yaml:"calls_per_connector"`
	// StreamsPerConnection is how many calls one HTTP/2 connection may have under way. Default: 250.
	StreamsPerConnection int `yaml:"streams_per_connection"`
}

// Timeouts end what waits. None of them bounds a whole exchange: a download may take hours while bytes move.
type Timeouts struct {
	// Answer is how long a caller is held until the answer begins, and through each silence after that. A connector can
	// have its own. Default: 230s.
	Answer time.Duration `yaml:"answer"`
	// PowerPlatform is the same for Power Platform, counted from the request's arrival: it hangs up at 120 s by itself,
	// without a word to the maker. Default: 110s.
	PowerPlatform time.Duration `yaml:"power_platform"`
	// Header is how long a caller may take to send a request's head. Default: 20s.
	Header time.Duration `yaml:"header"`
	// Caller is how long a caller may send or take nothing while it should. Default: 75s.
	Caller time.Duration `yaml:"caller"`
	// KeepAlive is how long a caller's unused connection stays open. It must be longer than that of a balancer in front.
	// Default: 185s.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// Idle ends WebSockets and event streams in which nothing moves. Default: 15m.
	Idle time.Duration `yaml:"idle"`
	// Drain is how long calls under way may take to end when the relay is stopped. Default: 25s.
	Drain time.Duration `yaml:"drain"`
}

// Operations bound what the relay keeps of calls that outlive their callers. It is kept encrypted, and in no backup.
type Operations struct {
	// Keep is how long an answer is kept after the call has ended. Default: 24h, at most 30d.
	Keep time.Duration `yaml:"keep"`
	// Answer is the largest answer that is kept. Default: 32MB.
	Answer configs.Size `yaml:"answer"`
	// Store is how much room all of them may take; one connector may have a quarter of it. Default: 1GiB.
	Store configs.Size `yaml:"store"`
	// Running is how many deferred calls of one connector may be under way. One more is held as if there were no
	// deferring. Default: 64.
	Running int `yaml:"running"`
	// Kept is how many answers of deferred calls a connector may have kept, and how many calls whose repeats are known; of
	// those the oldest gives way. Default: 10000.
	Kept int `yaml:"kept"`
}

// Log is the program's own log, on standard error.
type Log struct {
	// Level is the least important kind of event that is logged: debug, info, warn or error. Default: info.
	Level string `yaml:"level" enum:"debug,info,warn,error"`
	// Format is text or json. Default: text.
	Format string `yaml:"format" enum:"text,json"`
}

// AccessLog is one JSON line for each call: who called what, the outcome, and where the time went. It never holds a
// query or a body, and of the header fields only IDs.
type AccessLog struct {
	// To is where lines are written: stdout, stderr, off, or a file. A file that was moved away (logrotate) is made anew
	// within a second. Default: stdout.
	To string `yaml:"to"`
	// Store says whether the events are also kept in the data folder, where 'sallyport-relay log' reads them: on or off.
	// Default: on.
	Store string `yaml:"store" enum:"on,off"`
	// Keep is how long the data folder keeps them. Default: 30d.
	Keep time.Duration `yaml:"keep"`
	// KeepSize is how many bytes of them it keeps at most. Default: 1GiB.
	KeepSize configs.Size `yaml:"keep_size"`
}

// AdminLog is the record of what admins did: who, what, on what, and the outcome. 'sallyport-relay log --kind admin' reads it.
type AdminLog struct {
	// Keep is how long it is kept. Default: 400d.
	Keep time.Duration `yaml:"keep"`
	// KeepSize is how many bytes of it are kept at most. Default: 64MiB.
	KeepSize configs.Size `yaml:"keep_size"`
}

// Load reads relay.yaml; see package configs for how strictly. name is what errors call it.
func Load(name string, data []byte) (Config, error) {
	var c Config
	err := configs.Load(name, data, &c, c.check)
	return c, err
}

// check reports everything that is wrong, with its place in the file.
func (c *Config) check(d *configs.Doc) {
	c.checkAddresses(d)
	c.checkTLS(d)
	if c.Entra != nil {
		if _, err := c.Entra.verifier(); err != nil {
			d.Errorf("entra", "%v", err)
		}
	}
	c.checkSyslog(d)
	c.checkMetrics(d)
	c.checkTraces(d)
	c.checkAdmin(d)
	for i, s := range c.TrustedProxies {
		if _, err := connector.ParseNetwork(s); err != nil {
			d.Errorf(fmt.Sprintf("trusted_proxies[%d]", i), "%q is neither an address nor a network (write 10.0.0.0/8)", s)
		}
	}
	if c.Limits.Header > 0 && c.Limits.Header < 64<<10 {
		d.Errorf("limits.header", "%s is too little (Windows tokens alone can take 48 kB; give at least 64KiB)", c.Limits.Header)
	}
	if c.Limits.Header > 512<<10 {
		d.Errorf("limits.header", "%s is too much (a link carries at most 512KiB)", c.Limits.Header)
	}
	for path, n := range map[string]int{
		"limits.connections": c.Limits.Connections, "limits.calls": c.Limits.Calls,
		"limits.calls_per_connector": c.Limits.CallsPerConnector, "limits.streams_per_connection": c.Limits.StreamsPerConnection,
		"operations.running": c.Operations.Running, "operations.kept": c.Operations.Kept,
	} {
		if n < 0 {
			d.Errorf(path, "%d is negative (leave it out for the default)", n)
		}
	}
	if c.Operations.Keep > 30*24*time.Hour {
		d.Errorf("operations.keep", "%s is too long (answers are kept for 30d at most)", c.Operations.Keep)
	}
	for path, keep := range map[string]time.Duration{"access_log.keep": c.AccessLog.Keep, "admin_log.keep": c.AdminLog.Keep} {
		if keep != 0 && keep < time.Hour {
			d.Errorf(path, "%s is too short (at least 1h)", keep)
		}
	}
	for path, size := range map[string]configs.Size{"access_log.keep_size": c.AccessLog.KeepSize, "admin_log.keep_size": c.AdminLog.KeepSize} {
		if size != 0 && size < 1<<20 {
			d.Errorf(path, "%s is too little (at least 1MiB)", size)
		}
	}
	if c.Timeouts.PowerPlatform > 118*time.Second {
		d.Errorf("timeouts.power_platform", "%s is too late (Power Platform hangs up at 120 s)", c.Timeouts.PowerPlatform)
	}
	if len(c.socket()) > 100 {
		d.Errorf("socket", "the path %s is too long (a socket's path has at most 100 bytes)", c.socket())
	}
}

func (c *Config) checkAddresses(d *configs.Doc) {
	host, _, err := net.SplitHostPort(c.listen())
	if err != nil {
		d.Errorf("listen", "%q is no address (write host:port or :port)", c.Listen)
	}
	if c.PublicURL != "" {
		if _, err := parsePublicURL(c.PublicURL); err != nil {
			d.Errorf("public_url", "%v", err)
		}
		return
	}
	addr, notOne := netip.ParseAddr(host)
	if err == nil && host != "localhost" && (notOne != nil || addr.IsUnspecified()) {
		d.Errorf("public_url", "public_url is missing (give the URL under which callers reach the relay, https://relay.example.com)")
	}
}

// parsePublicURL reads scheme and host. A path is refused: connectors live below "/", and a balancer that adds a prefix
// would have to be told everywhere.
func parsePublicURL(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(s, "/"))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" {
		return nil, fmt.Errorf("%q is no URL of a relay (write https://relay.example.com)", s)
	}
	if err := configs.CheckHost(u); err != nil {
		return nil, fmt.Errorf("%q: %w", s, err)
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("%q must be a scheme and a host alone (write %s://%s)", s, u.Scheme, u.Host)
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, notOne := strconv.ParseUint(port, 10, 16)
	return err == nil && host != "" && notOne == nil && n > 0
}

func (c *Config) trusted() (connector.Trusted, error) {
	list, err := connector.ParseNetworks(c.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("trusted_proxies: %w", err)
	}
	return list, nil
}

func (c *Config) listen() string {
	switch {
	case c.Listen != "":
		return c.Listen
	case c.TLS != nil:
		return ":443"
	}
	return "127.0.0.1:8080"
}

func (c *Config) data() string { return orElse(c.Data, "/var/lib/sallyport-relay") }

func (c *Config) socket() string { return orElse(c.Socket, filepath.Join(c.data(), "admin.sock")) }

// SocketPath is where the commands find the admin API.
func (c *Config) SocketPath() string { return c.socket() }

func orElse[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
