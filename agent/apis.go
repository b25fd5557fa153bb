package agent

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/agent/caller"
	"sallyport/agent/policy"
	"sallyport/agent/upstream"
	"sallyport/agent/winauth"
)

// A snapshot is what a configuration has become. It never changes; a reload makes another.
type snapshot struct {
	apis  map[string]*api
	names []string // sorted
	hash  string   // of all names and policies

	callers    *caller.Verifier // nil: nobody is proved
	callersKey string           // of all that shapes it
}

// An api is one API of a snapshot.
type api struct {
	name      string
	policy    *policy.Policy
	overrides []string // fields that policy.StripOverrides leaves alone
	transport *upstream.Transport
	key       string // of all that shapes the transport
	from      *API   // its settings
	counts    *counts
}

// build makes a snapshot. The transport of an API that has not changed is old's, so that its connections stay.
func (a *Agent) build(c *Config, old *snapshot) (*snapshot, error) {
	s := &snapshot{apis: map[string]*api{}}
	var errs []error
	var err error
	if s.callers, s.callersKey, err = a.verifier(c, old); err != nil {
		errs = append(errs, err)
	}
	for i := range c.APIs {
		one, err := a.buildAPI(c, &c.APIs[i], old)
		if err != nil {
			errs = append(errs, fmt.Errorf("API %s: %w", c.APIs[i].Name, err))
			continue
		}
		s.apis[one.name] = one
		s.names = append(s.names, one.name)
	}
	if len(errs) > 0 {
		s.discard(old)
		return nil, errors.Join(errs...)
	}
	slices.Sort(s.names)
	sum := sha256.New()
	for _, name := range s.names {
		fmt.Fprintf(sum, "%s %s\n", name, s.apis[name].policy.Hash())
	}
	if s.callersKey != "" {
		fmt.Fprintf(sum, "callers %s\n", s.callersKey)
	}
	s.hash = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return s, nil
}

// discard closes the transports that s does not share with other.
func (s *snapshot) discard(other *snapshot) {
	for name, one := range s.apis {
		if other == nil || other.apis[name] == nil || other.apis[name].transport != one.transport {
			one.transport.Close()
		}
	}
}

func (a *Agent) buildAPI(c *Config, from *API, old *snapshot) (*api, error) {
	files, err := a.deps.readTLS(from.TLS)
	if err != nil {
		return nil, err
	}
	one := &api{
		name: from.Name, policy: from.Policy(), overrides: from.Headers.AllowMethodOverride,
		key: transportKey(c, from, files), from: from, counts: &counts{},
	}
	if old != nil && old.apis[from.Name] != nil {
		one.counts = old.apis[from.Name].counts
		if old.apis[from.Name].key == one.key {
			one.transport = old.apis[from.Name].transport
			return one, nil
		}
	}
	uc := upstream.Config{
		Name: from.Name, URL: from.Address(), Timeout: from.Limits.Timeout, IdleTimeout: from.IdleTimeout,
		BodyLimit: int64(from.Limits.Body), Concurrent: from.Limits.Concurrent, Generation: one.key,
		LinkHosts: from.LinkHosts, Links: from.Links, Log: a.log,
	}
	var authErr, tlsErr error
	uc.Auth, authErr = a.auth(c, from)
	uc.TLS, tlsErr = from.TLS.upstream(files)
	if err := errors.Join(authErr, tlsErr); err != nil {
		return nil, err
	}
	one.transport, err = upstream.New(uc)
	return one, err
}

