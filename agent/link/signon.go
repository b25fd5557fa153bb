package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"sallyport/agent/winauth"
)

// A SignOn is how the agent proves itself to a proxy that asks for it.
type SignOn struct {
	// Windows signs on by Negotiate or NTLM; nil: by Basic, with User and Password.
	Windows winauth.Credential
	// SPN is the proxy's service principal name; default HTTP/ and its host.
	SPN string
	// User is who signs on, as admins know him. Password gives the password that can be refused, each time it is needed; nil
	// where there is none (the account that the agent runs as, a keytab).
	User     string
	Password func() (string, error)
	// Secret is the name of the secret with that password, for errors.
	Secret string
}

const (
	// maxRounds bounds the CONNECTs of one passage: a first one without a token, Kerberos' one or two, NTLM's two.
	maxRounds = 6
)

// A passage is one way through a proxy: CONNECTs until it lets the agent through or says no (RFC 9110 section 9.3.6). It
// belongs to one goroutine.
type passage struct {
	d      *Dialer
	proxy  *url.URL
	target string
	what   string

	conn  net.Conn
	in    *bufio.Reader
	left  *io.LimitedReader // below in: bounds each answer
	shake winauth.Handshake // nil before the proxy has asked for Negotiate or NTLM
	value string            // of Proxy-Authorization
	bound bool              // the sign-on goes on on this connection or not at all
	proof bool              // the token sent last was a complete one
	judge func(verdict)     // the leave to show the password; nil without one
	basic bool              // value is a user name and password
}

func (v *passage) hangUp() {
	if v.conn != nil {
		_ = v.conn.Close()
	}
	v.conn, v.in = nil, nil
}

// open gives the connection to the target. On error the caller hangs up.
func (v *passage) open(ctx context.Context) (net.Conn, error) {
	said := untold
	defer func() {
		if v.judge != nil {
			v.judge(said)
		}
	}()
	if err := v.begin(ctx); err != nil {
		return nil, err
	}
	for range maxRounds {
		resp, err := v.ask(ctx)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusProxyAuthRequired {
			return v.passed(resp, &said)
		}
		if err := v.answer(ctx, resp, &said); err != nil {
			return nil, err
		}
	}
	return nil, &DialError{
		Phase: v.what, Err: fmt.Errorf("it asked for a sign-on %d times over", maxRounds), Mend: "the proxy's log says what it lacks",
	}
}

// begin shows at once what the proxy would ask for: Basic is the same each time.
func (v *passage) begin(ctx context.Context) error {
	s := v.d.signOn
	switch {
	case v.proxy.User != nil:
		password, _ := v.proxy.User.Password()
		return v.showBasic(ctx, v.proxy.User.Username(), password)
	case s != nil && s.Windows == nil:
		password, err := s.Password()
		if err != nil {
			return &DialError{Phase: v.what, Err: fmt.Errorf("get the password of %s: %w", s.User, err), Mend: v.mendSecret()}
		}
		return v.showBasic(ctx, s.User, password)
	}
	return nil
}

func (v *passage) showBasic(ctx context.Context, user, password string) error {
	if err := v.enter(ctx, user, password); err != nil {
		return err
	}
	v.basic, v.value = true, "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	return nil
}

// enter asks for leave to show a password.
func (v *passage) enter(ctx context.Context, user, password string) (err error) {
	if v.judge, err = v.d.caution.enter(ctx, shown(v.proxy), user, password); err != nil {
		return &DialError{Phase: v.what, Err: err, Mend: v.mendSecret()}
	}
	return nil
}

func (v *passage) mendSecret() string {
	if s := v.d.signOn; s != nil && s.Secret != "" && v.proxy.User == nil {
		return "another one is tried at once; set it with: sallyport-agent secret set " + s.Secret
	}
	return "another one is tried at once; correct the proxy's URL"
}

