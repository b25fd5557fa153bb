package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/proxy"
)

// A ProxyFunc says through which proxy a URL is reached; nil for none.
type ProxyFunc func(*url.URL) (*url.URL, error)

// ProxyFor turns the setting into a ProxyFunc: "" or "environment" (what env says), "none", or the URL of a proxy
// (http, https or socks5, with user:password where it asks for Basic). Errors do not quote the password.
func ProxyFor(setting string, env ProxyFunc) (ProxyFunc, error) {
	switch setting {
	case "", "environment":
		return env, nil
	case "none":
		return nil, nil
	}
	u, err := url.Parse(setting)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("proxy: %q is not 'environment', 'none' or a URL such as http://proxy.corp.example:8080", hide(setting))
	}
	if !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) {
		return nil, fmt.Errorf("proxy: scheme %q is not known; use http, https or socks5", u.Scheme)
	}
	return func(*url.URL) (*url.URL, error) { return u, nil }, nil
}

// hide cuts user info out of a string that is not a URL.
func hide(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "***@" + s[i+1:]
	}
	return s
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
	conn, err := d.tcp(ctx, hostPort(p))
	if err != nil {
		return nil, dialFailed("reach the proxy "+shown(p), "set 'proxy' in agent.yaml to another one or to none", err)
	}
	if p.Scheme == "https" {
		if conn, err = d.secure(ctx, conn, p.Hostname()); err != nil {
			return nil, fmt.Errorf("TLS with the proxy %s: %w", shown(p), err)
		}
	}
	tunnelled, err := connect(ctx, conn, p, target, d.agent)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnelled, nil
}

// connect asks an HTTP proxy for a way to target (RFC 9110 section 9.3.6).
func connect(ctx context.Context, conn net.Conn, p *url.URL, target, agent string) (net.Conn, error) {
	what := "pass through the proxy " + shown(p)
	// The deadline is ctx's; a ctx that ends early closes the connection, which ends every wait.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	req := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target,
		Header: http.Header{"User-Agent": {agent}},
	}
	if p.User != nil {
		password, _ := p.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(p.User.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return nil, dialFailed(what, "", ended(ctx, err))
	}
	br := bufio.NewReader(io.LimitReader(conn, answerLimit))
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, dialFailed(what, "is it an HTTP proxy?", ended(ctx, err))
	}
	if resp.StatusCode/100 != 2 {
		return nil, proxyRefused(what, p, resp)
	}
	if br.Buffered() > 0 {
		return nil, dialFailed(what, "", fmt.Errorf("it sent %d bytes before it was asked", br.Buffered()))
	}
	return conn, nil
}

// proxyRefused says why a proxy did not let the agent through.
func proxyRefused(what string, p *url.URL, resp *http.Response) error {
	e := &DialError{Phase: what, RetryAfter: retryHeader(resp), Err: fmt.Errorf("it answered %s", status(resp))}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired && p.User != nil:
		e.Mend = "it does not take the user name and password of the proxy's URL; it offers " + schemes(resp)
	case resp.StatusCode == http.StatusProxyAuthRequired:
		e.Mend = "it wants to know who asks and offers " + schemes(resp) +
			"; Basic is given as http://user:password@host:port, or have the relay's host exempted"
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusMethodNotAllowed:
		e.Mend = "have the relay's host and port 443 allowed for CONNECT"
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
	var auth *proxy.Auth
	if p.User != nil {
		password, _ := p.User.Password()
		auth = &proxy.Auth{User: p.User.Username(), Password: password}
	}
	what := "pass through the proxy " + shown(p)
	s, err := proxy.SOCKS5("tcp", hostPort(p), auth, &net.Dialer{Timeout: tcpTimeout})
	if err != nil {
		return nil, dialFailed(what, "", err)
	}
	conn, err := s.(proxy.ContextDialer).DialContext(ctx, "tcp", target)
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