// transportKey names everything that shapes a transport: not the rules, which change without a new connection.
func transportKey(c *Config, from *API, files tlsFiles) string {
	shape := *from
	shape.Allow, shape.Headers, shape.Definition, shape.Samples, shape.Check = nil, Headers{}, "", nil, ""
	data, err := json.Marshal(struct {
		API      API
		Kerberos Kerberos
		Files    tlsFiles
	}{shape, c.Kerberos, files})
	if err != nil {
		panic(fmt.Sprintf("agent: an API's settings cannot be encoded: %v", err)) // plain strings and numbers
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// auth turns the configuration's auth into the transport's.
func (a *Agent) auth(c *Config, from *API) (upstream.Auth, error) {
	switch auth := from.Auth; {
	case auth.Word == AuthPassthrough:
		return upstream.Auth{Kind: upstream.Passthrough}, nil
	case auth.Basic != nil:
		get, err := a.secret(auth.Basic.Secret)
		return upstream.Auth{Kind: upstream.BasicAuth, User: auth.Basic.User, Secret: get}, err
	case auth.Bearer != nil:
		get, err := a.secret(auth.Bearer.Secret)
		return upstream.Auth{Kind: upstream.BearerAuth, Secret: get}, err
	case auth.Header != nil:
		get, err := a.secret(auth.Header.Secret)
		return upstream.Auth{Kind: upstream.HeaderAuth, Header: auth.Header.Name, Secret: get}, err
	case from.TakesPasswords():
		p := &passwords{config: c, windows: auth.Windows, guard: a.guard, make: a.deps.windowsCredential, kept: map[string]*keptLogon{}}
		return upstream.Auth{Kind: upstream.WindowsAuth, SPN: auth.Windows.SPN, Windows: p.signOn}, nil
	case from.ActsForCallers():
		acts, err := a.delegation(c, auth.Windows)
		if err != nil {
			return upstream.Auth{}, fmt.Errorf("windows authentication as caller: %w", err)
		}
		people := &people{acts: acts}
		return upstream.Auth{Kind: upstream.WindowsAuth, SPN: auth.Windows.SPN, Windows: people.signOn}, nil
	case auth.Windows != nil:
		cred, err := a.credential(c, auth.Windows)
		if err != nil {
			return upstream.Auth{}, fmt.Errorf("windows authentication as %s: %w", auth.Windows.As, err)
		}
		return upstream.Auth{Kind: upstream.WindowsAuth, SPN: auth.Windows.SPN, Windows: upstream.As(auth.Windows.As, cred)}, nil
	}
	return upstream.Auth{Kind: upstream.NoAuth}, nil
}

func (a *Agent) credential(c *Config, w *Windows) (winauth.Credential, error) {
	if w.Secret == "" {
		return a.deps.windowsCredential(c, w, nil)
	}
	password, err := a.secret(w.Secret)
	if err != nil {
		return nil, err
	}
	return a.deps.windowsCredential(c, w, password)
}

func (a *Agent) secret(name string) (func() (string, error), error) { return a.deps.secretFor(name) }

// path is a path of the configuration: relative ones start where the configuration is.
func (d Deps) path(p string) string {
	if p == "" || filepath.IsAbs(p) || d.File == "" {
		return p
	}
	return filepath.Join(filepath.Dir(d.File), p)
}

// tlsFiles are the contents of the files that tls names: when one changes, so does the transport.
type tlsFiles struct{ CA, Cert, Key []byte }

func (d Deps) readTLS(t TLS) (f tlsFiles, err error) {
	for _, file := range []struct {
		name, path string
		into       *[]byte
	}{{"ca", t.CA, &f.CA}, {"cert", t.Cert, &f.Cert}, {"key", t.Key, &f.Key}} {
		if file.path == "" {
			continue
		}
		data, rerr := os.ReadFile(d.path(file.path))
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("read 'tls.%s': %w", file.name, rerr))
		}
		*file.into = data
	}
	return f, err
}

// upstream turns the configuration's tls into the transport's.
func (t TLS) upstream(f tlsFiles) (upstream.TLS, error) {
	out := upstream.TLS{
		ServerName: t.ServerName, Pin: t.Pin, RenegotiateOnce: t.Renegotiate == "once",
		MinVersion: map[string]uint16{
			"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13,
		}[t.MinVersion],
	}
	if t.CA != "" {
		out.Roots = x509.NewCertPool()
		if !out.Roots.AppendCertsFromPEM(f.CA) {
			return out, fmt.Errorf("tls.ca %s: there is no certificate in PEM form in it", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.X509KeyPair(f.Cert, f.Key)
		if err != nil {
			// The error of crypto/tls names the part that is wrong and quotes nothing.
			return out, fmt.Errorf("tls.cert %s and tls.key %s: %s", t.Cert, t.Key, strings.TrimPrefix(err.Error(), "tls: "))
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