// ask sends one CONNECT and reads the head of the answer.
func (v *passage) ask(ctx context.Context) (*http.Response, error) {
	if v.conn == nil {
		if err := v.connect(ctx); err != nil {
			return nil, err
		}
	}
	conn := v.conn
	// The deadline is ctx's; a ctx that ends early closes the connection, which ends every wait.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	req := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: v.target}, Host: v.target,
		Header: http.Header{"User-Agent": {v.d.agent}},
	}
	if v.value != "" || v.d.signOn != nil {
		req.Header.Set("Proxy-Connection", "keep-alive") // old proxies close without it, in the middle of NTLM
	}
	if v.value != "" {
		req.Header.Set("Proxy-Authorization", v.value)
	}
	if err := req.Write(conn); err != nil {
		return nil, dialFailed(v.what, "", ended(ctx, err))
	}
	v.left.N = answerLimit
	resp, err := http.ReadResponse(v.in, req)
	if err != nil {
		mend := "is it an HTTP proxy?"
		if v.bound {
			mend = "it does not keep the connection that NTLM needs; let it offer Negotiate with Kerberos, or another proxy"
		}
		return nil, dialFailed(v.what, mend, ended(ctx, err))
	}
	if resp.StatusCode == http.StatusProxyAuthRequired {
		// The page is of no interest, but it stands between this answer and the next.
		_, err := io.Copy(io.Discard, resp.Body)
		resp.Close = resp.Close || err != nil || v.left.N == 0
	}
	return resp, nil
}

// connect opens a connection to the proxy itself.
func (v *passage) connect(ctx context.Context) error {
	conn, err := v.d.tcp(ctx, hostPort(v.proxy))
	if err != nil {
		return dialFailed("reach the proxy "+shown(v.proxy), "set 'proxy' in agent.yaml to another one or to none", err)
	}
	if v.proxy.Scheme == "https" {
		if conn, err = v.d.secure(ctx, conn, v.proxy.Hostname()); err != nil {
			return fmt.Errorf("TLS with the proxy %s: %w", shown(v.proxy), err)
		}
	}
	v.conn, v.left = conn, &io.LimitedReader{R: conn}
	v.in = bufio.NewReader(v.left)
	return nil
}

// passed takes an answer that does not ask for a sign-on.
func (v *passage) passed(resp *http.Response, said *verdict) (net.Conn, error) {
	_, html := page(resp)
	if html && resp.StatusCode/100 <= 3 {
		return nil, proxyRefused(v.what, resp) // what stands in the proxy's place has judged nobody
	}
	if resp.StatusCode/100 != 2 {
		*said = proved // it knows who asks, and says no
		if v.shake != nil {
			_ = v.shake.Finish(nil)
		}
		return nil, proxyRefused(v.what, resp)
	}
	if v.in.Buffered() > 0 {
		return nil, dialFailed(v.what, "a proxy is silent until then: does a web page or another program answer there?",
			fmt.Errorf("it sent %d bytes before it was asked", v.in.Buffered()))
	}
	if v.shake != nil {
		if err := v.shake.Finish(resp.Header.Values("Proxy-Authenticate")); err != nil {
			return nil, v.explain(err)
		}
		v.d.log.Debug("signed on to the proxy", "proxy", shown(v.proxy), "protocol", v.shake.Protocol(), "as", v.d.signOn.User)
	}
	*said = proved
	return v.conn, nil
}

