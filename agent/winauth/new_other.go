//go:build !windows

package winauth

import "sallyport/agent/winauth/kerberos"

const (
	systemKrb5Config = "/etc/krb5.conf"
	systemKeytab     = "/etc/krb5.keytab"
)

// NewService gives the service account's own credential: a keytab's or a credential cache's. The sources are read once
// here, so that a missing file or principal is an error now, and again whenever a ticket is needed.
func NewService(o Options, src ServiceSource) (Credential, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return keyedService(o, src)
}

// NewAccount gives the credential of a named account.
func NewAccount(o Options, a Account) (Credential, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return keyedAccount(o, a)
}

// systemConf is this machine's Kerberos configuration. Without one, realms are found by DNS.
func systemConf() (*kerberos.Conf, error) { return kerberos.LoadConf(systemKrb5Config) }

// newActor takes the keytab's account, or the one with a password.
func newActor(o Options, c DelegationConfig) (actor, error) { return newTransition(o, c) }
