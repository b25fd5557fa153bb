package winauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"sallyport/agent/winauth/kerberos"
	"sallyport/agent/winauth/ntlm"
)

// credential is a Credential with a key of its own, a keytab's or a password: this package's Kerberos and NTLM clients do the
// work, on every system.
type credential struct {
	id       string
	options  Options
	name     name
	password func() (string, error) // nil without one: then there is no NTLM
	krb      *kerberos.Client       // nil where there is no realm for the account
	noKrb    error                  // why
	user     *kerberos.User         // in whose name krb's account acts; nil: in its own

	refused holds // NTLM sign-ons; the Kerberos client has its own
}

// keyedService gives a keytab's or a credential cache's credential. The sources are read once here, so that a missing file or
// principal is an error now, and again whenever a ticket is needed.
func keyedService(o Options, src ServiceSource) (Credential, error) {
	if o.Protocol == NTLM {
		return nil, errors.New("NTLM needs a password, which a keytab or a credential cache does not have")
	}
	if src.CCache != "" && (src.Keytab != "" || src.Principal != "") {
		return nil, errors.New("a credential cache stands alone: no keytab, no principal")
	}
	conf, err := loadConf(o)
	if err != nil {
		return nil, err
	}
	cfg := kerberos.Config{Conf: conf, Dial: o.Dial, Clock: o.Clock, Log: o.Log, CCache: src.CCache}
	if src.CCache != "" {
		cfg.Principal, err = kerberos.CachePrincipal(src.CCache)
	} else {
		cfg.Keytab = src.Keytab
		if cfg.Keytab == "" {
			cfg.Keytab = systemKeytab
		}
		cfg.Principal, err = keytabPrincipal(conf, cfg.Keytab, src.Principal)
	}
	if err != nil {
		return nil, err
	}
	return newCredential(o, cfg.Principal.String(), name{}, cfg)
}

// keyedAccount gives the credential of a named account by its password or keytab.
func keyedAccount(o Options, a Account) (Credential, error) {
	if (a.Password == nil) == (a.Keytab == "") {
		return nil, errors.New("an account needs either a password or a keytab")
	}
	if a.Password == nil && o.Protocol == NTLM {
		return nil, errors.New("NTLM needs a password")
	}
	n, err := parseName(a.User)
	if err != nil {
		return nil, err
	}
	conf, err := loadConf(o)
	if err != nil {
		return nil, err
	}
	cfg := kerberos.Config{Conf: conf, Dial: o.Dial, Clock: o.Clock, Log: o.Log, Password: a.Password, Keytab: a.Keytab}
	cfg.Principal = principalOf(conf, n)
	if a.Keytab != "" {
		if cfg.Principal, err = keytabPrincipal(conf, a.Keytab, n.user+"@"+cfg.Principal.Realm); err != nil {
			return nil, err
		}
	}
	return newCredential(o, n.identity(), n, cfg)
}

func newCredential(o Options, id string, n name, cfg kerberos.Config) (Credential, error) {
	c := &credential{id: id, options: o, name: n, password: cfg.Password}
	if o.Protocol == NTLM {
		return c, nil
	}
	if cfg.Principal.Realm == "" {
		c.noKrb = errors.New("the Kerberos configuration names no realm for this account")
		if c.password == nil || o.Protocol == Kerberos {
			return nil, fmt.Errorf("%s: %w: set default_realm in krb5.conf or write the account as user@domain", id, c.noKrb)
		}
		return c, nil
	}
	var err error
	c.krb, err = kerberos.New(cfg)
	return c, err
}

func loadConf(o Options) (*kerberos.Conf, error) {
	switch {
	case o.Krb5Text != nil:
		return kerberos.ParseConf(o.Krb5Text)
	case o.Krb5Config != "":
		return kerberos.LoadConf(o.Krb5Config)
	}
	return systemConf()
}

