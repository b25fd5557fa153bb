package winauth

import (
	"crypto"
	_ "crypto/sha256" // the hashes of certificates, for crypto.Hash.New
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// endPointHash is the hash for tls-server-end-point (RFC 5929 section 4.1): the one of the certificate's signature, but
// SHA-256 in place of MD5 and SHA-1. It is not defined for signatures without one single hash, such as Ed25519.
func endPointHash(a x509.SignatureAlgorithm) (crypto.Hash, bool) {
	switch a {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.DSAWithSHA256, x509.ECDSAWithSHA256, x509.SHA256WithRSAPSS:
		return crypto.SHA256, true
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		return crypto.SHA384, true
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		return crypto.SHA512, true
	}
	return 0, false
}

// EndPoint gives the channel binding of a server's certificate, "tls-server-end-point:" and the hash; nil if RFC 5929
// defines none.
func EndPoint(leaf *x509.Certificate) []byte {
	h, ok := endPointHash(leaf.SignatureAlgorithm)
	if !ok {
		return nil
	}
	d := h.New()
	d.Write(leaf.Raw)
	return d.Sum([]byte("tls-server-end-point:"))
}

// bindingFor gives the channel binding for a connection, nil for none.
func bindingFor(mode ChannelBinding, state *tls.ConnectionState) ([]byte, error) {
	if mode == BindingOff {
		return nil, nil
	}
	var why error
	switch {
	case state == nil:
		why = errors.New("the connection has no TLS")
	case len(state.PeerCertificates) == 0:
		why = errors.New("the server showed no certificate")
	default:
		leaf := state.PeerCertificates[0]
		if b := EndPoint(leaf); b != nil {
			return b, nil
		}
		why = fmt.Errorf("RFC 5929 defines none for a certificate signed with %s", leaf.SignatureAlgorithm)
	}
	if mode != BindingRequire {
		return nil, nil
	}
	return nil, &Error{
		Kind: NoBinding, Err: fmt.Errorf("a channel binding is required, but %w", why),
		Mend: "use an https address whose certificate is signed with RSA or ECDSA, or set channel_binding to auto",
	}
}
