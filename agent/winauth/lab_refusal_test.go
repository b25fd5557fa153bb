//go:build !windows

package winauth_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/agent/winauth"
	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/kerberos"
	"sallyport/agent/winauth/ntlm"
)

const (
	kerbURL  = "https://intranet.corp.example/kerb"
	negURL   = "https://intranet.corp.example/negotiate"
	allowURL = "https://epa.corp.example/epa-allow"
	mustURL  = "https://epa.corp.example/epa-require"
	offURL   = "https://epa.corp.example/epa-off"
)

// otherCertificate is what a machine in the middle would show.
func otherCertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestLabChannelBinding(t *testing.T) {
	l := openLab(t)
	foreign := otherCertificate(t)
	wrong := func(*tls.ConnectionState) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{foreign}}
	}
	for _, p := range []winauth.Protocol{winauth.Kerberos, winauth.NTLM} {
		for _, c := range []struct {
			name string
			url  string
			mode winauth.ChannelBinding
			tls  func(*tls.ConnectionState) *tls.ConnectionState
			cb   string // "" means refused
		}{
			{"required, right", mustURL, winauth.BindingAuto, nil, "bound"},
			{"required, wrong", mustURL, winauth.BindingAuto, wrong, ""},
			{"required, absent", mustURL, winauth.BindingOff, nil, ""},
			{"allowed, right", allowURL, winauth.BindingRequire, nil, "bound"},
			{"allowed, wrong", allowURL, winauth.BindingAuto, wrong, ""},
			{"allowed, absent", allowURL, winauth.BindingOff, nil, "none"},
			{"off, right", offURL, winauth.BindingAuto, nil, "none"},
			{"off, wrong", offURL, winauth.BindingAuto, wrong, "none"},
			{"off, absent", offURL, winauth.BindingOff, nil, "none"},
		} {
			t.Run(string(p)+" "+c.name, func(t *testing.T) {
				o := l.options()
				o.Protocol, o.ChannelBinding = p, c.mode
				got, err := visit{l: l, url: c.url, state: c.tls}.run(t, l.account(t, o, `CORP\alice`, "alice"))
				if c.cb == "" {
					wantKind(t, err, winauth.Rejected, "channel binding")
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(got.text, "CB="+c.cb) {
					t.Errorf("%q, want CB=%s", got.text, c.cb)
				}
			})
		}
	}
}

func TestLabAccountsRefused(t *testing.T) {
	l := openLab(t)
	wrong := func() (string, error) { return "Wrong-Passw0rd!", nil }
	for _, c := range []struct {
		name, user string
		password   func() (string, error)
		kind       winauth.Kind
		words      string
	}{
		{"disabled", `CORP\dave`, l.password("dave"), winauth.AccountBlocked, "disabled"},
		{"expired", `CORP\grace`, l.password("grace"), winauth.AccountBlocked, "expired"},
		{"must change password", `CORP\erin`, l.password("erin"), winauth.AccountBlocked, "must be changed"},
		{"wrong password", `CORP\alice`, wrong, winauth.BadCredential, "wrong"},
		{"no such account", `CORP\nobody`, wrong, winauth.BadCredential, "no account"},
		{"no such UPN", `nobody@corp.example`, wrong, winauth.BadCredential, "no account"},
	} {
		for _, ahead := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s ahead %v", c.name, ahead), func(t *testing.T) {
				cred, err := winauth.NewAccount(l.options(), winauth.Account{User: c.user, Password: c.password})
				if err != nil {
					t.Fatal(err)
				}
				_, err = visit{l: l, url: negURL, ahead: ahead}.run(t, cred)
				wantKind(t, err, c.kind, c.words)
			})
		}
		t.Run(c.name+" by NTLM", func(t *testing.T) {
			o := l.options()
			o.Protocol = winauth.NTLM
			cred, err := winauth.NewAccount(o, winauth.Account{User: c.user, Password: c.password})
			if err != nil {
				t.Fatal(err)
			}
			_, err = visit{l: l, url: negURL}.run(t, cred)
			wantKind(t, err, winauth.Rejected, "password")
		})
	}
}

