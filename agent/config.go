package agent

import (
	"errors"
	"net"
	"net/url"
	"time"

	"sallyport/agent/policy"
	"sallyport/configs"
)

// Config is agent.yaml. It is the security policy that a reviewer reads: what it does not allow cannot be called,
// whatever the cloud asks for.
type Config struct {
	// The relay's URL, the only cloud address that the agent connects to: https://relay.example.com. Plain http is
	// accepted for this machine alone (http://127.0.0.1:8080).
	Relay string `yaml:"relay,required"`
	// The gateway that this agent answers for, as the relay knows it: lower-case letters, digits and hyphens.
	Gateway string `yaml:"gateway,required"`
	// The APIs that the agent offers. Without any, nothing can be called.
	APIs []API `yaml:"apis"`
	// How many links to the relay are kept up at once, 1 to 16. Default: 2, so that one that breaks leaves another.
	Links int `yaml:"links"`
	// How old a link may become before a new one takes its place, at least 10s. Firewalls and balancers cut old connections;
	// a link that is replaced in time ends when the last request on it has. Default: 12h.
	MaxLinkAge time.Duration `yaml:"max_link_age"`
	// The directory for the agent's key and secrets. Default: /var/lib/sallyport-agent, on Windows
	// %ProgramData%\Sallyport.
	State string `yaml:"state"`
	// What the agent writes about itself.
	Log Log `yaml:"log"`
	// How calls are put on record.
	Audit Audit `yaml:"audit"`
	// Prometheus metrics, offered to programs of this machine. Default: none, and the agent listens nowhere.
	Metrics *Metrics `yaml:"metrics"`
	// How the cloud is reached (the relay, Entra's tokens, issuers' keys): system (HTTPS_PROXY and NO_PROXY of the service if
	// they are set, else what Windows says: PAC, WPAD, netsh winhttp), environment (the variables alone), none, or the URL of
	// a proxy (http, https or socks5). Default: system.
	Proxy string `yaml:"proxy"`
	// How the agent signs on to a proxy that asks for it. docs/proxies.md has the details.
	ProxyAuth *ProxyAuth `yaml:"proxy_auth"`
	// A PEM file with certificate authorities that are trusted for the relay besides the operating system's, for a
	// network that inspects TLS.
	CA string `yaml:"ca"`
	// Who this agent is to the relay. Default: the key that 'sallyport-agent join' made.
	Identity Identity `yaml:"identity"`
	// How long running requests may go on when the agent stops. Default: 30s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// Whose tokens prove to the agent who calls, for rules with who. Default: nobody is proved, and such rules cannot stand
	// here.
	Callers *Callers `yaml:"callers"`
	// The public keys of those who may sign this file (ed25519:...; 'sallyport-agent policy keygen' makes one). With any, the
	// agent loads the file only with a signature of one of them beside it (agent.yaml.sig), and pins them in its state
	// directory: taking the line out later takes nothing away. Default: no signature is needed.
	PolicySigners []string `yaml:"policy_signers"`
	// Which versions 'sallyport-agent update' may install. The running agent does not look at it.
	Update Update `yaml:"update"`
	// Kerberos for Windows authentication: on Linux always, on Windows where there is a keytab, or an account for as: caller.
	Kerberos Kerberos `yaml:"kerberos"`

	// Warnings says what is valid and yet worth a second look, one line each, in the form of errors.
	Warnings []string `yaml:"-"`

	text []byte // as it was read from a file; nil if it was not
}

// Identity says who this agent is to the relay.
type Identity struct {
	// The agent signs on with a token of Microsoft Entra ID. It does not join then: the relay lets its application in with
	// 'sallyport-relay gateway allow-entra'.
	Entra *Entra `yaml:"entra"`
}

