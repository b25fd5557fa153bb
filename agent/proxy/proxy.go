// Package proxy finds out through which proxy a URL is reached: by the environment (HTTPS_PROXY, NO_PROXY) or by the settings
// of Windows (WinHTTP, with PAC files and WPAD).
//
// It only answers that question. agent/link connects through the proxy and signs on to it.
//
//	find, err := proxy.Environment(httpproxy.FromEnvironment()) // nil if no proxy is set
//	if find == nil {
//		find = proxy.System()
//	}
//	via, err := find(relayURL) // nil: without a proxy
package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// A Func says through which proxy a URL is reached; nil for none. It may ask the system, which takes seconds at most.
type Func func(*url.URL) (*url.URL, error)

// Schemes are the proxies that agent/link knows.
func Schemes() []string { return []string{"http", "https", "socks5"} }

// Environment is what the variables say: nil if they name no proxy for https. NO_PROXY takes names with what is below
// them (corp.example, .corp.example, *.corp.example), addresses, networks (10.0.0.0/8, fd00::/8), each but networks also
// with a port, and * for everything, between commas or blanks. A dot at the end of a name means nothing, and IPv6 addresses
// may stand in brackets. What is on this machine is never reached through a proxy. Errors do not quote passwords.
func Environment(c *httpproxy.Config) (Func, error) {
	if strings.TrimSpace(c.HTTPSProxy) == "" {
		return nil, nil
	}
	own := *c
	own.HTTPSProxy = strings.TrimSpace(c.HTTPSProxy)
	if !strings.Contains(own.HTTPSProxy, "://") {
		own.HTTPSProxy = "http://" + own.HTTPSProxy
	}
	// httpproxy takes what it cannot read for no proxy at all, and the firewall would be blamed.
	u, err := url.Parse(own.HTTPSProxy)
	if err != nil || u.Hostname() == "" || !slices.Contains(Schemes(), u.Scheme) {
		return nil, errors.New("HTTPS_PROXY is not the URL of a proxy (write http://proxy.corp.example:8080; also https:// and socks5://)")
	}
	own.NoProxy = exceptions(c.NoProxy)
	lookup := own.ProxyFunc()
	return func(u *url.URL) (*url.URL, error) { return lookup(withoutDot(u)) }, nil
}

// exceptions writes NO_PROXY the way httpproxy reads it.
func exceptions(list string) string {
	var out []string
	for _, e := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == ';' }) {
		out = append(out, exception(e))
	}
	return strings.Join(out, ",")
}

func exception(e string) string {
	if inner, ok := strings.CutPrefix(e, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]") // httpproxy knows brackets before a port alone
	}
	if _, err := netip.ParseAddr(e); err == nil {
		return e // an IPv6 address without brackets has colons of its own
	}
	if host, port, err := net.SplitHostPort(e); err == nil {
		return net.JoinHostPort(strings.TrimRight(host, "."), port)
	}
	return strings.TrimRight(e, ".")
}

// withoutDot takes the dot from the end of a URL's host: relay.example.com. is the same host.
func withoutDot(u *url.URL) *url.URL {
	host := u.Hostname()
	if !strings.HasSuffix(host, ".") {
		return u
	}
	out := *u
	out.Host = strings.TrimRight(host, ".")
	if p := u.Port(); p != "" {
		out.Host = net.JoinHostPort(out.Host, p)
	}
	return &out
}

// Parse reads the URL of a proxy out of a setting. Its errors do not quote what may be a password.
func Parse(setting string) (*url.URL, error) {
	u, err := url.Parse(setting)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("proxy: %q is not 'system', 'environment', 'none' or a URL such as http://proxy.corp.example:8080", Hide(setting))
	}
	if !slices.Contains(Schemes(), u.Scheme) {
		return nil, fmt.Errorf("proxy: scheme %q is not known; use http, https or socks5", u.Scheme)
	}
	return u, nil
}

// Hide cuts user info out of a string that is not a URL.
func Hide(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "***@" + s[i+1:]
	}
	return s
}
