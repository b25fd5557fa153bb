package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// CheckFiles looks at the files that the configuration names and gives what would keep the relay from starting: a certificate
// that is not there or does not fit its key, and what the relay's account, to which the data folder belongs, cannot read; and a data
// folder that is everybody's. It is apart from reading the configuration, which may be checked on another machine than the relay's.
func (c *Config) CheckFiles() (problems []error) {
	if err := everybodys(c.data()); err != nil {
		problems = append(problems, err)
	}
	return append(problems, c.checkCertificate()...)
}

func (c *Config) checkCertificate() (problems []error) {
	if c.TLS == nil || c.TLS.ACME != nil {
		return nil
	}
	readable := true
	for _, path := range [...]string{c.TLS.Cert, c.TLS.Key} {
		f, err := os.Open(path)
		switch {
		case err == nil:
			err = errors.Join(f.Close(), ownerCanRead(c.data(), path))
		case errors.Is(err, fs.ErrPermission):
			readable = false
			err = fmt.Errorf("%w for this account; run it as the relay's account or as an admin to have it looked at", err)
		default:
			readable = false
		}
		if err != nil {
			problems = append(problems, err)
		}
	}
	if readable {
		if _, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key); err != nil {
			problems = append(problems, fmt.Errorf("the certificate %s with the key %s: %w", c.TLS.Cert, c.TLS.Key, err))
		}
	}
	return problems
}