// Entra says who the agent is in Microsoft Entra ID. Token requests go through 'proxy' and trust 'ca', as links do.
type Entra struct {
	// How the agent proves itself to Entra: managed-identity (of an Azure machine), arc (of a machine that Azure Arc
	// knows), workload (a Kubernetes workload identity), client-secret, certificate, environment (azidentity's variables)
	// or cli (whoever is signed on with az, for trying it out).
	Credential string `yaml:"credential,required" enum:"managed-identity,arc,workload,client-secret,certificate,environment,cli"`
	// The tenant's GUID, for client-secret and certificate; workload and cli know theirs.
	Tenant string `yaml:"tenant"`
	// The application's client GUID, for client-secret and certificate; of a user-assigned managed identity; workload knows
	// its own.
	Client string `yaml:"client"`
	// What the token is for: the relay's application ID URI or client GUID, and /.default (api://sallyport/.default).
	Scope string `yaml:"scope,required"`
	// The fingerprint of the relay's signing key (sha256:...), which 'sallyport-relay status' shows. The agent shows no token
	// to a relay that does not prove this key.
	RelayKey string `yaml:"relay_key,required"`
	// The name of the secret with the application's secret, for client-secret, or with the password of the certificate's
	// key. Set it with: sallyport-agent secret set NAME.
	Secret string `yaml:"secret"`
	// The path of a PEM or PKCS#12 file with the certificate and its key, for certificate. It must be private.
	Certificate string `yaml:"certificate"`
	// The URL of the cloud's sign-on, for others than the public one: https://login.microsoftonline.us. Default:
	// https://login.microsoftonline.com.
	Authority string `yaml:"authority"`
}

// ProxyAuth says how the agent signs on to a proxy.
type ProxyAuth struct {
	// As whom: service (the account that the agent runs as; on Linux that of the keytab or credential cache) or account (a
	// named one).
	As string `yaml:"as,required" enum:"service,account"`
	// The account for as: account: CORP\svc-proxy or svc-proxy@corp.example; any user name with protocol: basic.
	Account string `yaml:"account"`
	// The name of the secret with the account's password; set it with: sallyport-agent secret set NAME.
	Secret string `yaml:"secret"`
	// The path of a keytab, on Linux: for as: service (default: /etc/krb5.keytab) or instead of a secret.
	Keytab string `yaml:"keytab"`
	// Which entry of the keytab is meant with as: service. Default: the first.
	Principal string `yaml:"principal"`
	// The path of a credential cache that something else keeps renewed, for as: service.
	CCache string `yaml:"ccache"`
	// The service principal name of the proxy. Default: HTTP/ and the host of its URL.
	SPN string `yaml:"spn"`
	// negotiate (Kerberos, or NTLM where Kerberos cannot be had), kerberos, ntlm, or basic (the password as it is, readable on
	// the way to a proxy that is not https). Default: negotiate.
	Protocol string `yaml:"protocol" enum:"negotiate,kerberos,ntlm,basic"`
}

// Log says what the agent writes about itself.
type Log struct {
	// Everything from this level up: debug, info, warn or error. Default: info.
	Level string `yaml:"level" enum:"debug,info,warn,error"`
	// text for people, json for machines. Default: text.
	Format string `yaml:"format" enum:"text,json"`
}

// Audit says how calls are put on record.
type Audit struct {
	// What becomes of calls while the record cannot be written (a full disk): continue (they are made, and counted as missing
	// once it can be) or refuse (a call is made once its verdict is in the file, and is answered with 503 otherwise; each call
	// then waits for that). Default: continue.
	OnFailure string `yaml:"on_failure" enum:"continue,refuse"`
	// How long the record is kept: 90d. Older records are deleted, a file at a time and a tenth of the time later at most; a signed
	// checkpoint stays. At least 1d. Default: as long as there is room.
	Keep time.Duration `yaml:"keep"`
	// How much of the disk the record takes at most: 1GiB. The oldest gives way. At least 16MiB. Default: 1GiB.
	KeepSize configs.Size `yaml:"keep_size"`
	// A collector that gets each line of the record too. Default: none.
	Syslog *Syslog `yaml:"syslog"`
	// Windows' event log gets lines of the record too: refusals (calls that were refused or went wrong, and what is not a
	// call) or all. Default: none; elsewhere it is refused.
	EventLog string `yaml:"event_log" enum:"refusals,all"`
}

