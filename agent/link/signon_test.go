package link

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/agent/winauth"
	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/ntlm"
)

// An ntlmProxy is an HTTP proxy that demands a Windows sign-on; it verifies the password CORP\svc has.
type ntlmProxy struct {
	*httptest.Server
	connects atomic.Int32 // CONNECTs, with and without a token
	passed   atomic.Int32
	closing  atomic.Bool // it closes the connection after each 407
}

const proxyPassword = "Pr0xy-Pass!"

func newNTLMProxy(t *testing.T, secure bool, schemes ...string) *ntlmProxy {
	t.Helper()
	p := &ntlmProxy{}
	g := &gate.Gate{
		Schemes: schemes,
		Verifier: &ntlm.Verifier{Computer: "PROXY", Domain: "CORP", Lookup: func(user, domain string) (ntlm.Hash, bool) {
			return ntlm.HashOf(proxyPassword), strings.EqualFold(user, "svc")
		}},
		Next: http.HandlerFunc(p.tunnel),
	}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		p.connects.Add(1)
		q.Header.Set("Authorization", q.Header.Get("Proxy-Authorization"))
		if p.closing.Load() {
			w.Header().Set("Connection", "close")
		}
		g.ServeHTTP(&asksAsProxy{w}, q)
	}))
	p.Config.ConnContext = g.ConnContext
	if secure {
		p.StartTLS()
	} else {
		p.Start()
	}
	t.Cleanup(p.Close)
	return p
}

// asksAsProxy makes a proxy's 407 of a web server's 401.
type asksAsProxy struct{ http.ResponseWriter }

func (w *asksAsProxy) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *asksAsProxy) WriteHeader(code int) {
	h := w.Header()
	if v := h.Values("Www-Authenticate"); len(v) > 0 {
		h["Proxy-Authenticate"] = v
		h.Del("Www-Authenticate")
	}
	if code == http.StatusUnauthorized {
		code = http.StatusProxyAuthRequired
	}
	w.ResponseWriter.WriteHeader(code)
}

func (p *ntlmProxy) tunnel(w http.ResponseWriter, q *http.Request) {
	out, err := net.Dial("tcp", q.Host)
	if err != nil {
		http.Error(w, "cannot reach it", http.StatusBadGateway)
		return
	}
	defer out.Close()
	p.passed.Add(1)
	in, ahead, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(out, ahead); _ = out.Close() })
	_, _ = io.Copy(in, out)
	_ = in.Close()
	wg.Wait()
}

func (p *ntlmProxy) url(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// signOn is CORP\svc with a password that can change.
func signOn(t *testing.T, password func() string, protocol winauth.Protocol) *SignOn {
	t.Helper()
	s := &SignOn{User: `CORP\svc`, Secret: "proxy", Password: func() (string, error) { return password(), nil }}
	if protocol == "" {
		return s
	}
	var err error
	s.Windows, err = winauth.NewAccount(winauth.Options{Protocol: protocol, Krb5Text: []byte("[libdefaults]\n")},
		winauth.Account{User: s.User, Password: s.Password})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func always(s string) func() string { return func() string { return s } }

func TestWindowsSignOnToAProxy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secure   bool
		schemes  []string
		protocol winauth.Protocol
	}{
		"NTLM": {false, []string{"NTLM"}, winauth.NTLM}, "NTLM inside Negotiate": {false, []string{"Negotiate", "Basic realm=x"}, winauth.Negotiate},
		"both, to a proxy of https": {true, []string{"Negotiate", "NTLM"}, winauth.Negotiate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, nil)
			p := newNTLMProxy(t, c.secure, c.schemes...)
			roots := r.roots()
			if c.secure {
				roots.AddCert(p.Certificate())
			}
			log, out := textLog()
			d, err := NewDialer(DialConfig{
				Relay: r.URL, Roots: roots, Proxy: via(t, p.url(t)), SignOn: signOn(t, always(proxyPassword), c.protocol), Log: log,
			})
			if err != nil {
				t.Fatal(err)
			}
			running(t, New(Config{Dialer: d, Identity: newFixed(t), RelayKey: r.fingerprint(), Links: 2, Serve: echo, Log: log}))
			for range 2 {
				l := r.next()
				if got, err := ask(l.Link, "/x"); err != nil || got != "/x" {
					t.Errorf("exchange: %q, %v", got, err)
				}
			}
			if n := p.passed.Load(); n != 2 {
				t.Errorf("%d passages, want 2", n)
			}
			if strings.Contains(out.String(), proxyPassword) {
				t.Errorf("log:\n%s", out)
			}
		})
	}
}

// A wrong password is shown once, whoever dials and however often, until there is another one.
func TestAWrongProxyPasswordIsShownOnce(t *testing.T) {
	t.Parallel()
	for _, protocol := range []winauth.Protocol{"", winauth.NTLM} {
		t.Run("protocol "+string(protocol), func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, nil)
			p := newNTLMProxy(t, false, "NTLM", "Basic realm=x")
			var password atomic.Value
			password.Store("wrong")
			s := signOn(t, func() string { return password.Load().(string) }, protocol)
			d, err := NewDialer(DialConfig{Relay: r.URL, Roots: r.roots(), Proxy: via(t, p.url(t)), SignOn: s})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					_, err := d.reach(t.Context(), d.relay)
					if err == nil || strings.Contains(err.Error(), "wrong;") {
						t.Errorf("reach: %v", err)
					}
				})
			}
			wg.Wait()
			first := p.connects.Load()
			if limit := int32(8*1 + 3); first > limit { // each may ask without a token
				t.Errorf("%d CONNECTs, want at most %d", first, limit)
			}
			_, err = d.reach(t.Context(), d.relay)
			if resting, ok := errors.AsType[*restingError](err); !ok || resting.who != s.User {
				t.Errorf("the same password again: %v", err)
			} else if !strings.Contains(err.Error(), "secret set proxy") {
				t.Errorf("%v names no mend", err)
			}
			if protocol == "" {
				if n := p.connects.Load(); n != 1 {
					t.Errorf("%d CONNECTs with the wrong password, want 1", n)
				}
				return
			}
			password.Store(proxyPassword)
			s.Windows = signOn(t, always(proxyPassword), protocol).Windows // its own hold is not what is tried here
			conn, err := d.reach(t.Context(), d.relay)
			if err != nil {
				t.Fatalf("the right password: %v", err)
			}
			_ = conn.Close()
		})
	}
}

