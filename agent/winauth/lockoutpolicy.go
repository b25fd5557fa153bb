package winauth

import (
	"context"

	"sallyport/agent/winauth/directory"
	"sallyport/agent/winauth/kerberos"
)

// LockoutPolicy asks a domain controller when the domain locks accounts, as the account of c. It says as whom.
func LockoutPolicy(ctx context.Context, o Options, c DelegationConfig) (p directory.Lockout, who string, err error) {
	if err := o.validate(); err != nil {
		return p, "", err
	}
	cfg, err := c.kerberos(o)
	if err != nil {
		return p, "", err
	}
	client, err := kerberos.New(cfg)
	if err != nil {
		return p, "", err
	}
	d := directory.New(directory.Config{Client: client, Realm: cfg.Principal.Realm, Controllers: cfg.Conf.Controllers, Dial: o.Dial})
	p, err = d.Lockout(ctx)
	return p, client.String(), err
}
