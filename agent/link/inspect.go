package link

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
)

// An issuer is what is known of who vouches for the relay's certificate. A company that opens TLS on the way ("inspection")
// issues one of its own; the agent goes on, since it trusts 'ca' and the relay proves its key anyway, and says so.
type issuer struct {
	mu   sync.Mutex
	name string // guarded by mu; as it was seen last
}

// witness notes who issued the relay's certificate and logs it when it is new.
func (d *Dialer) witness(t tls.ConnectionState) {
	if len(t.PeerCertificates) == 0 {
		return
	}
	name := printable(t.PeerCertificates[0].Issuer.String(), 200)
	d.issuer.mu.Lock()
	before := d.issuer.name
	d.issuer.name = name
	d.issuer.mu.Unlock()
	switch {
	case before == name:
	case before != "":
		d.log.Warn("the relay's certificate is issued by another authority than before; if that is not the relay's doing, TLS is opened on the way (inspection)",
			"issuer", name, "before", before, "relay", d.relay.Host)
	case d.roots != nil && !publicly(t):
		d.log.Warn("only 'ca' vouches for the relay's certificate: the relay has a private one, or TLS is opened on the way (inspection) by the issuer",
			"issuer", name, "relay", d.relay.Host)
	default:
		d.log.Info("the relay's certificate", "issuer", name, "relay", d.relay.Host)
	}
}

// publicly reports whether the operating system's authorities vouch for a chain.
func publicly(t tls.ConnectionState) bool {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range t.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err = t.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err == nil
}

// heldBack explains an error of the handshake on a WebSocket that is open: something lets it open and passes nothing on.
func (d *Dialer) heldBack(err error) error {
	d.issuer.mu.Lock()
	name := d.issuer.name
	d.issuer.mu.Unlock()
	mend := "a proxy or firewall on the way takes the WebSocket and holds back what it carries; exempt the relay's host from inspection and buffering"
	if name != "" {
		mend += fmt.Sprintf(" (TLS ends at a certificate that was issued by %q)", name)
	}
	return &DialError{Phase: "greet the relay", Err: err, Mend: mend}
}
