package agent

import (
	"crypto/tls"
	"fmt"
	"os"

	"sallyport/agent/state"
	"sallyport/internal/syslog"
)

// newSyslog makes the forwarder of the record; nil if none is wanted.
func newSyslog(c *Config, d Deps) (*syslog.Forwarder, error) {
	s := c.Audit.Syslog
	if s == nil {
		return nil, nil
	}
	if s.Key != "" {
		if err := privateFile(d.path(s.Key)); err != nil {
			return nil, fmt.Errorf("audit.syslog.key: %w", err)
		}
	}
	t, err := syslogTLS(s, d)
	if err != nil {
		return nil, fmt.Errorf("audit.%w", err)
	}
	return syslog.New(syslog.Config{App: "sallyport-agent", To: s.To, TLS: t, Log: d.Log}), nil
}

func syslogTLS(s *Syslog, d Deps) (*tls.Config, error) {
	at := func(name string) string {
		if name == "" {
			return ""
		}
		return d.path(name)
	}
	return syslog.TLS(at(s.CA), at(s.Cert), at(s.Key))
}

// privateFile refuses a key that other accounts may read.
func privateFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	_, err = state.ReadFile(path, info.Size()+1)
	return err
}
