package relay

import (
	"fmt"
	"log/slog"
	"slices"

	"sallyport/configs"
	"sallyport/internal/syslog"
	"sallyport/relay/admin"
)

// Syslog forwards events to a collector, as RFC 5424 messages over TLS (RFC 5425). A call never waits for it: messages that
// find its queue of 8 MiB full are dropped and counted.
type Syslog struct {
	// To is the collector, host:port. The port of syslog over TLS is 6514.
	To string `yaml:"to,required"`
	// CA is a file with the certificates that may sign the collector's, PEM. Default: the system's.
	CA string `yaml:"ca"`
	// Cert and Key are the relay's own certificate for the collector and its private key, PEM, if it asks for one.
	Cert string `yaml:"cert"`
	// Key is the private key of cert, PEM.
	Key string `yaml:"key"`
	// Events are what is forwarded: access (calls), admin (what admins did). Default: both.
	Events []string `yaml:"events"`
}

// wants says whether this kind of events is forwarded.
func (s *Syslog) wants(kind string) bool {
	return s != nil && (len(s.Events) == 0 || slices.Contains(s.Events, kind))
}

func (c *Config) checkSyslog(d *configs.Doc) {
	s := c.Syslog
	if s == nil {
		return
	}
	if !isHostPort(s.To) {
		d.Errorf("syslog.to", "%q is no address of a collector (write syslog.example.com:6514)", s.To)
	}
	if (s.Cert == "") != (s.Key == "") {
		d.Errorf("syslog", "cert and key belong together (give both or neither)")
	}
	for i, e := range s.Events {
		if e != admin.KindAccess && e != admin.KindAdmin {
			d.Errorf(fmt.Sprintf("syslog.events[%d]", i), "%q is not one of access, admin", e)
		}
	}
}

// newSyslog reads the certificates and makes the forwarder; nil if none is wanted.
func newSyslog(s *Syslog, log *slog.Logger) (*syslog.Forwarder, error) {
	if s == nil {
		return nil, nil
	}
	t, err := syslog.TLS(s.CA, s.Cert, s.Key)
	if err != nil {
		return nil, err
	}
	return syslog.New(syslog.Config{App: "sallyport-relay", To: s.To, TLS: t, Log: log}), nil
}

// forwardChange sends what an admin did to the collector, if it is to have that.
func (r *Relay) forwardChange(change []byte) {
	if r.syslog != nil && r.config.Syslog.wants(admin.KindAdmin) {
		r.syslog.Send(syslog.Changes(), change)
	}
}

// syslogStatus is for the admin API; nil without a collector.
func (r *Relay) syslogStatus() *syslog.Status {
	if r.syslog == nil {
		return nil
	}
	s := r.syslog.Status()
	return &s
}
