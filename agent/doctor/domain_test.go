package doctor

import (
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"sallyport/agent/secret"
)

// TestTheDomainIsAskedOnce: however many APIs one account acts for, an examination shows its password once, or with a wrong one
// it would lock the account.
func TestTheDomainIsAskedOnce(t *testing.T) {
	t.Parallel()
	asked := func(apis int) int64 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var n atomic.Int64
		go func() { // ends with l
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				n.Add(1)
				_ = c.Close()
			}
		}()
		t.Cleanup(func() { _ = l.Close() })
		s := newGate(t, "Negotiate")
		text := "kerberos: {config: krb5.conf}\ncallers: {issuer: 'https://login.example', audience: [orders], keys: keys.json}\napis:\n"
		for i := range apis {
			text += fmt.Sprintf("  - {name: a%d, url: '%s/api', auth: {windows: {as: caller, account: svc@corp.example, secret: svc}}, check: GET /health, allow: [GET /health]}\n", i, s.URL)
		}
		w := newWard(t, "https://"+closedPort(t), text)
		write(t, filepath.Join(w.dir, "krb5.conf"), "[libdefaults]\n default_realm = CORP.EXAMPLE\n dns_lookup_kdc = false\n[realms]\n CORP.EXAMPLE = {\n  kdc = "+l.Addr().String()+"\n }\n", 0o644)
		write(t, filepath.Join(w.dir, "keys.json"), `{"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "use": "sig",
			"x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`, 0o644)
		store, err := secret.Open(w.join("https://relay.example"), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Set("svc", secret.New("not-the-password")); err != nil {
			t.Fatal(err)
		}
		w.options.Caller = "anna@corp.example"
		got := w.examine()
		for i := range apis {
			want(t, got, fmt.Sprintf("api.a%d.delegation", i), Fail, "kdc-unreachable", "own Kerberos")
			want(t, got, fmt.Sprintf("api.a%d.call", i), Skip)
		}
		return n.Load()
	}
	if one, five := asked(1), asked(5); one == 0 || five != one {
		t.Errorf("the domain is asked %d times for one API and %d times for five of the same account", one, five)
	}
}
