//go:build !windows

package link

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/agent/winauth"
	"sallyport/test/loud"
)

// squid is the lab's proxy: it offers Negotiate, NTLM and Basic, and asks the domain controller.
type squid struct {
	t        *testing.T
	keytabs  string
	accounts map[string]struct{ Password string }
}

func openSquid(t *testing.T) *squid {
	t.Helper()
	loud.NeedsLab(t)
	s := &squid{t: t, keytabs: os.Getenv("ADLAB_KEYTABS")}
	text, err := os.ReadFile(os.Getenv("ADLAB_ACCOUNTS"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s.accounts); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *squid) url() *url.URL { return &url.URL{Scheme: "http", Host: "proxy.corp.example:3128"} }

func (s *squid) options(p winauth.Protocol) winauth.Options {
	return winauth.Options{Protocol: p, Krb5Config: os.Getenv("KRB5_CONFIG")}
}

// account signs on with a password; "" as protocol is Basic.
func (s *squid) account(p winauth.Protocol, user, password string) *SignOn {
	s.t.Helper()
	out := &SignOn{User: user, Secret: "proxy", Password: func() (string, error) { return password, nil }}
	if p == "" {
		return out
	}
	var err error
	if out.Windows, err = winauth.NewAccount(s.options(p), winauth.Account{User: user, Password: out.Password}); err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *squid) service(from winauth.ServiceSource) *SignOn {
	s.t.Helper()
	c, err := winauth.NewService(s.options(winauth.Kerberos), from)
	if err != nil {
		s.t.Fatal(err)
	}
	return &SignOn{User: c.Identity(), Windows: c}
}

// ccache makes a credential cache as k5start would.
func (s *squid) ccache(principal, keytab string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "ccache")
	out, err := exec.Command("kinit", "-k", "-t", filepath.Join(s.keytabs, keytab), "-c", path, principal).CombinedOutput()
	if err != nil {
		s.t.Fatalf("kinit: %v\n%s", err, out)
	}
	return path
}

// seen waits for a line of squid's log with all of these in it.
func (s *squid) seen(words ...string) {
	s.t.Helper()
	var text []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if text, err = os.ReadFile(filepath.Join(os.Getenv("ADLAB_STATE"), "log/squid-access.log")); err != nil {
			s.t.Fatal(err)
		}
	lines:
		for line := range strings.Lines(string(text)) {
			for _, w := range words {
				if !strings.Contains(strings.ToLower(line), strings.ToLower(w)) {
					continue lines
				}
			}
			return
		}
	}
	s.t.Errorf("squid logged no line with %q:\n%s", words, text)
}

// TestLabLinkThroughSquid: a link comes up through a proxy that knows who asks, by every scheme and source of a credential.
func TestLabLinkThroughSquid(t *testing.T) {
	s := openSquid(t)
	svc := `CORP\alice`
	password := s.accounts["alice"].Password
	inURL := s.url()
	inURL.User = url.UserPassword("alice", password)
	for name, c := range map[string]struct {
		proxy  *url.URL
		signOn *SignOn
		user   string
	}{
		"Basic in the URL":        {inURL, nil, "alice"},
		"Basic":                   {s.url(), s.account("", "alice", password), "alice"},
		"NTLM":                    {s.url(), s.account(winauth.NTLM, svc, password), "alice"},
		"Negotiate by password":   {s.url(), s.account(winauth.Negotiate, svc, password), "alice@CORP.EXAMPLE"},
		"Kerberos by password":    {s.url(), s.account(winauth.Kerberos, "alice@corp.example", password), "alice@CORP.EXAMPLE"},
		"Kerberos by keytab":      {s.url(), s.service(winauth.ServiceSource{Keytab: filepath.Join(s.keytabs, "svc-gw.keytab"), Principal: "svc-gw@CORP.EXAMPLE"}), "svc-gw@CORP.EXAMPLE"},
		"Kerberos by cache":       {s.url(), s.service(winauth.ServiceSource{CCache: s.ccache("alice@CORP.EXAMPLE", "alice.keytab")}), "alice@CORP.EXAMPLE"},
		"Negotiate, no SPN there": {&url.URL{Scheme: "http", Host: os.Getenv("ADLAB_PROXY")}, s.account(winauth.Negotiate, svc, password), "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t, nil)
			log, out := textLog()
			d, err := NewDialer(DialConfig{Relay: r.URL, Roots: r.roots(), Proxy: via(t, c.proxy), SignOn: c.signOn, Log: log})
			if err != nil {
				t.Fatal(err)
			}
			stop := running(t, New(Config{Dialer: d, Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 2, Serve: echo, Log: log}))
			for range 2 {
				l := r.next()
				if got, err := ask(l.Link, "/x"); err != nil || got != "/x" {
					t.Errorf("exchange: %q, %v", got, err)
				}
			}
			stop()
			s.seen("CONNECT", strings.TrimPrefix(r.URL, "https://"), c.user)
			if strings.Contains(out.String(), password) {
				t.Error("the password is in the log")
			}
		})
	}
}

