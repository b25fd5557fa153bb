package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/configs"
	"sallyport/relay/acme"
)

const (
	// certificatePoll is how often the files of the certificate are looked at. They are polled, not watched: certificates
	// come by rename, by symlink (Kubernetes) and over network file systems, where notifications differ or lack.
	certificatePoll = 5 * time.Second
	// expiryWarning is how long before its end a certificate that nobody has renewed is worth a warning.
	expiryWarning = 14 * 24 * time.Hour
)

// certificates are where the listener's certificate comes from: a certificate's files, or an acme.Manager.
type certificates interface {
	TLS() *tls.Config
	// Run follows or renews them until ctx ends.
	Run(ctx context.Context) error
	// Expiry is when the first of them ends; zero while there is none.
	Expiry() time.Time
	Close()
}

// openCertificates opens what the configuration names, if it names any.
func (r *Relay) openCertificates() error {
	t := r.config.TLS
	if t == nil {
		return nil
	}
	if t.ACME == nil {
		files, err := loadCertificate(*t, r.log)
		if err != nil {
			return err
		}
		r.certificates = files
		return nil
	}
	config, err := r.config.acme()
	if err != nil {
		return err
	}
	config.Listen, config.Log = r.listener.Addr().String(), r.log
	manager, err := acme.New(config)
	if err != nil {
		return fmt.Errorf("tls.acme: %w", err)
	}
	r.certificates = manager
	return nil
}

// acme is what the settings below tls.acme mean.
func (c *Config) acme() (acme.Config, error) {
	a := c.TLS.ACME
	config := acme.Config{
		Hosts: c.acmeHosts(), Email: a.Email, Directory: a.Directory, Account: a.Account, Challenge: orElse(a.Challenge, acme.TLSALPN),
		ListenHTTP: orElse(a.ListenHTTP, ":80"), Hook: a.Hook, Dir: filepath.Join(c.data(), "certificates"),
	}
	if a.CA != "" {
		pem, err := os.ReadFile(a.CA)
		if err != nil {
			return config, fmt.Errorf("read tls.acme.ca: %w", err)
		}
		if config.Roots, err = x509.SystemCertPool(); err != nil {
			config.Roots = x509.NewCertPool()
		}
		if !config.Roots.AppendCertsFromPEM(pem) {
			return config, fmt.Errorf("tls.acme.ca: %s holds no certificate (give a PEM file)", a.CA)
		}
	}
	if a.AccountKeyFile != "" {
		key, err := os.ReadFile(a.AccountKeyFile)
		if err != nil {
			return config, fmt.Errorf("read tls.acme.account_key_file: %w", err)
		}
		config.AccountKey = strings.TrimSpace(string(key))
	}
	return config, nil
}

// acmeHosts are the names that certificates are wanted for.
func (c *Config) acmeHosts() []string {
	if len(c.TLS.ACME.Hosts) > 0 {
		return c.TLS.ACME.Hosts
	}
	var hosts []string
	if u, err := parsePublicURL(c.PublicURL); err == nil {
		hosts = append(hosts, u.Hostname())
	}
	if name := c.adminHost(); name != "" && !slices.Contains(hosts, name) {
		hosts = append(hosts, name)
	}
	return hosts
}