// Syslog is a collector of RFC 5424 messages over TLS (RFC 5425), connected to directly. A call never waits for it: lines that
// find its queue of 8 MiB full are not sent, and counted in the log; they stay on record.
type Syslog struct {
	// The collector, host:port. The port of syslog over TLS is 6514.
	To string `yaml:"to,required"`
	// A PEM file with the certificate authorities that may have signed the collector's certificate. Default: the system's.
	CA string `yaml:"ca"`
	// A PEM file with the agent's own certificate for the collector, if it asks for one; key belongs to it.
	Cert string `yaml:"cert"`
	// A PEM file with the private key of cert. It must be private.
	Key string `yaml:"key"`
}

// Metrics is where Prometheus finds what the agent counts.
type Metrics struct {
	// A loopback address of this machine, in figures, and a port: 127.0.0.1:9464. Metrics are at /metrics. Whoever can
	// sign on to the machine can read them: names of APIs and numbers, no addresses, callers or paths.
	Listen string `yaml:"listen,required"`
}

// Update says which versions of the program an admin, or a schedule of theirs, may install by 'sallyport-agent update'.
type Update struct {
	// The public keys of those who sign releases (ed25519:...): one of them must have signed the release's SHA256SUMS.
	// Default: the key is given with --key each time.
	Signers []string `yaml:"signers"`
}

// auditRefuse is the OnFailure that makes no call without its line.
const auditRefuse = "refuse"

// Kerberos says where Kerberos is configured.
type Kerberos struct {
	// The path of a krb5.conf. Default: /etc/krb5.conf, on Windows %ProgramData%\MIT\Kerberos5\krb5.ini; without one the
	// machine's domain and DNS.
	Config string `yaml:"config"`
}

// API is one internal REST API.
type API struct {
	// The name under which it is published: lower-case letters, digits and hyphens. It never shows the address.
	Name string `yaml:"name,required"`
	// The address and base path, http or https: http://erp.corp.example/api/v2. Paths of rules and requests follow it.
	URL string `yaml:"url,required"`
	// How the agent signs on to the API. There is no default.
	Auth Auth `yaml:"auth,required"`
	// How an https API is verified. Verification is never off.
	TLS TLS `yaml:"tls"`
	// The rules, each a method and a path: "GET /orders/**", "GET,PATCH /orders/{id}", "POST /jobs/{id}:run". Nothing
	// else gets through. A rule can have conditions: {rule: "GET /orders/**", who: [...], query: {...}, between: ...}.
	// docs/policy.md has all forms.
	Allow []Rule `yaml:"allow"`
	// Bounds of each exchange.
	Limits Limits `yaml:"limits"`
	// Exceptions to what is removed from requests.
	Headers Headers `yaml:"headers"`
	// How long an upgraded connection or an event stream may be silent. Default: 10m.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// A request that changes nothing, which 'sallyport-agent check' makes to see that calls get through: GET /health. GET or HEAD
	// and a path below url that a rule of allow admits. Default: no call is tried.
	Check string `yaml:"check"`
	// What makers get to know of the API: a file with its description (OpenAPI 2.0, 3.0, 3.1 or a Postman collection, JSON or
	// YAML; relative to this file, or file:/absolute/path), a path on the API's host that begins with "/"
	// (/swagger/v1/swagger.json), or none. Only what the rules allow leaves, without addresses: docs/agent.md. Default: a
	// description is drafted from the rules.
	Definition string `yaml:"definition"`
	// JSON files that show what operations take and answer, for an API without a description. Names and types leave, values
	// do not.
	Samples []Sample `yaml:"samples"`
	// Where JSON bodies of answers have links to the API that are to become the connector's: JSON pointers, with * for any
	// member or item and ** for any number of them (/value/*/href), or names of members wherever they stand (nextLink). With
	// any, @odata.nextLink, @odata.deltaLink and nextLink are looked for as well. Without, bodies are not touched.
	Links []string `yaml:"links"`
	// Hosts whose absolute links in header fields (Location, Link and the like) may reach callers although they are not the
	// API's: login.example.com, or with a port cdn.example.com:8443. Links to any other host are removed, public ones too,
	// since only this list says which are; the log names the hosts.
	LinkHosts []string `yaml:"link_hosts"`

	address *url.URL
	policy  *policy.Policy
}