// answer finds the next token for a 407.
func (v *passage) answer(ctx context.Context, resp *http.Response, said *verdict) error {
	offer := schemes(resp)
	s := v.d.signOn
	switch {
	case v.basic:
		if strings.Contains(strings.ToLower(offer), "basic") {
			*said = refused
		}
		return &DialError{
			Phase: v.what, Err: fmt.Errorf("it answered %s", status(resp)),
			Mend: "it does not take the user name and password; it offers " + offer + "; for Negotiate and NTLM write them as proxy_auth in agent.yaml",
		}
	case s == nil || s.Windows == nil:
		return &DialError{
			Phase: v.what, Err: fmt.Errorf("it answered %s", status(resp)),
			Mend: "it wants to know who asks and offers " + offer + "; say how to sign on with proxy_auth in agent.yaml " +
				"(for the account that the agent runs as: proxy_auth: {as: service}), or have the relay's host exempted",
		}
	}
	if v.shake == nil {
		if err := v.start(ctx); err != nil {
			return err
		}
	}
	token, err := v.shake.Answer(ctx, resp.Header.Values("Proxy-Authenticate"))
	if err != nil {
		*said = v.judged(err)
		return v.explain(err)
	}
	switch {
	case token.Opening && v.bound:
		v.hangUp() // it starts over; Squid takes no other scheme on a connection where one has failed
	case closes(resp) && v.bound:
		return &DialError{
			Phase: v.what, Err: errors.New("it closes the connection in the middle of the NTLM sign-on"),
			Mend: "something between here and the proxy does not keep connections (a load balancer without affinity?); " +
				"let it offer Negotiate with Kerberos",
		}
	case closes(resp):
		v.hangUp()
	}
	v.value, v.bound, v.proof = token.Value, token.Opening || v.bound, !token.Opening
	return nil
}

// start begins a Windows sign-on on the connection that is there.
func (v *passage) start(ctx context.Context) error {
	s := v.d.signOn
	if s.Password != nil {
		password, err := s.Password()
		if err != nil {
			return &DialError{Phase: v.what, Err: fmt.Errorf("get the password of %s: %w", s.User, err), Mend: v.mendSecret()}
		}
		if err := v.enter(ctx, s.User, password); err != nil {
			return err
		}
	}
	t := winauth.Target{Host: v.proxy.Hostname(), SPN: s.SPN}
	if c, ok := v.conn.(*tls.Conn); ok {
		state := c.ConnectionState()
		t.TLS = &state
	}
	v.shake = s.Windows.Handshake(t)
	return nil
}

// judged says whether an error of the sign-on means that the password was shown and is wrong.
func (v *passage) judged(err error) verdict {
	e, ok := errors.AsType[*winauth.Error](err)
	switch {
	case !ok:
		return untold
	case e.Kind == winauth.BadCredential:
		return refused
	case e.Kind == winauth.Rejected && v.proof && strings.Contains(v.shake.Protocol(), "ntlm"):
		return refused
	}
	return untold
}

// explain puts the sign-on's error into a proxy's words: winauth speaks of APIs.
func (v *passage) explain(err error) error {
	out := &DialError{Phase: "sign on to the proxy " + shown(v.proxy), Err: err}
	e, ok := errors.AsType[*winauth.Error](err)
	if !ok {
		return out
	}
	out.Err, out.Mend = fmt.Errorf("%s: %w", e.Kind, e.Err), e.Mend
	switch {
	case e.Kind == winauth.Rejected && v.proof:
		out.Err = fmt.Errorf("it does not take the sign-on of %s (%s)", v.d.signOn.User, v.shake.Protocol())
		out.Mend = "is the password right, may the account use the proxy, and is NTLM allowed?"
		if v.shake.Protocol() == "kerberos" {
			out.Mend = "may the account use the proxy, and does the proxy have the key of " + v.spn() + "? The proxy's log says more"
		}
	case e.Kind == winauth.UnknownSPN:
		out.Mend = "name the proxy as Kerberos knows it (its host name, no address), or set proxy_auth.spn; " + v.spn() + " was tried"
	case e.Kind == winauth.NotOffered:
		out.Err = fmt.Errorf("%s: its offer does not fit protocol: of proxy_auth (or the account has no password for NTLM)", e.Kind)
		out.Mend = "let the proxy offer Negotiate or NTLM, or sign on with protocol: basic"
	}
	if v.judged(err) == refused {
		out.Mend += "; so as not to lock the account, the same password is not shown again for " + refusedRest.String()
	}
	return out
}

func (v *passage) spn() string {
	if s := v.d.signOn.SPN; s != "" {
		return s
	}
	return "HTTP/" + v.proxy.Hostname()
}

// closes reports whether the connection ends with this answer.
func closes(resp *http.Response) bool {
	return resp.Close || strings.EqualFold(strings.TrimSpace(resp.Header.Get("Proxy-Connection")), "close")
}