func TestLabLockout(t *testing.T) {
	l := openLab(t)
	try := func(password string) error {
		cred, err := winauth.NewAccount(l.options(), winauth.Account{
			User: `CORP\lockme`, Password: func() (string, error) { return password, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = visit{l: l, url: kerbURL}.run(t, cred)
		return err
	}
	// One credential with a wrong password asks the KDC once, however often it is used: the account stays open.
	tries := 0
	cred, err := winauth.NewAccount(l.options(), winauth.Account{
		User: `CORP\lockme`, Password: func() (string, error) { tries++; return "Wrong-1!", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		_, err := visit{l: l, url: negURL, ahead: true}.run(t, cred)
		wantKind(t, err, winauth.BadCredential)
	}
	if err := try(l.accounts["lockme"].Password); err != nil {
		t.Fatalf("six uses of one wrong password: %v", err)
	}
	for i := range 3 {
		wantKind(t, try(fmt.Sprintf("Wrong-%d!", i)), winauth.BadCredential)
	}
	wantKind(t, try(l.accounts["lockme"].Password), winauth.AccountBlocked, "lock")
}

func TestLabUnknownSPN(t *testing.T) {
	l := openLab(t)
	o := l.options()
	keytab, err := winauth.NewService(o, winauth.ServiceSource{Keytab: filepath.Join(l.keytabs, "svc-gw.keytab")})
	if err != nil {
		t.Fatal(err)
	}
	const url = "https://portal.corp.example/negotiate"
	for _, ahead := range []bool{false, true} {
		_, err := visit{l: l, url: url, ahead: ahead}.run(t, keytab)
		wantKind(t, err, winauth.UnknownSPN, "setspn -S HTTP/portal.corp.example")
	}
	for _, ahead := range []bool{false, true} {
		got, err := visit{l: l, url: url, ahead: ahead}.run(t, l.account(t, o, `CORP\alice`, "alice"))
		if err != nil || got.protocol != "negotiate/ntlm" || got.requests != 3 {
			t.Errorf("fallback to NTLM, ahead %v: %+v, %v", ahead, got, err)
		}
	}
	o.Mutual = true
	_, err = visit{l: l, url: url}.run(t, l.account(t, o, `CORP\alice`, "alice"))
	wantKind(t, err, winauth.UnknownSPN)
	o.Mutual, o.Protocol = false, winauth.Kerberos
	_, err = visit{l: l, url: url}.run(t, l.account(t, o, `CORP\alice`, "alice"))
	wantKind(t, err, winauth.UnknownSPN)
}

// TestLabForeignSPN: a ticket for another account's service; the server cannot decrypt it.
func TestLabForeignSPN(t *testing.T) {
	l := openLab(t)
	cred := l.account(t, l.options(), `CORP\alice`, "alice")
	h := cred.Handshake(winauth.Target{Host: "intranet.corp.example", SPN: "HTTP/proxy.corp.example"})
	tok, err := h.Ahead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if tok.Opening || !strings.HasPrefix(tok.Value, "Negotiate ") {
		t.Errorf("token ahead: opening %v", tok.Opening)
	}
	conn, _, host, path := visit{l: l, url: kerbURL}.dial(t)
	resp, _ := visit{}.exchange(t, conn, bufio.NewReader(conn), host, path, tok)
	if resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("status %d for a ticket of another service", resp.StatusCode)
	}
	_, err = h.Answer(t.Context(), resp.Header.Values("WWW-Authenticate"))
	wantKind(t, err, winauth.Rejected, "setspn -Q HTTP/proxy.corp.example")
	if _, err := h.Answer(t.Context(), []string{"Negotiate", "NTLM"}); err == nil {
		t.Error("a failed handshake goes on")
	}
}

// TestLabServerChoosesNTLM: a server without Kerberos picks NTLM out of the list that came with a Kerberos token, and
// demands a signature over the list.
func TestLabServerChoosesNTLM(t *testing.T) {
	l := openLab(t)
	g := &gate.Gate{
		Schemes: []string{"Negotiate"},
		Verifier: &ntlm.Verifier{Domain: "CORP", Computer: "API", Lookup: func(string, string) (ntlm.Hash, bool) {
			return ntlm.HashOf(l.accounts["alice"].Password), true
		}},
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, _ := gate.UserOf(r)
			fmt.Fprintf(w, "REMOTE_USER=%s", id.User)
		}),
	}
	s := httptest.NewUnstartedServer(g)
	s.Config.ConnContext = g.ConnContext
	s.Start()
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	br := bufio.NewReader(conn)
	cred := l.account(t, l.options(), `CORP\alice`, "alice")
	h := cred.Handshake(winauth.Target{Host: "intranet.corp.example"})
	tok, err := h.Ahead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		resp, _ := visit{}.exchange(t, conn, br, "api", "/", tok)
		if tok, err = h.Answer(t.Context(), resp.Header.Values("WWW-Authenticate")); err != nil {
			t.Fatal(err)
		}
	}
	resp, text := visit{}.exchange(t, conn, br, "api", "/", tok)
	if err := h.Finish(resp.Header.Values("WWW-Authenticate")); err != nil {
		t.Fatal(err)
	}
	wantUser(t, text, "alice")
	if h.Protocol() != "negotiate/ntlm" {
		t.Errorf("protocol %q", h.Protocol())
	}
}

func TestLabDomainController(t *testing.T) {
	l := openLab(t)
	text, err := os.ReadFile(os.Getenv("KRB5_CONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	dead := strings.ReplaceAll(string(text), l.dc+":88", "127.0.0.1:9") // nothing listens there
	o := winauth.Options{Krb5Text: []byte(dead)}

	t.Run("down, keytab", func(t *testing.T) {
		cred, err := winauth.NewService(o, winauth.ServiceSource{Keytab: filepath.Join(l.keytabs, "svc-gw.keytab")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = visit{l: l, url: negURL}.run(t, cred)
		wantKind(t, err, winauth.KDCUnreachable, "port 88")
	})
	t.Run("down, password", func(t *testing.T) {
		got, err := visit{l: l, url: negURL, ahead: true}.run(t, l.account(t, o, `CORP\alice`, "alice"))
		if err != nil || got.protocol != "negotiate/ntlm" {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("first one dead", func(t *testing.T) {
		o := winauth.Options{Krb5Config: filepath.Join(l.state, "krb5-failover.conf"), Mutual: true}
		if got, err := (visit{l: l, url: kerbURL}).run(t, l.account(t, o, `CORP\alice`, "alice")); err != nil || got.protocol != "kerberos" {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("found by DNS", func(t *testing.T) {
		o := winauth.Options{Krb5Config: filepath.Join(l.state, "krb5-dns.conf"), Mutual: true}
		if got, err := (visit{l: l, url: kerbURL}).run(t, l.account(t, o, `CORP\alice`, "alice")); err != nil || got.protocol != "kerberos" {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("NetBIOS name for the realm", func(t *testing.T) {
		conf, err := kerberos.LoadConf(os.Getenv("KRB5_CONFIG"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := kerberos.New(kerberos.Config{
			Conf: conf, Principal: kerberos.Principal{Name: "alice", Realm: "CORP"}, Password: l.password("alice"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ticket(t.Context(), "HTTP/intranet.corp.example"); err != nil {
			t.Error(err)
		}
	})
	t.Run("clock wrong", func(t *testing.T) {
		o := l.options()
		o.Clock = func() time.Time { return time.Now().Add(-time.Hour) }
		_, err := visit{l: l, url: kerbURL}.run(t, l.account(t, o, `CORP\alice`, "alice"))
		wantKind(t, err, winauth.ClockSkew, "time synchronisation")
	})
}

// TestLabRC4 signs on to a service that has only RC4, with Kerberos and with a password beyond ASCII.
func TestLabRC4(t *testing.T) {
	l := openLab(t)
	for _, sam := range []string{"alice", "zoë"} {
		o := l.options()
		o.Mutual = true
		got, err := visit{l: l, url: "https://legacy.corp.example/kerb"}.run(t, l.account(t, o, `CORP\`+sam, sam))
		if err != nil {
			t.Fatal(err)
		}
		wantUser(t, unescape(got.text), sam+"@CORP.EXAMPLE")
	}
	text, err := os.ReadFile(os.Getenv("KRB5_CONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	only := strings.Replace(string(text), "[libdefaults]", "[libdefaults]\n  default_tkt_enctypes = arcfour-hmac-md5\n", 1)
	for _, sam := range []string{"alice", "zoë"} {
		cred := l.account(t, winauth.Options{Krb5Text: []byte(only), Protocol: winauth.Kerberos}, `CORP\`+sam, sam)
		got, err := visit{l: l, url: "https://legacy.corp.example/kerb"}.run(t, cred)
		if err != nil {
			t.Fatalf("%s with an RC4 key: %v", sam, err)
		}
		wantUser(t, unescape(got.text), sam+"@CORP.EXAMPLE")
	}
}

// TestLabBigHeader: the server refuses heidi's token by its size, which is no failure of the sign-on.
func TestLabBigHeader(t *testing.T) {
	l := openLab(t)
	o := l.options()
	got, err := visit{l: l, url: "https://legacy.corp.example/kerb"}.run(t, l.account(t, o, `CORP\heidi`, "heidi"))
	if err != nil || got.status != http.StatusBadRequest {
		t.Errorf("status %d, %v; want 400 for 8190-byte headers", got.status, err)
	}
}

// TestLabParallel: one credential in 32 handshakes at once logs on once and never repeats an authenticator.
func TestLabParallel(t *testing.T) {
	l := openLab(t)
	cred := l.account(t, l.options(), `CORP\alice`, "alice")
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			got, err := visit{l: l, url: kerbURL, ahead: true}.run(t, cred)
			if err != nil || got.status != http.StatusOK || !strings.Contains(got.text, "REMOTE_USER=alice@") {
				t.Errorf("status %d, %v", got.status, err)
			}
		})
	}
	wg.Wait()
}