func TestProxiesThatMisbehaveAtTheSignOn(t *testing.T) {
	t.Parallel()
	type2 := func() string {
		v := &ntlm.Verifier{Computer: "P", Domain: "CORP"}
		_, token, err := v.Challenge(ntlm.NewClient(ntlm.Account{User: "x"}, "", nil, time.Now).Negotiate(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(token)
	}()
	head := "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\nProxy-Authenticate: "
	for name, c := range map[string]struct {
		answers []string // to the first CONNECT of a connection, the second...; the last one repeats
		want    []string
	}{
		"asks for ever":        {[]string{head + "NTLM\r\n\r\nno!"}, []string{"sign on to the proxy", "forgot the NTLM handshake"}},
		"challenges for ever":  {[]string{head + "NTLM " + type2 + "\r\n\r\nno!"}, []string{"sign on to the proxy"}},
		"closes in the middle": {[]string{head + "NTLM\r\n\r\nno!", head + "NTLM " + type2 + "\r\nConnection: close\r\n\r\nno!"}, []string{"in the middle of the NTLM sign-on", "affinity"}},
		"hangs up":             {[]string{head + "NTLM\r\n\r\nno!", ""}, []string{"does not keep the connection"}},
		"only Basic":           {[]string{head + "Basic realm=x\r\n\r\nno!"}, []string{"not-offered", "protocol: basic"}},
		"no token":             {[]string{head + "NTLM !!!\r\n\r\nno!"}, []string{"sign on to the proxy"}},
		"an endless page":      {[]string{"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n" + strings.Repeat("x", 2*answerLimit)}, []string{"proxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var connects atomic.Int32
			p := scriptedProxy(t, &connects, c.answers)
			err := tryTo(t, DialConfig{Relay: "https://127.0.0.1:1", Proxy: via(t, p), SignOn: signOn(t, always("hunter2"), winauth.NTLM)})
			for _, want := range append(c.want, p.Host) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if n := connects.Load(); n > maxRounds {
				t.Errorf("%d CONNECTs, want at most %d", n, maxRounds)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// scriptedProxy answers the CONNECTs of each connection in turn; an empty answer hangs up.
func scriptedProxy(t *testing.T, connects *atomic.Int32, answers []string) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for i := 0; ; i++ {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					connects.Add(1)
					answer := answers[min(i, len(answers)-1)]
					if _, err := io.WriteString(conn, answer); err != nil || answer == "" {
						return
					}
				}
			})
		}
	})
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

// A proxy that closes after its first 407 is dialed again; one that has judged nobody is no refusal.
func TestAProxyThatClosesAfterTheFirstRefusal(t *testing.T) {
	t.Parallel()
	var connects atomic.Int32
	p := scriptedProxy(t, &connects, []string{
		"HTTP/1.1 407 No\r\nProxy-Connection: close\r\nContent-Length: 0\r\nProxy-Authenticate: NTLM\r\n\r\n",
	})
	err := tryTo(t, DialConfig{Relay: "https://127.0.0.1:1", Proxy: via(t, p), SignOn: signOn(t, always("x"), winauth.NTLM)})
	if n := connects.Load(); n != 2 || !strings.Contains(err.Error(), "does not keep the connection") {
		t.Errorf("%d CONNECTs: %v", n, err)
	}
}

func TestCautionInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c caution
		enter := func(password string) (func(verdict), error) { return c.enter(t.Context(), "http://p", "svc", password) }
		leave, err := enter("wrong")
		if err != nil {
			t.Fatal(err)
		}
		// A second one waits for the verdict on the first.
		got := make(chan error, 1)
		go func() {
			_, err := enter("wrong")
			got <- err
		}()
		synctest.Wait()
		select {
		case err := <-got:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		leave(refused)
		if err := <-got; err == nil {
			t.Error("shown again after it was refused")
		}
		time.Sleep(refusedRest - time.Second)
		if _, err := enter("wrong"); err == nil {
			t.Error("shown again too early")
		}
		if leave, err = enter("another"); err != nil {
			t.Fatalf("another password: %v", err)
		}
		leave(proved)
		for range 3 { // nobody waits for a password that is known to be right
			if _, err := enter("another"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if leave, err = enter("wrong"); err != nil {
			t.Errorf("after %s: %v", refusedRest, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.enter(ctx, "http://p", "svc", "third"); err == nil {
			t.Error("did not wait for its turn")
		}
		leave(untold)
		for i := range 3 * maxRefused {
			leave, err := enter(string(rune('a'+i%26)) + strings.Repeat("x", i))
			if err != nil {
				t.Fatal(err)
			}
			leave(refused)
		}
		if len(c.refused) > maxRefused {
			t.Errorf("%d are remembered", len(c.refused))
		}
	})
}
