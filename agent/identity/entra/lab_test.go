//go:build !windows

package entra

import (
	"crypto/x509"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/agent/link"
	"sallyport/agent/secret"
	"sallyport/agent/winauth"
	"sallyport/test/loud"
)

// TestLabTokensThroughSquid: token requests go through a proxy that knows who asks, by every scheme.
func TestLabTokensThroughSquid(t *testing.T) {
	loud.NeedsLab(t)
	var accounts map[string]struct{ Password string }
	text, err := os.ReadFile(os.Getenv("ADLAB_ACCOUNTS"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &accounts); err != nil {
		t.Fatal(err)
	}
	password := func() (string, error) { return accounts["alice"].Password, nil }
	for name, protocol := range map[string]winauth.Protocol{"Basic": "", "NTLM": winauth.NTLM, "Negotiate": winauth.Negotiate, "Kerberos": winauth.Kerberos} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t)
			c := a.config()
			c.Credential, c.Secret = ClientSecret, secret.New(hidden)
			roots := x509.NewCertPool()
			roots.AddCert(a.Certificate())
			s := &link.SignOn{User: "alice", Password: password}
			if protocol != "" {
				if s.Windows, err = winauth.NewAccount(winauth.Options{Protocol: protocol, Krb5Config: os.Getenv("KRB5_CONFIG")},
					winauth.Account{User: `CORP\alice`, Password: password}); err != nil {
					t.Fatal(err)
				}
			}
			d, err := link.NewDialer(link.DialConfig{
				Relay: "https://relay.example.com", Roots: roots, SignOn: s,
				Proxy: func(*url.URL) (*url.URL, error) { return url.Parse("http://proxy.corp.example:3128") },
			})
			if err != nil {
				t.Fatal(err)
			}
			c.HTTP = d.HTTPClient()
			t.Cleanup(c.HTTP.CloseIdleConnections)
			if got := claim(t, c); got != "token-1" {
				t.Errorf("token %q", got)
			}
			c.HTTP.CloseIdleConnections()
			logged(t, strings.TrimPrefix(a.URL, "https://"))
		})
	}
}

// logged waits for squid's line about a target, which it writes when the tunnel has ended.
func logged(t *testing.T, target string) {
	t.Helper()
	var log []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if log, err = os.ReadFile(filepath.Join(os.Getenv("ADLAB_STATE"), "log/squid-access.log")); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(log), target) {
			return
		}
	}
	t.Errorf("squid has not passed %s:\n%s", target, log)
}
