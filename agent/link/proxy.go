package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	socks "golang.org/x/net/proxy"

	"sallyport/agent/proxy"
)

// A ProxyFunc says through which proxy a URL is reached; nil for none.
type ProxyFunc = proxy.Func

// ProxyFor turns the setting into a ProxyFunc: "" or "system" (env, else what Windows says), "environment" (env alone),
// "none", or the URL of a proxy (http, https or socks5, with user:password where it asks for Basic). env is nil where the
// environment names no proxy. Errors do not quote the password.
func ProxyFor(setting string, env ProxyFunc) (ProxyFunc, error) {
	switch setting {
	case "", "system":
		if env == nil {
			return proxy.System(), nil
		}
		return env, nil
	case "environment":
		return env, nil
	case "none":
		return nil, nil
	}
	u, err := proxy.Parse(setting)
	if err != nil {
		return nil, err
	}
	return func(*url.URL) (*url.URL, error) { return u, nil }, nil
}

// shown is the proxy's address without its user info, for logs and errors.
func shown(u *url.URL) string { return u.Scheme + "://" + hostPort(u) }

// hostPort is the address to dial.
func hostPort(u *url.URL) string {
	if p := u.Port(); p != "" {
		return net.JoinHostPort(u.Hostname(), p)
	}
	port := map[string]string{"https": "443", "socks5": "1080"}[u.Scheme]
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// dialProxy opens a connection to target through p.
func (d *Dialer) dialProxy(ctx context.Context, p *url.URL, target string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	if p.Scheme == "socks5" {
		return d.dialSOCKS(ctx, p, target)
	}
	v := &passage{d: d, proxy: p, target: target, what: "pass through the proxy " + shown(p)}
	conn, err := v.open(ctx)
	if err != nil {
		v.hangUp()
		return nil, err
	}
	return conn, nil
}

// proxyRefused says why a proxy did not let the agent through.
func proxyRefused(what string, resp *http.Response) error {
	e := &DialError{Phase: what, RetryAfter: retryHeader(resp), Err: fmt.Errorf("it answered %s", status(resp))}
	title, html := page(resp)
	if html {
		e.Err = fmt.Errorf("it answered %s with the web page %q", status(resp), title)
	}
	switch code := resp.StatusCode; {
	case code/100 == 3, code == http.StatusNetworkAuthenticationRequired:
		e.Mend = "it points to " + location(resp) + ": a sign-in page of the network (captive portal), which a person has to pass first"
	case code/100 == 2:
		e.Mend = "a proxy answers without a body: a sign-in page of the network (captive portal) or a web server answers in its place"
	case code == http.StatusForbidden, code == http.StatusMethodNotAllowed:
		e.Mend = "have the relay's host and port 443 allowed for CONNECT"
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		e.Mend = "the proxy does not reach it: does it resolve the name, and may it get out?"
	default:
		e.Mend = "the proxy's log says more"
	}
	return e
}

// schemes lists how a proxy would let somebody sign on.
func schemes(resp *http.Response) string {
	var names []string
	for _, v := range resp.Header.Values("Proxy-Authenticate") {
		name, _, _ := strings.Cut(strings.TrimSpace(v), " ")
		if name = printable(name, 20); name != "" && !slices.Contains(names, name) && len(names) < 8 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "no way to sign on"
	}
	return strings.Join(names, ", ")
}

func (d *Dialer) dialSOCKS(ctx context.Context, p *url.URL, target string) (net.Conn, error) {
	var auth *socks.Auth
	if p.User != nil {
		password, _ := p.User.Password()
		auth = &socks.Auth{User: p.User.Username(), Password: password}
	}
	what := "pass through the proxy " + shown(p)
	s, err := socks.SOCKS5("tcp", hostPort(p), auth, &net.Dialer{Timeout: tcpTimeout})
	if err != nil {
		return nil, dialFailed(what, "", err)
	}
	conn, err := s.(socks.ContextDialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, dialFailed(what, "is it a SOCKS5 proxy that lets the agent through?", ended(ctx, err))
	}
	return conn, nil
}

// secure speaks TLS on conn and closes it on error.
func (d *Dialer) secure(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	// No HTTP/2: a WebSocket of RFC 6455 begins as HTTP/1.1.
	t := tls.Client(conn, &tls.Config{
		ServerName: host, RootCAs: d.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, tlsFailed(host, ended(ctx, err))
	}
	return t, nil
}