// checkTLS says what is wrong with the settings below tls.
func (c *Config) checkTLS(d *configs.Doc) {
	if c.TLS == nil {
		return
	}
	a := c.TLS.ACME
	if a == nil {
		if c.TLS.Cert == "" || c.TLS.Key == "" {
			d.Errorf("tls", "tls needs cert and key, or acme (name both files, or write acme: {agree_terms: true})")
		}
		return
	}
	if c.TLS.Cert != "" || c.TLS.Key != "" {
		d.Errorf("tls.acme", "tls has both files and acme (take away one of them)")
	}
	if !a.AgreeTerms {
		d.Errorf("tls.acme.agree_terms", "the authority wants its terms of service agreed to (read them, and write agree_terms: true)")
	}
	if u, err := url.Parse(a.Directory); a.Directory != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		d.Errorf("tls.acme.directory", "%q is no URL of an ACME directory (write https://...)", a.Directory)
	}
	hosts := c.acmeHosts()
	if len(hosts) == 0 {
		d.Errorf("tls.acme.hosts", "there is no name to get a certificate for (give public_url, or hosts)")
	} else if err := acme.CheckHosts(hosts, a.Directory == ""); err != nil {
		d.Errorf("tls.acme.hosts", "%v (name the hosts, or use cert and key)", err)
	}
	if (a.Challenge == acme.DNS) != (a.Hook != "") {
		d.Errorf("tls.acme.hook", "hook and challenge: dns-01 belong together (name the program, and the challenge)")
	}
	if (a.Account == "") != (a.AccountKeyFile == "") {
		d.Errorf("tls.acme.account", "account and account_key_file belong together")
	}
	if _, port, err := net.SplitHostPort(orElse(a.ListenHTTP, ":80")); err != nil || port == "" {
		d.Errorf("tls.acme.listen_http", "%q is no address (write :80 or host:port)", a.ListenHTTP)
	}
}

// A certificate serves the pair of files that it was read from, and follows their changes. Connections that are open
// keep what they were made with.
type certificate struct {
	files   TLS
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]
	seen    [2]os.FileInfo // of cert and key, when they were last read
}

// loadCertificate reads the pair. Broken files are an error here, at the start.
func loadCertificate(files TLS, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, log: log}
	seen, err := c.look()
	if err != nil {
		return nil, err
	}
	return c, c.read(seen)
}

func (c *certificate) look() (seen [2]os.FileInfo, err error) {
	for i, name := range [...]string{c.files.Cert, c.files.Key} {
		if seen[i], err = os.Stat(name); err != nil {
			return seen, mendAccess(fmt.Errorf("read the certificate: %w", err), name)
		}
	}
	return seen, nil
}

func (c *certificate) read(seen [2]os.FileInfo) error {
	c.seen = seen
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		err = fmt.Errorf("read the certificate %s with the key %s: %w", c.files.Cert, c.files.Key, err)
		return mendAccess(err, c.files.Cert, c.files.Key)
	}
	c.current.Store(&pair)
	c.log.Info("certificate in use", "subject", pair.Leaf.Subject.String(), "names", pair.Leaf.DNSNames, "expires", pair.Leaf.NotAfter)
	return nil
}

// TLS serves the pair that is in use at the time of the handshake.
func (c *certificate) TLS() *tls.Config {
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
	return &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS12}
}

// Expiry is when the pair that is in use ends.
func (c *certificate) Expiry() time.Time { return c.current.Load().Leaf.NotAfter }

// Close has nothing to close.
func (*certificate) Close() {}

// Run follows the files until ctx ends.
func (c *certificate) Run(ctx context.Context) error {
	poll := time.NewTicker(certificatePoll)
	defer poll.Stop()
	var warned time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-poll.C:
			c.refresh()
			if left := c.current.Load().Leaf.NotAfter.Sub(now); left < expiryWarning && now.Sub(warned) > 24*time.Hour {
				warned = now
				c.log.Warn("the certificate ends soon and its files have not been renewed", "left", left.Round(time.Minute), "file", c.files.Cert)
			}
		}
	}
}

// refresh reads the files again if they have changed. A pair that cannot be used is reported once; often the second
// file is written a moment later, and then the pair is read again.
func (c *certificate) refresh() {
	seen, err := c.look()
	if err != nil {
		if c.seen != ([2]os.FileInfo{}) {
			c.log.Error("the certificate's files cannot be read; the old certificate stays in use", "cause", err)
		}
		c.seen = [2]os.FileInfo{}
		return
	}
	if sameFile(seen[0], c.seen[0]) && sameFile(seen[1], c.seen[1]) {
		return
	}
	if err := c.read(seen); err != nil {
		c.log.Error("the new certificate cannot be used; the old one stays in use", "cause", err)
	}
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