// Address is the URL, parsed.
func (a *API) Address() *url.URL {
	u := *a.address
	return &u
}

// Policy is the allow-list, compiled.
func (a *API) Policy() *policy.Policy { return a.policy }

// Sample shows what an operation takes and answers.
type Sample struct {
	// The operation, as it follows from a rule: GET /orders/{id}.
	Operation string `yaml:"operation,required"`
	// The path of a JSON file with a request's body.
	Request string `yaml:"request"`
	// The path of a JSON file with an answer's body.
	Response string `yaml:"response"`
}

// Limits are the bounds of each exchange with an API.
type Limits struct {
	// The largest request body: 100MB, 64KiB. Default: 100MB.
	Body configs.Size `yaml:"body"`
	// How long the agent waits for the head of an answer, and for each silence after it. Default: 230s.
	Timeout time.Duration `yaml:"timeout"`
	// How many requests run at once; others wait a few seconds for their turn. Event streams and upgraded exchanges
	// (WebSockets) have 1,024 places of their own. Default: 64.
	Concurrent int `yaml:"concurrent"`
}

// Headers are exceptions to what is removed from requests.
type Headers struct {
	// Header fields that replace the method or the path of a request and are removed unless they stand here, such as
	// X-HTTP-Method-Override. Whoever may send one can call what no rule admits.
	AllowMethodOverride []string `yaml:"allow_method_override"`
}

// TLS says how an https API is verified and what the agent shows it.
type TLS struct {
	// A PEM file with the certificate authorities that are trusted for this API, instead of the operating system's.
	CA string `yaml:"ca"`
	// The name in the API's certificate, if it is not the host of the URL.
	ServerName string `yaml:"server_name"`
	// The API's key, if the certificate is self-signed or carries no name: sha256/ and the base64 of the SHA-256 of its
	// SubjectPublicKeyInfo. It takes the place of names and authorities.
	Pin string `yaml:"pin"`
	// PEM files with a client certificate and its key, for an API that asks for one.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// The oldest version that is spoken: 1.0, 1.1, 1.2 or 1.3. Default: 1.2.
	MinVersion string `yaml:"min_version" enum:"1.0,1.1,1.2,1.3"`
	// once lets an old IIS ask for the client certificate after the handshake.
	Renegotiate string `yaml:"renegotiate" enum:"once"`
}

// Auth says how the agent signs on to an API: the word none or passthrough, or one of the settings.
type Auth struct {
	// Word is "none", "passthrough" or, if one of the settings is there, empty.
	Word string `yaml:"-"`
	// Windows authentication: Negotiate (Kerberos, NTLM) or NTLM.
	Windows *Windows `yaml:"windows"`
	// A user name and a password, with each request.
	Basic *Basic `yaml:"basic"`
	// A bearer token, with each request.
	Bearer *Bearer `yaml:"bearer"`
	// A header field with a secret value, with each request, such as an API key.
	Header *Header `yaml:"header"`
}

// The words of Auth.
const (
	AuthNone        = "none"        // no credential; the caller's Authorization is removed
	AuthPassthrough = "passthrough" // the caller's own Authorization reaches the API
)

// Words gives what may stand in place of settings, for the JSON Schema.
func (Auth) Words() []string { return []string{AuthNone, AuthPassthrough} }

// UnmarshalText reads one of the words.
func (a *Auth) UnmarshalText(text []byte) error {
	switch word := string(text); word {
	case AuthNone, AuthPassthrough:
		a.Word = word
		return nil
	default: // not quoted: it could be a password in the wrong place
		return errors.New("auth is not known (write none, passthrough, or one of the settings windows, basic, bearer, header)")
	}
}

