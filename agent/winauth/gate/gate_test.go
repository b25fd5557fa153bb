package gate_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/agent/winauth"
	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/ntlm"
)

const (
	account  = `CORP\Zoë`
	password = "Zo€-Pässw0rd1"
)

func newGate(certificate *x509.Certificate, policy ntlm.BindingPolicy, schemes ...string) *gate.Gate {
	return &gate.Gate{
		Verifier: &ntlm.Verifier{
			Computer: "API", Domain: "CORP", Realm: "corp.example", Host: "api.corp.example", Binding: policy,
			Lookup: func(user, domain string) (ntlm.Hash, bool) {
				return ntlm.HashOf(password), strings.EqualFold(user, "zoë") && domain == "CORP"
			},
		},
		Schemes: schemes, Certificate: certificate,
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, ok := gate.UserOf(r)
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s\\%s %v bound=%v %s", id.Domain, id.User, ok, id.Bound, body)
		}),
	}
}

func serve(t *testing.T, g *gate.Gate, cert *tls.Certificate) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(g)
	s.Config.ConnContext = g.ConnContext
	if cert != nil {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func certificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"api.corp.example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func credential(t *testing.T, o winauth.Options, pw string) winauth.Credential {
	t.Helper()
	if o.Krb5Text == nil {
		o.Krb5Text = []byte("[libdefaults]\ndns_lookup_kdc = false\n")
	}
	c, err := winauth.NewAccount(o, winauth.Account{User: account, Password: func() (string, error) { return pw, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connection is one keep-alive connection, spoken by hand.
type connection struct {
	net.Conn
	br    *bufio.Reader
	state *tls.ConnectionState
}

func dial(t *testing.T, s *httptest.Server) *connection {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &connection{Conn: conn}
	if s.TLS != nil {
		pool := x509.NewCertPool()
		pool.AddCert(s.TLS.Certificates[0].Leaf)
		tc := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "api.corp.example"})
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		state := tc.ConnectionState()
		c.Conn, c.state = tc, &state
	}
	c.br = bufio.NewReader(c.Conn)
	return c
}

func (c *connection) post(t *testing.T, tok winauth.Token) (*http.Response, string) {
	t.Helper()
	body := "order"
	if tok.Opening {
		body = ""
	}
	req, err := http.NewRequest(http.MethodPost, "http://api.corp.example/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if tok.Value != "" {
		req.Header.Set("Authorization", tok.Value)
	}
	if err := req.Write(c); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.br, req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// signOn drives a handshake as agent/upstream does.
func (c *connection) signOn(t *testing.T, cred winauth.Credential) (text, protocol string, err error) {
	t.Helper()
	h := cred.Handshake(winauth.Target{Host: "api.corp.example", TLS: c.state})
	var tok winauth.Token
	for range 6 {
		resp, text := c.post(t, tok)
		if resp.StatusCode != http.StatusUnauthorized {
			return text, h.Protocol(), h.Finish(resp.Header.Values("WWW-Authenticate"))
		}
		if tok, err = h.Answer(t.Context(), resp.Header.Values("WWW-Authenticate")); err != nil {
			return "", h.Protocol(), err
		}
	}
	t.Fatal("the handshake does not end")
	return "", "", nil
}

func TestSignOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		schemes  []string
		options  winauth.Options
		protocol string
	}{
		{"both offered", nil, winauth.Options{}, "negotiate/ntlm"},
		{"raw only", []string{"NTLM"}, winauth.Options{}, "ntlm"},
		{"Negotiate only, NTLM wanted", []string{"Negotiate"}, winauth.Options{Protocol: winauth.NTLM}, "negotiate/ntlm"},
		{"both offered, NTLM wanted", nil, winauth.Options{Protocol: winauth.NTLM}, "ntlm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, serve(t, newGate(nil, ntlm.BindingOff, c.schemes...), nil))
			text, protocol, err := conn.signOn(t, credential(t, c.options, password))
			if err != nil {
				t.Fatal(err)
			}
			if want := `CORP\Zoë true bound=false order`; text != want {
				t.Errorf("answer %q, want %q", text, want)
			}
			if protocol != c.protocol {
				t.Errorf("protocol %q, want %q", protocol, c.protocol)
			}
			if _, again := conn.post(t, winauth.Token{}); again != text {
				t.Errorf("second request on the connection: %q", again)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := serve(t, newGate(nil, ntlm.BindingOff), nil)
	conn := dial(t, s)
	cred := credential(t, winauth.Options{}, "wrong")
	_, _, err := conn.signOn(t, cred)
	if e, ok := errors.AsType[*winauth.Error](err); !ok || e.Kind != winauth.Rejected {
		t.Fatalf("wrong password: %v", err)
	}
	if resp, text := conn.post(t, winauth.Token{}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the connection is let in after a refusal: %d %s", resp.StatusCode, text)
	}
	// The same password is not tried again at once.
	resp, _ := conn.post(t, winauth.Token{})
	h := cred.Handshake(winauth.Target{Host: "api.corp.example"})
	_, err = h.Answer(t.Context(), resp.Header.Values("WWW-Authenticate"))
	if err == nil || !strings.Contains(err.Error(), "not tried again") {
		t.Errorf("second try with the same password: %v", err)
	}
}

func TestIdentityBelongsToOneConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, newGate(nil, ntlm.BindingOff), nil)
	one := dial(t, s)
	if _, _, err := one.signOn(t, credential(t, winauth.Options{}, password)); err != nil {
		t.Fatal(err)
	}
	if resp, _ := dial(t, s).post(t, winauth.Token{}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("another connection: status %d, want 401", resp.StatusCode)
	}
	if resp, _ := one.post(t, winauth.Token{Value: "NTLM AAAA"}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a broken new sign-on: status %d, want 401", resp.StatusCode)
	}
	if resp, _ := one.post(t, winauth.Token{}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after a broken new sign-on the old identity still holds: status %d", resp.StatusCode)
	}
}

func TestChannelBinding(t *testing.T) {
	t.Parallel()
	cert, other := certificate(t), certificate(t)
	for _, c := range []struct {
		name   string
		served *x509.Certificate // what the gate takes for its own certificate
		policy ntlm.BindingPolicy
		mode   winauth.ChannelBinding
		plain  bool
		ok     bool
		bound  bool
	}{
		{name: "required and right", served: cert.Leaf, policy: ntlm.BindingRequire, ok: true, bound: true},
		{name: "required and wrong", served: other.Leaf, policy: ntlm.BindingRequire},
		{name: "required and absent", served: cert.Leaf, policy: ntlm.BindingRequire, mode: winauth.BindingOff},
		{name: "allowed and wrong", served: other.Leaf, policy: ntlm.BindingAllow},
		{name: "allowed and absent", served: cert.Leaf, policy: ntlm.BindingAllow, mode: winauth.BindingOff, ok: true},
		{name: "off and wrong", served: other.Leaf, policy: ntlm.BindingOff, ok: true},
		{name: "required here without TLS", policy: ntlm.BindingOff, mode: winauth.BindingRequire, plain: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			served := cert
			if c.plain {
				served = nil
			}
			conn := dial(t, serve(t, newGate(c.served, c.policy), served))
			text, _, err := conn.signOn(t, credential(t, winauth.Options{ChannelBinding: c.mode}, password))
			if (err == nil) != c.ok {
				t.Fatalf("error %v, want success %v", err, c.ok)
			}
			if c.ok && !strings.Contains(text, fmt.Sprintf("bound=%v", c.bound)) {
				t.Errorf("answer %q, want bound=%v", text, c.bound)
			}
		})
	}
}
