package connector

import (
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	requestIDHeader = "X-Request-Id"
	// defaultKeyHeader is where a caller shows its key if the connector names no other place.
	defaultKeyHeader = "X-Api-Key"

	// maxFields bounds the header fields of a request, maxTrailers the trailers of a message. A link takes more.
	maxFields   = 1000
	maxTrailers = 100
)

// hopByHop says whether a field concerns one hop alone (RFC 9110 section 7.6.1), under its canonical name. Proxy,
// though no header of any standard, is among them for CVE-2016-5385, HTTP2-Settings for h2c smuggling.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Proxy":
		return true
	}
	return strings.HasPrefix(name, "Proxy-")
}

// ours says whether the relay alone may set a field on a request. A caller's own is dropped, in any spelling.
func ours(name string) bool {
	switch name {
	case "Forwarded", "X-Real-Ip", requestIDHeader, "Host", "Content-Length", "Expect":
		return true
	case "Remote-User", "X-Remote-User":
		// Upstreams behind a proxy that authenticates believe who these name; X-Forwarded-User is among those below.
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Sallyport-") ||
		strings.HasPrefix(name, "X-Ms-Client-Principal")
}

// endToEnd says whether a field stays even if the caller's Connection names it. Were these removed on the caller's
// word, a request could lose the identity that it was checked for (as in capsule-proxy issue 188).
func endToEnd(name string) bool {
	return name == "Authorization" || name == "Cookie" || strings.HasPrefix(name, "Content-")
}

// cleanRequest removes from a caller's fields everything that must not reach the agent: hop-by-hop fields, those that
// Connection names, the relay's own (which are set afterwards, so that nothing can remove them), and the one that
// carried the key.
func cleanRequest(h http.Header, keyHeader string) {
	removeNamed(h)
	for name := range h {
		if strings.IndexByte(name, '_') >= 0 {
			// CGI and WSGI upstreams read X_Forwarded_For as X-Forwarded-For (CVE-2025-64484).
			plain := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
			if hopByHop(plain) || ours(plain) || plain == keyHeader {
				delete(h, name)
			}
			continue
		}
		if hopByHop(name) || ours(name) || name == keyHeader {
			delete(h, name)
		}
	}
}

// removeNamed removes the fields that Connection names. All its lines are read: ReverseProxy once read the first alone,
// and an empty first line kept the rest alive (golang/go#46313).
func removeNamed(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			if name != "" && !endToEnd(name) {
				delete(h, name)
			}
		}
	}
}

