package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

const (
	// certificatePoll is how often the files of the certificate are looked at. They are polled, not watched: certificates
	// come by rename, by symlink (Kubernetes) and over network file systems, where notifications differ or lack.
	certificatePoll = 5 * time.Second
	// expiryWarning is how long before its end a certificate that nobody has renewed is worth a warning.
	expiryWarning = 14 * 24 * time.Hour
)

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
			return seen, fmt.Errorf("read the certificate: %w", err)
		}
	}
	return seen, nil
}

func (c *certificate) read(seen [2]os.FileInfo) error {
	c.seen = seen
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("read the certificate %s with the key %s: %w", c.files.Cert, c.files.Key, err)
	}
	c.current.Store(&pair)
	c.log.Info("certificate in use", "subject", pair.Leaf.Subject.String(), "names", pair.Leaf.DNSNames, "expires", pair.Leaf.NotAfter)
	return nil
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// run follows the files until ctx ends.
func (c *certificate) run(ctx context.Context) {
	poll := time.NewTicker(certificatePoll)
	defer poll.Stop()
	var warned time.Time
	for {
		select {
		case <-ctx.Done():
			return
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