// Windows is Windows authentication.
type Windows struct {
	// As whom: service (the account that the agent runs as; on Linux that of the keytab), account (a named one),
	// caller-password (the caller's own Windows user name and password, sent as Basic credentials; nothing is stored) or caller
	// (the person whom the caller's access token proves, by constrained delegation; callers must be set).
	As string `yaml:"as,required"`
	// The account for as: account: CORP\svc-erp or svc-erp@corp.example. For as: caller the one that acts for people, if it is
	// not that of the keytab.
	Account string `yaml:"account"`
	// The name of the secret with the account's password; set it with: sallyport-agent secret set NAME.
	Secret string `yaml:"secret"`
	// The path of a keytab: for as: service and as: caller, or instead of a secret. Default: on Linux /etc/krb5.keytab, on Windows
	// none: there the account is the one that the service runs as.
	Keytab string `yaml:"keytab"`
	// Which entry of the keytab is meant with as: service or caller: svc-gw@CORP.EXAMPLE. Default: the first.
	Principal string `yaml:"principal"`
	// The path of a credential cache that something else keeps renewed, for as: service.
	CCache string `yaml:"ccache"`
	// The service principal name of the API. Default: HTTP/ and the host of the URL.
	SPN string `yaml:"spn"`
	// negotiate (Kerberos, or NTLM where Kerberos cannot be had), kerberos or ntlm. Default: negotiate.
	Protocol string `yaml:"protocol" enum:"negotiate,kerberos,ntlm"`
	// Whether the sign-on is bound to the TLS connection (Extended Protection): auto (bound over TLS), require or off.
	// Default: auto.
	ChannelBinding string `yaml:"channel_binding" enum:"auto,require,off"`
	// true demands that the API proves itself, which only Kerberos can.
	Mutual bool `yaml:"mutual"`
	// For whom as: caller acts. Members of groups that Windows protects (Domain Admins, Protected Users and the like) and
	// accounts that are marked sensitive are never acted for.
	Callers ActFor `yaml:"callers"`
}

// ActFor says for whom an API is called in the caller's own name.
type ActFor struct {
	// Groups of the domain of which a caller must be in one, nested membership counted: SIDs, or names (CORP\Orders). Default:
	// no group is needed.
	AllowGroups []string `yaml:"allow_groups"`
	// Groups of which a caller must be in none.
	DenyGroups []string `yaml:"deny_groups"`
	// The ends of user principal names that count: corp.example. Default: all.
	UPNSuffixes []string `yaml:"upn_suffixes"`
	// Other domains whose people are acted for too, which the domain of the account that acts trusts: emea.corp.example. Default:
	// none.
	Domains []string `yaml:"domains"`
}

func (a ActFor) set() bool {
	return len(a.AllowGroups)+len(a.DenyGroups)+len(a.UPNSuffixes)+len(a.Domains) > 0
}

// Basic is HTTP Basic authentication.
type Basic struct {
	// The user name.
	User string `yaml:"user,required"`
	// The name of the secret with the password.
	Secret string `yaml:"secret,required"`
}

// Bearer is a token sent as Authorization: Bearer.
type Bearer struct {
	// The name of the secret with the token.
	Secret string `yaml:"secret,required"`
}

// Header is a header field with a secret value.
type Header struct {
	// The field's name: X-API-Key.
	Name string `yaml:"name,required"`
	// The name of the secret with its value.
	Secret string `yaml:"secret,required"`
}

// ParseConfig reads agent.yaml from data; name is what errors call the file. The error is a configs.Errors with all that
// is wrong. It reads no other file: whether a keytab is there is seen when it is used.
func ParseConfig(name string, data []byte) (*Config, error) {
	c := &Config{}
	err := configs.Load(name, data, c, func(d *configs.Doc) {
		v := validator{Doc: d, file: name, c: c}
		v.config()
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// isLoopback reports whether a host is this machine by its spelling alone.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
