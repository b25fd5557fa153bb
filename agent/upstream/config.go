package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"sallyport/agent/winauth"
)

// Defaults of Config, and the bounds that are not settings.
const (
	defaultTimeout     = 230 * time.Second
	defaultIdleTimeout = 10 * time.Minute
	defaultLinger      = 10 * time.Second
	defaultBodyLimit   = 100 << 20
	defaultConcurrent  = 64
	defaultQueueWait   = 5 * time.Second

	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	// continueWait is how long a body waits for "100 Continue" (RFC 9110 section 10.1.1: not indefinitely).
	continueWait = time.Second
	// maxConnAge bounds how long a sign-on is believed: rights that were taken away end with the connection.
	maxConnAge = 10 * time.Minute
	// maxConnIdle is below the usual keep-alive of IIS (120 s) and equals no common idle timeout (30, 60 s).
	maxConnIdle = 53 * time.Second
	// replayLimit is the largest body that is kept so that it can be sent again after a 401.
	replayLimit = 64 << 10
	// maxQueued bounds who may wait for a place, as a multiple of Concurrent.
	maxQueued = 4
	// maxLong bounds event streams and upgraded exchanges of one API, which have places of their own; one more takes an
	// ordinary place.
	maxLong = 1024
)

// A Config describes one API. The zero value of a field is its default.
type Config struct {
	// Name is the API's name in the agent's configuration, for logs.
	Name string
	// URL is the API's address and base path: http://erp.corp.example/api/v2. No user info, query or fragment.
	URL *url.URL
	// Auth is how the agent signs on.
	Auth Auth
	// TLS says how an https upstream is verified. Verification is never off.
	TLS TLS
	// Timeout bounds the wait for the answer's head and each silence in a body. Default 230 s.
	Timeout time.Duration
	// IdleTimeout bounds the silence of upgraded exchanges and event streams. Default 10 minutes.
	IdleTimeout time.Duration
	// Linger is how long one side of an upgraded exchange may go on after the other has ended its half. Default 10 s.
	Linger time.Duration
	// BodyLimit is the largest request body in bytes. Default 100 MB; negative: no limit.
	BodyLimit int64
	// Concurrent is how many exchanges run at once, and how many idle connections are kept. Default 64.
	Concurrent int
	// QueueWait is how long an exchange waits for its turn when Concurrent are running. Default 5 s.
	QueueWait time.Duration
	// Generation names the configuration this API came from; it is part of the pool key.
	Generation string
	// LinkHosts are hosts ("login.example.com", with :port if it is not the scheme's) whose absolute links may reach
	// callers although they are not the API's. Links to any other host are removed: see links.go.
	LinkHosts []string
	// Links says where in JSON bodies there are links to the API that are to become public, see parseLinkPaths. Without any,
	// bodies are not looked at.
	Links []string
	// Dial opens connections; nil is the system's dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Log takes what callers must not see, under the request ID.
	Log *slog.Logger
}

// TLS says how an https upstream is verified and what the agent shows it.
type TLS struct {
	// Roots replaces the operating system's trust store.
	Roots *x509.CertPool
	// ServerName is the name in the certificate, if it is not the URL's host.
	ServerName string
	// Pin is "sha256/" and the base64 of the SHA-256 of the leaf's SubjectPublicKeyInfo. The pinned key replaces names
	// and chains, for certificates that are self-signed or carry no SAN.
	Pin string
	// Certificates is the client certificate, if the upstream asks for one.
	Certificates []tls.Certificate
	// MinVersion is tls.VersionTLS12 by default.
	MinVersion uint16
	// RenegotiateOnce lets an old IIS ask for the client certificate after the handshake, once.
	RenegotiateOnce bool
}

// AuthKind is the way the agent signs on to an API.
type AuthKind string

// The kinds of Auth.
const (
	NoAuth      AuthKind = "none"        // the caller's Authorization is removed; a 401 reaches the caller
	WindowsAuth AuthKind = "windows"     // Negotiate or NTLM as Auth.Windows says
	BasicAuth   AuthKind = "basic"       // Auth.User and Auth.Secret
	BearerAuth  AuthKind = "bearer"      // Auth.Secret
	HeaderAuth  AuthKind = "header"      // Auth.Header and Auth.Secret
	Passthrough AuthKind = "passthrough" // the caller's own Authorization, except Negotiate and NTLM
)