// TestLabSquidRefuses: no sign-on, a wrong one and an account that may not, each named; lockproxy is locked after three wrong
// passwords, and is not, however often the agent dials.
func TestLabSquidRefuses(t *testing.T) {
	s := openSquid(t)
	r := newRelay(t, nil)
	try := func(signOn *SignOn, times int) (errs []string) {
		t.Helper()
		d, err := NewDialer(DialConfig{Relay: r.URL, Roots: r.roots(), Proxy: via(t, s.url()), SignOn: signOn})
		if err != nil {
			t.Fatal(err)
		}
		for range times {
			conn, err := d.reach(t.Context(), d.relay)
			if err == nil {
				_ = conn.Close()
				t.Fatal("let through")
			}
			errs = append(errs, err.Error())
		}
		return errs
	}
	for name, c := range map[string]struct {
		signOn *SignOn
		want   []string
	}{
		"nobody":              {nil, []string{"407", "Negotiate, NTLM, Basic", "proxy_auth"}},
		"disabled, NTLM":      {s.account(winauth.NTLM, `CORP\dave`, s.accounts["dave"].Password), []string{"does not take the sign-on", `CORP\dave`}},
		"disabled, Kerberos":  {s.account(winauth.Kerberos, `CORP\dave`, s.accounts["dave"].Password), []string{"account-blocked", "disabled"}},
		"must change":         {s.account(winauth.Kerberos, `CORP\erin`, s.accounts["erin"].Password), []string{"account-blocked"}},
		"unknown SPN":         {&SignOn{User: "x", SPN: "HTTP/nowhere.corp.example", Windows: s.account(winauth.Kerberos, `CORP\alice`, s.accounts["alice"].Password).Windows}, []string{"unknown-spn", "proxy_auth.spn"}},
		"Basic, wrong, alice": {s.account("", "dave", "wrong"), []string{"does not take the user name and password"}},
	} {
		for _, want := range c.want {
			if got := try(c.signOn, 1)[0]; !strings.Contains(got, want) && !strings.Contains(got, "not shown again") {
				t.Errorf("%s: %s does not say %q", name, got, want)
			}
		}
	}
	for _, p := range []winauth.Protocol{winauth.NTLM, winauth.Negotiate} {
		for i, got := range try(s.account(p, `CORP\lockproxy`, "wrong"), 6) {
			if i > 0 && !strings.Contains(got, "not shown again before") {
				t.Errorf("%s, try %d: %s", p, i+1, got)
			}
		}
	}
	d, err := NewDialer(DialConfig{
		Relay: r.URL, Roots: r.roots(), Proxy: via(t, s.url()), SignOn: s.account(winauth.NTLM, `CORP\lockproxy`, s.accounts["lockproxy"].Password),
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.reach(t.Context(), d.relay)
	if err != nil {
		t.Fatalf("the right password after twelve dials with a wrong one: %v", err)
	}
	_ = conn.Close()
}