// headerSize is the size of the fields as HTTP/1.1 would write them, and how many there are.
func headerSize(h http.Header) (size, fields int) {
	for name, values := range h {
		fields += len(values)
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	return size, fields
}

// originWide says whether a response field speaks for the whole origin. On a host that connectors share by path, one
// upstream must not speak for the others.
func originWide(name string) bool {
	switch name {
	case "Service-Worker-Allowed", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "Nel", "Report-To",
		"Reporting-Endpoints", "Origin-Agent-Cluster", "Public-Key-Pins", "Expect-Ct":
		return true
	}
	return false
}

// copyResponse hands an answer's fields to the caller, without those that must not leave: hop-by-hop ones, those that
// are no valid HTTP, origin-wide ones on a shared host, Windows authentication's challenges and the upstream's own
// CORS, which is the relay's to decide. shared is the connector's path on a shared host ("/plant1/orders/"), or "".
func copyResponse(dst, src http.Header, shared string) {
	removeNamed(src)
	for name, values := range src {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if hopByHop(name) || !httpguts.ValidHeaderFieldName(name) || strings.HasPrefix(name, "Access-Control-") {
			continue
		}
		if shared != "" && originWide(name) {
			continue
		}
		switch name {
		case "Content-Length", requestIDHeader, "Persistent-Auth":
			continue
		case "Set-Cookie":
			values = confineCookies(values, shared)
		case "Www-Authenticate":
			values = withoutWindows(values)
		}
		if values = valid(values); len(values) > 0 {
			dst[name] = append(dst[name], values...)
		}
	}
	if _, typed := dst["Content-Type"]; !typed {
		// net/http would guess a type from the body; an upstream that gave none gave none.
		dst["Content-Type"] = nil
	}
}

// valid drops values that cannot be written as a field's value. CR and LF are among them, so no upstream can add
// fields or a second answer.
func valid(values []string) []string {
	for i, v := range values {
		if httpguts.ValidHeaderFieldValue(v) {
			continue
		}
		kept := values[:i:i]
		for _, v := range values[i+1:] {
			if httpguts.ValidHeaderFieldValue(v) {
				kept = append(kept, v)
			}
		}
		return kept
	}
	return values
}

// confineCookies takes the domain from cookies, so that none reaches a parent domain, and on a shared host confines
// them to the connector's path. Those that cannot be confined are dropped there; see hostCookie.
func confineCookies(cookies []string, shared string) []string {
	out := make([]string, 0, len(cookies))
	for _, cookie := range cookies {
		if shared != "" && hostCookie(cookie) {
			continue
		}
		var b strings.Builder
		for i, part := range strings.Split(cookie, ";") {
			name, _, _ := strings.Cut(part, "=")
			name = strings.Trim(name, " \t")
			if i > 0 && (strings.EqualFold(name, "Domain") || shared != "" && strings.EqualFold(name, "Path")) {
				continue
			}
			if i > 0 {
				b.WriteByte(';')
			}
			b.WriteString(part)
		}
		if shared != "" {
			b.WriteString("; Path=" + shared)
		}
		out = append(out, b.String())
	}
	return out
}

// hostCookie says whether a cookie claims its whole host (RFC 6265bis section 4.1.3.2). Browsers take a __Host- cookie with
// Path=/ only, and then send it to every connector on the host; under another name the API would not know it again.
func hostCookie(cookie string) bool {
	const prefix = "__Host-"
	cookie = strings.TrimLeft(cookie, " \t")
	return len(cookie) >= len(prefix) && strings.EqualFold(cookie[:len(prefix)], prefix)
}

// withoutWindows removes the challenges Negotiate, NTLM and Kerberos: Windows authentication happens inside, and a
// caller that answered one would send a logon into the cloud. One line can hold several challenges, and the commas
// between them look like the ones between parameters (RFC 9110 section 11.6.1).
func withoutWindows(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		var kept []string
		dropping := false
		for _, item := range splitList(line) {
			if scheme, begins := beginsChallenge(item); begins {
				dropping = windowsScheme(scheme)
			}
			if !dropping {
				kept = append(kept, item)
			}
		}
		if len(kept) > 0 {
			out = append(out, strings.Join(kept, ", "))
		}
	}
	return out
}

func windowsScheme(scheme string) bool {
	return strings.EqualFold(scheme, "Negotiate") || strings.EqualFold(scheme, "NTLM") || strings.EqualFold(scheme, "Kerberos")
}

// beginsChallenge tells a new challenge ("Basic realm=x", "NTLM", "Negotiate YII=") from one more parameter of the one
// before ("charset=UTF-8", "qop = auth").
func beginsChallenge(item string) (scheme string, begins bool) {
	end := strings.IndexAny(item, " \t=")
	if end < 0 {
		return item, item != ""
	}
	if item[end] == '=' {
		return "", false
	}
	if strings.HasPrefix(strings.TrimLeft(item[end:], " \t"), "=") {
		return "", false
	}
	return item[:end], true
}

// splitList splits a field's value at commas that are not inside a quoted string; empty items are gone.
func splitList(s string) (items []string) {
	start, quoted := 0, false
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ',' && !quoted:
			if item := strings.Trim(s[start:i], " \t"); item != "" {
				items = append(items, item)
			}
			start = i + 1
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		}
	}
	return items
}

// trailerNames are the announced trailers that may be sent on; nil if there are none.
func trailerNames(announced []string) (names []string) {
	for _, line := range announced {
		for name := range strings.SplitSeq(line, ",") {
			name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			if allowedTrailer(name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// allowedTrailer bars the fields that frame, route, authenticate or describe a message (RFC 9110 section 6.5.1), which
// a recipient might merge into the head, and those that the relay removes from heads.
func allowedTrailer(name string) bool {
	return httpguts.ValidTrailerHeader(name) && httpguts.ValidHeaderFieldName(name) && !hopByHop(name) && !ours(name) &&
		!originWide(name) && !strings.HasPrefix(name, "Access-Control-") && name != "Set-Cookie" && name != "Cookie" &&
		name != "Location"
}

// cleanTrailer is what of t may be sent on; nil if nothing.
func cleanTrailer(t http.Header) http.Header {
	var out http.Header
	for name, values := range t {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if values = valid(values); len(values) == 0 || !allowedTrailer(name) || len(out) == maxTrailers {
			continue
		}
		if out == nil {
			out = make(http.Header, len(t))
		}
		out[name] = values
	}
	return out
}
