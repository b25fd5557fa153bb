package relay

import (
	"strings"
)

// A target is a request target (RFC 9112 section 3.2), split by bytes. Nothing in it is decoded, cleaned or joined.
type target struct {
	// path is origin-form: "/plant1/orders/7?full=1".
	path string
	// absolute says that the caller named an authority in the target, which then is the request's host.
	absolute bool
}

// parseTarget reads the forms that name something a relay can serve: origin-form and absolute-form. "*" and an
// authority alone (CONNECT) are not ok; nor is user information in an authority, which would be a credential in a URL.
func parseTarget(raw string) (t target, ok bool) {
	if strings.HasPrefix(raw, "/") {
		return target{path: raw}, true
	}
	rest, ok := cutScheme(raw)
	if !ok {
		return target{}, false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	if authority == "" || strings.Contains(authority, "@") {
		return target{}, false
	}
	t = target{path: rest[end:], absolute: true}
	if !strings.HasPrefix(t.path, "/") {
		t.path = "/" + t.path // RFC 9112 section 3.2.1: an empty path is "/"
	}
	return t, true
}

func cutScheme(raw string) (rest string, ok bool) {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(raw) >= len(scheme) && strings.EqualFold(raw[:len(scheme)], scheme) {
			return raw[len(scheme):], true
		}
	}
	return "", false
}

// splitConnector splits "/plant1/orders/7?full=1" into "plant1", "orders" and "/7?full=1". The names are the caller's
// bytes: a name that is encoded in any way is no connector's name. What follows them is not looked at. A connector's
// address without the final slash is its "/".
func splitConnector(path string) (gateway, name, rest string, ok bool) {
	gateway, after, found := strings.Cut(path[1:], "/")
	if !found || gateway == "" {
		return "", "", "", false
	}
	end := strings.IndexAny(after, "/?")
	if end < 0 {
		end = len(after)
	}
	name, rest = after[:end], after[end:]
	if name == "" || strings.Contains(gateway, "?") {
		return "", "", "", false
	}
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return gateway, name, rest, true
}

// hostName is the name in a Host field or an authority, as connectors are looked up by: without a port and a final
// dot, in lower case. "" for an IPv6 address, which is no connector's host.
func hostName(host string) string {
	if strings.HasPrefix(host, "[") {
		return ""
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