// principalOf gives the Kerberos name of an account. A UPN goes to the KDC as it is ("enterprise name"), which maps it
// to the account; its suffix need not be a realm. A NetBIOS name that the configuration does not know stands for the
// realm: Active Directory's KDCs take it. It is never replaced by the default realm, whose account of that name is
// another one.
func principalOf(conf *kerberos.Conf, n name) kerberos.Principal {
	if n.suffix != "" {
		realm := conf.RealmFor(n.suffix)
		if realm == "" {
			realm = conf.DefaultRealm()
		}
		if realm == "" {
			realm = strings.ToUpper(n.suffix)
		}
		return kerberos.Principal{Name: n.user + "@" + n.suffix, Realm: realm, Enterprise: true}
	}
	realm := conf.RealmFor(n.domain)
	if realm == "" && (conf.DefaultRealm() != "" || strings.Contains(n.domain, ".")) {
		realm = strings.ToUpper(n.domain)
	}
	return kerberos.Principal{Name: n.user, Realm: realm}
}

func keytabPrincipal(conf *kerberos.Conf, path, want string) (kerberos.Principal, error) {
	if path == "" {
		return kerberos.Principal{}, errors.New("a principal is one of a keytab's, and this system has no keytab of its own: write keytab")
	}
	if want == "" {
		return kerberos.KeytabPrincipal(path)
	}
	p := kerberos.Principal{Name: want, Realm: conf.DefaultRealm()}
	if i := strings.LastIndexByte(want, '@'); i >= 0 {
		p.Name, p.Realm = want[:i], want[i+1:]
	}
	has, err := kerberos.KeytabHas(path, p)
	if err == nil && !has {
		err = fmt.Errorf("the keytab %s has no key for %s", path, p)
	}
	return p, err
}

// Identity implements Credential.
func (c *credential) Identity() string { return c.id }

// String, GoString and LogValue keep everything but the name out of logs.
func (c *credential) String() string { return c.id }

// GoString is for %#v.
func (c *credential) GoString() string { return c.id }

// LogValue is for slog.
func (c *credential) LogValue() slog.Value { return slog.StringValue(c.id) }

// Handshake implements Credential.
func (c *credential) Handshake(t Target) Handshake {
	return &handshake{cred: c, target: t, spn: t.spn()}
}

// ntlmAllowed says whether NTLM may be used at all.
func (c *credential) ntlmAllowed() bool {
	return c.password != nil && c.options.Protocol != Kerberos && !c.options.Mutual
}

// ntlmClient starts an NTLM sign-on, unless it failed a moment ago.
func (c *credential) ntlmClient(spn string, binding []byte) (*ntlm.Client, error) {
	if err := c.refused.check(c.id, spn, c.options.Clock()); err != nil {
		return nil, err
	}
	p, err := c.password()
	if err != nil {
		return nil, &Error{Kind: NotReady, Err: fmt.Errorf("get the password of %s: %w", c.id, err)}
	}
	a := ntlm.Account{User: c.name.user, Domain: c.name.domain, Hash: ntlm.HashOf(p)}
	if c.name.suffix != "" {
		a.User = c.name.user + "@" + c.name.suffix // a UPN goes without a domain
	}
	return ntlm.NewClient(a, spn, binding, c.options.Clock), nil
}

// ticket gets a Kerberos ticket, with the error in the admin's words.
func (c *credential) ticket(ctx context.Context, spn string) (*kerberos.Ticket, error) {
	if c.krb == nil {
		err := c.noKrb
		if err == nil {
			err = errors.New("the protocol Kerberos is not allowed by the configuration")
		}
		return nil, &Error{Kind: KDCUnreachable, Err: err, Mend: "set default_realm in krb5.conf"}
	}
	var t *kerberos.Ticket
	var err error
	if c.user != nil {
		t, err = c.krb.TicketFor(ctx, c.user, spn)
	} else {
		t, err = c.krb.Ticket(ctx, spn)
	}
	if err != nil {
		return nil, explain(err, c.krb.String(), spn)
	}
	return t, nil
}
