//go:build !windows

package winauth_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/agent/winauth"
	"sallyport/test/loud"
)

// lab is a real Active Directory: Samba's domain controller, Apache with mod_auth_gssapi, and winauthd for channel
// bindings. Its environment variables come from the lab's env.sh.
type lab struct {
	state, web, epa, legacy, dc, keytabs string
	pool                                 *x509.CertPool
	accounts                             map[string]struct{ Password, UPN string }
}

func openLab(t *testing.T) *lab {
	t.Helper()
	loud.NeedsLab(t)
	l := &lab{
		state: os.Getenv("ADLAB_STATE"), web: os.Getenv("ADLAB_WEB"), epa: os.Getenv("ADLAB_EPA"),
		legacy: os.Getenv("ADLAB_LEGACY"), dc: os.Getenv("ADLAB_DC"), keytabs: os.Getenv("ADLAB_KEYTABS"),
	}
	pem, err := os.ReadFile(os.Getenv("ADLAB_CA"))
	if err != nil {
		t.Fatal(err)
	}
	l.pool = x509.NewCertPool()
	l.pool.AppendCertsFromPEM(pem)
	b, err := os.ReadFile(os.Getenv("ADLAB_ACCOUNTS"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &l.accounts); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) options() winauth.Options {
	return winauth.Options{Krb5Config: os.Getenv("KRB5_CONFIG")}
}

func (l *lab) password(sam string) func() (string, error) {
	return func() (string, error) { return l.accounts[sam].Password, nil }
}

func (l *lab) account(t *testing.T, o winauth.Options, user, sam string) winauth.Credential {
	t.Helper()
	c, err := winauth.NewAccount(o, winauth.Account{User: user, Password: l.password(sam)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// visit is one exchange with the lab: a connection of its own, a handshake, at most six requests.
type visit struct {
	l     *lab
	url   string // "https://epa.corp.example/epa-require"
	ahead bool
	// reuse sends a second request without a token after the first success.
	reuse bool
	// state, if set, changes what the handshake believes of the TLS connection.
	state func(*tls.ConnectionState) *tls.ConnectionState
	body  string
}

type outcome struct {
	status   int
	text     string
	protocol string
	requests int
	again    string // text of the second answer
	expires  time.Time
}

func (v visit) dial(t *testing.T) (net.Conn, *tls.ConnectionState, string, string) {
	t.Helper()
	scheme, rest, _ := strings.Cut(v.url, "://")
	host, path, _ := strings.Cut(rest, "/")
	addr := map[string]string{
		"intranet.corp.example": v.l.web, "portal.corp.example": v.l.web, "epa.corp.example": v.l.epa,
		"legacy.corp.example": v.l.legacy,
	}[host]
	port := map[string]string{"http": "80", "https": "443"}[scheme]
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(addr, port), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	if scheme == "http" {
		return conn, nil, host, "/" + path + "/whoami"
	}
	tc := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: v.l.pool})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	s := tc.ConnectionState()
	return tc, &s, host, "/" + path + "/whoami"
}

func (v visit) run(t *testing.T, cred winauth.Credential) (outcome, error) {
	t.Helper()
	conn, state, host, path := v.dial(t)
	if v.state != nil {
		state = v.state(state)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	h := cred.Handshake(winauth.Target{Host: host, TLS: state})
	br := bufio.NewReader(conn)
	var out outcome
	var token winauth.Token
	if v.ahead {
		var err error
		if token, err = h.Ahead(ctx); err != nil {
			return out, err
		}
	}
	for {
		out.requests++
		resp, text := v.exchange(t, conn, br, host, path, token)
		out.status, out.text, out.protocol = resp.StatusCode, text, h.Protocol()
		if resp.StatusCode != http.StatusUnauthorized {
			if err := h.Finish(resp.Header.Values("WWW-Authenticate")); err != nil {
				return out, err
			}
			break
		}
		if out.requests > 6 {
			t.Fatal("the handshake does not end")
		}
		var err error
		if token, err = h.Answer(ctx, resp.Header.Values("WWW-Authenticate")); err != nil {
			return out, err
		}
	}
	if e, ok := h.(winauth.Expiring); ok {
		out.expires = e.Expires()
	}
	if v.reuse {
		_, out.again = v.exchange(t, conn, br, host, path, winauth.Token{})
	}
	return out, nil
}

func (v visit) exchange(t *testing.T, conn net.Conn, br *bufio.Reader, host, path string, tok winauth.Token) (*http.Response, string) {
	t.Helper()
	body := v.body
	if tok.Opening {
		body = ""
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if tok.Value != "" {
		req.Header.Set("Authorization", tok.Value)
	}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func wantUser(t *testing.T, text, user string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if got, ok := strings.CutPrefix(strings.TrimSpace(line), "REMOTE_USER="); ok {
			if !strings.EqualFold(got, user) {
				t.Errorf("the server saw %q, want %q", got, user)
			}
			return
		}
	}
	t.Errorf("no REMOTE_USER in %q", text)
}

func wantKind(t *testing.T, err error, kind winauth.Kind, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*winauth.Error](err)
	if !ok || e.Kind != kind {
		t.Fatalf("error %v, want kind %s", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(e.Error(), w) {
			t.Errorf("error %q does not say %q", e.Error(), w)
		}
	}
	t.Log(e)
}

func TestLabKerberos(t *testing.T) {
	l := openLab(t)
	ccache := filepath.Join(t.TempDir(), "cc")
	kinit := exec.Command("kinit", "-c", ccache, "-k", "-t", filepath.Join(l.keytabs, "alice.keytab"), "alice")
	if out, err := kinit.CombinedOutput(); err != nil {
		t.Fatalf("kinit: %v: %s", err, out)
	}
	o := l.options()
	o.Mutual = true
	service := func(s winauth.ServiceSource) winauth.Credential {
		c, err := winauth.NewService(o, s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, c := range []struct {
		name string
		cred winauth.Credential
		user string
	}{
		{"keytab", service(winauth.ServiceSource{Keytab: filepath.Join(l.keytabs, "svc-gw.keytab")}), "svc-gw"},
		{"keytab principal", service(winauth.ServiceSource{
			Keytab: filepath.Join(l.keytabs, "svc-gw.keytab"), Principal: "svc-gw@CORP.EXAMPLE",
		}), "svc-gw"},
		{"ccache", service(winauth.ServiceSource{CCache: ccache}), "alice"},
		{"password, domain", l.account(t, o, `CORP\alice`, "alice"), "alice"},
		{"password, UPN", l.account(t, o, `alice@corp.example`, "alice"), "alice"},
		{"password, plain", l.account(t, o, `alice`, "alice"), "alice"},
		{"password, other UPN", l.account(t, o, `robert.brown@corp.example`, "bob"), "bob"},
		{"password, UPN of no realm", l.account(t, o, `carol@corp-mail.example`, "carol"), "carol"},
		{"beyond ASCII", l.account(t, o, `CORP\zoë`, "zoë"), "zoë"},
		{"900 groups", l.account(t, o, `CORP\heidi`, "heidi"), "heidi"},
	} {
		for _, u := range []string{"https://intranet.corp.example/kerb", "http://intranet.corp.example/negotiate", "https://epa.corp.example/epa-require"} {
			for _, ahead := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s ahead %v", c.name, strings.ReplaceAll(u, "/", "."), ahead), func(t *testing.T) {
					got, err := visit{l: l, url: u, ahead: ahead, body: "0123456789"}.run(t, c.cred)
					if err != nil {
						t.Fatal(err)
					}
					wantUser(t, unescape(got.text), c.user+"@CORP.EXAMPLE")
					if got.protocol != "kerberos" || got.expires.Before(time.Now()) {
						t.Errorf("protocol %q, expires %s", got.protocol, got.expires)
					}
					if want := map[bool]int{true: 1, false: 2}[ahead]; got.requests != want {
						t.Errorf("%d requests, want %d", got.requests, want)
					}
				})
			}
		}
	}
}

// unescape undoes what the servers write for bytes beyond ASCII.
func unescape(s string) string {
	return strings.NewReplacer(`\xc3\xab`, "ë", `\303\253`, "ë").Replace(s)
}

func TestLabNTLM(t *testing.T) {
	l := openLab(t)
	for _, user := range []struct{ name, sam, seen string }{
		{`CORP\alice`, "alice", `CORP\alice`},
		{`corp.example\alice`, "alice", `CORP\alice`},
		{`CORP\zoë`, "zoë", `CORP\zoë`},
		{`alice@corp.example`, "alice", `CORP\alice`},
	} {
		for _, url := range []string{
			"http://intranet.corp.example/ntlm",
			"https://intranet.corp.example/negotiate",
			"https://epa.corp.example/ntlm",
			"https://epa.corp.example/epa-require",
			"https://epa.corp.example/epa-allow",
		} {
			t.Run(user.name+" "+strings.ReplaceAll(url, "/", "."), func(t *testing.T) {
				o := l.options()
				o.Protocol = winauth.NTLM
				cred := l.account(t, o, user.name, user.sam)
				got, err := visit{l: l, url: url, reuse: true, body: "0123456789"}.run(t, cred)
				if err != nil {
					t.Fatal(err)
				}
				if got.status != http.StatusOK || got.protocol != "ntlm" || got.requests != 3 {
					t.Errorf("status %d, protocol %q, %d requests", got.status, got.protocol, got.requests)
				}
				// The acceptors show a UPN as it was sent, the accounts are the same.
				seen := user.seen
				if user.name != `CORP\`+user.sam {
					seen = ""
				}
				for _, text := range []string{got.text, got.again} {
					if seen != "" {
						wantUser(t, unescape(text), seen)
					} else if !strings.Contains(text, user.sam) {
						t.Errorf("%q does not name %s", text, user.sam)
					}
				}
			})
		}
	}
}
