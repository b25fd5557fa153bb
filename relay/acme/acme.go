// Package acme gets the relay's certificate from a certificate authority by ACME (RFC 8555) and renews it in time. The
// protocol is certmagic's; here are the relay's choices: which challenge answers, where keys lie, what the log says.
//
//	m, err := acme.New(acme.Config{Hosts: []string{"relay.example.com"}, Dir: dir, Challenge: acme.TLSALPN, Log: log})
//	defer m.Close()
//	server.TLSConfig = m.TLS()
//	err = m.Run(ctx)
//
// New and Run do not wait for a certificate: a relay whose authority is out of reach starts all the same, serves what it
// has, and tries again, further and further apart. Until there is a first certificate, TLS handshakes fail and the log
// says why.
//
// What it keeps, under Dir: the account's key, the certificates and their keys, readable by the relay's account alone.
// They are in no backup, because they can be had anew.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	acmeapi "github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// The challenges: how the authority is shown that the relay owns its names.
const (
	// TLSALPN is answered on the relay's own listener, which the authority reaches at port 443 (RFC 8737).
	TLSALPN = "tls-alpn-01"
	// HTTP is answered on a listener of its own, which the authority reaches at port 80 and which is open only while a
	// certificate is being asked for (RFC 8555 section 8.3).
	HTTP = "http-01"
	// DNS is answered in the domain, by a program that the admin names; nobody has to reach the relay (section 8.4).
	DNS = "dns-01"
)

// LetsEncrypt is the directory that is asked if none is named.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// obtainTimeout bounds one attempt to get a certificate, hook included.
const obtainTimeout = 10 * time.Minute

// Config says which certificates to get, and how.
type Config struct {
	// Hosts are the names of the certificates; each gets its own. The first is served to who names none.
	Hosts []string
	// Email is told to the authority, for its warnings. It may be empty.
	Email string
	// Directory is the URL of the authority's directory; empty: LetsEncrypt.
	Directory string
	// Roots are trusted besides the system's when the authority is called; nil: none.
	Roots *x509.CertPool
	// Account and AccountKey bind to an account that the authority has given out (external account binding: its ID, and
	// the MAC key in base64url). Empty: none.
	Account, AccountKey string
	// Challenge is TLSALPN, HTTP or DNS.
	Challenge string
	// Listen is where the relay listens, host:port. TLSALPN is answered there.
	Listen string
	// ListenHTTP is where HTTP is answered, host:port.
	ListenHTTP string
	// Hook is the program that answers DNS; see the comment at hook.
	Hook string
	// Dir is where keys and certificates are kept.
	Dir string
	// Log gets what happens.
	Log *slog.Logger
}

// A Manager holds the certificates. Its methods may be called by several goroutines.
type Manager struct {
	hosts  []string
	magic  *certmagic.Config
	cache  *certmagic.Cache
	log    *slog.Logger
	byALPN bool
}

// New makes a Manager that serves what an earlier run has left in Dir. It does not call the authority. Close it.
func New(c Config) (*Manager, error) {
	if len(c.Hosts) == 0 {
		return nil, errors.New("no host names to get certificates for")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the certificates: %w", err)
	}
	logger := zap.New(core{log: c.Log.WithGroup("acme")})
	m := &Manager{hosts: c.Hosts, log: c.Log, byALPN: c.Challenge == TLSALPN}
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.magic, nil },
		Logger:           logger,
	})
	m.magic = certmagic.New(m.cache, certmagic.Config{
		DefaultServerName: c.Hosts[0], Storage: &certmagic.FileStorage{Path: c.Dir}, Logger: logger, OnEvent: m.tell,
	})
	template, err := issuer(c, logger)
	if err != nil {
		m.cache.Stop()
		return nil, err
	}
	m.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(m.magic, template)}
	return m, nil
}

func issuer(c Config, logger *zap.Logger) (certmagic.ACMEIssuer, error) {
	is := certmagic.ACMEIssuer{
		CA: orElse(c.Directory, LetsEncrypt), Email: c.Email, Agreed: true, TrustedRoots: c.Roots,
		DisableHTTPChallenge: c.Challenge != HTTP, DisableTLSALPNChallenge: c.Challenge != TLSALPN,
		DisableDistributedSolvers: true, // a stranger's handshake must not read files
		CertObtainTimeout:         obtainTimeout, Logger: logger,
	}
	if c.Account != "" {
		is.ExternalAccount = &acmeapi.EAB{KeyID: c.Account, MACKey: c.AccountKey}
	}
	var err error
	switch c.Challenge {
	case TLSALPN: // certmagic finds the port taken, and leaves the answer to the listener there: to TLS
		is.ListenHost, is.AltTLSALPNPort, err = splitAddress(c.Listen)
	case HTTP:
		is.ListenHost, is.AltHTTPPort, err = splitAddress(c.ListenHTTP)
	case DNS:
		is.DNS01Solver = acmez.Solver(hook{program: c.Hook, log: c.Log})
	default:
		err = fmt.Errorf("there is no challenge %q", c.Challenge)
	}
	return is, err
}

func splitAddress(s string) (host string, port int, err error) {
	host, name, err := net.SplitHostPort(s)
	if err == nil {
		port, err = strconv.Atoi(name)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%q is no address to listen on: %w", s, err)
	}
	return host, port, nil
}

// TLS is the configuration of a listener that serves the certificates and, where that is the challenge, the answers.
func (m *Manager) TLS() *tls.Config {
	c := &tls.Config{GetCertificate: m.magic.GetCertificate, MinVersion: tls.VersionTLS12}
	if m.byALPN {
		c.NextProtos = []string{acmez.ACMETLS1Protocol}
	}
	return c
}

// Run gets what is missing and renews what ends, until ctx does.
func (m *Manager) Run(ctx context.Context) error {
	if err := m.magic.ManageAsync(ctx, m.hosts); err != nil {
		return fmt.Errorf("take charge of the certificates: %w", err)
	}
	<-ctx.Done()
	return nil
}

// Expiry is when the first of the certificates ends; zero while there is none.
func (m *Manager) Expiry() (first time.Time) {
	for _, host := range m.hosts {
		for _, c := range m.cache.AllMatchingCertificates(host) {
			if at := c.Leaf.NotAfter; first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	return first
}

// Close ends what New began.
func (m *Manager) Close() { m.cache.Stop() }

// tell puts into the relay's words what an admin wants to know. certmagic's own messages have the details.
func (m *Manager) tell(_ context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	switch event {
	case "cert_obtained":
		renewed, _ := data["renewal"].(bool)
		m.log.Info("certificate in use", "name", name, "renewed", renewed)
	case "cert_failed":
		m.log.Error("no certificate could be had; it is tried again, less and less often", "name", name, "cause", data["error"],
			"do", "see that the authority reaches the relay under this name at the challenge's port, and that the name's CAA records admit it")
	}
	return nil
}

// CheckHosts says what is wrong with names that certificates are wanted for; public: from an authority that everybody
// trusts, which gives none for addresses and names of an intranet.
func CheckHosts(hosts []string, public bool) error {
	for _, h := range hosts {
		if !certmagic.SubjectQualifiesForCert(h) || public && (!certmagic.SubjectQualifiesForPublicCert(h) || certmagic.SubjectIsIP(h)) {
			return fmt.Errorf("no public authority gives a certificate for %q", h)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(hosts)))) != len(hosts) {
		return errors.New("a name stands there twice")
	}
	return nil
}

func orElse(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