// Auth is how the agent signs on to an API.
type Auth struct {
	Kind AuthKind
	// User is the account of BasicAuth.
	User string
	// Header is the field of HeaderAuth.
	Header string
	// Secret gives the password, token or field value, read for each exchange.
	Secret func() (string, error)
	// Windows chooses as whom WindowsAuth signs on. The request is the caller's, its Authorization still in place; it
	// never reaches the upstream. An error means that the request has no identity, or is an *Error: it is refused.
	Windows func(*http.Request) (SignOn, error)
	// SPN overrides the service principal name of WindowsAuth.
	SPN string
}

// A SignOn is a credential and what else keeps its connections apart from others.
type SignOn struct {
	Credential winauth.Credential
	// Mode is how the credential was chosen: "service", "account", "caller-password", "caller".
	Mode string
	// Proof is empty, or a keyed hash of what proved the identity (a password): another proof, another connection.
	Proof string
	// Named says that the identity is the caller's, for the record.
	Named bool
	// Done is nil, or is told once what became of the sign-on: the credential is the caller's own, so a refusal is the
	// caller's to mend, and the identity counts as proved after Accepted.
	Done func(Outcome)
}

// An Outcome is what became of a sign-on.
type Outcome int

// The outcomes of a sign-on.
const (
	Untold   Outcome = iota // nobody has judged the credential
	Accepted                // it was accepted in this exchange
	Refused                 // it was refused
)

// As signs every request on with one credential; mode is "service" or "account".
func As(mode string, c winauth.Credential) func(*http.Request) (SignOn, error) {
	return func(*http.Request) (SignOn, error) { return SignOn{Credential: c, Mode: mode}, nil }
}

// withDefaults checks a Config and fills it in. It reports every fault at once.
func (c Config) withDefaults() (Config, error) {
	err := errors.Join(checkURL(c.URL), c.Auth.check(), c.TLS.check())
	if err != nil {
		return c, fmt.Errorf("API %s: %w", c.Name, err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Auth.Kind == "" {
		c.Auth.Kind = NoAuth
	}
	setDefault(&c.Timeout, defaultTimeout)
	setDefault(&c.IdleTimeout, defaultIdleTimeout)
	setDefault(&c.Linger, defaultLinger)
	setDefault(&c.BodyLimit, defaultBodyLimit)
	setDefault(&c.Concurrent, defaultConcurrent)
	setDefault(&c.QueueWait, defaultQueueWait)
	setDefault(&c.TLS.MinVersion, tls.VersionTLS12)
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return c, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func checkURL(u *url.URL) error {
	switch {
	case u == nil:
		return errors.New("url is missing")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("url: scheme %q is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return errors.New("url: no host")
	case u.User != nil:
		return errors.New("url: a user name or password does not belong here; use auth")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("url: a base URL has no query and no fragment")
	}
	return nil
}

func (a Auth) check() error {
	switch a.Kind {
	case "", NoAuth, Passthrough:
		return nil
	case WindowsAuth:
		if a.Windows == nil {
			return errors.New("auth: windows without a credential")
		}
		return nil
	case BasicAuth, BearerAuth:
	case HeaderAuth:
		if !httpguts.ValidHeaderFieldName(a.Header) || ownField(http.CanonicalHeaderKey(a.Header)) {
			return fmt.Errorf("auth: %q cannot carry a credential", a.Header)
		}
	default:
		return fmt.Errorf("auth: unknown kind %q", a.Kind)
	}
	if a.Secret == nil {
		return fmt.Errorf("auth: %s without a secret", a.Kind)
	}
	return nil
}

func (t TLS) check() error {
	if t.Pin == "" {
		return nil
	}
	b64, ok := strings.CutPrefix(t.Pin, "sha256/")
	sum, err := base64.StdEncoding.DecodeString(b64)
	if !ok || err != nil || len(sum) != 32 {
		return errors.New(`tls: pin must be "sha256/" and the base64 of 32 bytes`)
	}
	return nil
}
