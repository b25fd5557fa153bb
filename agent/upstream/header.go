package upstream

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ownField says that a field belongs to one connection or is written by this package itself. Names are canonical.
func ownField(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Proxy-Authentication-Info", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
		"Host", "Content-Length", "Expect":
		return true
	}
	return false
}

// connectionNames are the fields that a message declares its own hop's (RFC 9110 section 7.6.1).
func connectionNames(h http.Header) []string {
	var names []string
	for _, v := range h["Connection"] {
		for f := range strings.SplitSeq(v, ",") {
			if f = textproto.TrimString(f); f != "" {
				names = append(names, http.CanonicalHeaderKey(f))
			}
		}
	}
	return names
}

// keptFromConnection are fields that no Connection field may remove: a caller could otherwise cut out an identity or
// the length of a body.
func keptFromConnection(name string) bool {
	switch name {
	case "Authorization", "Content-Length", "Content-Type", "Content-Encoding", "Host", "X-Request-Id":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

// dropHop removes the fields of one hop from an answer.
func dropHop(h http.Header) {
	for _, n := range connectionNames(h) {
		if !keptFromConnection(n) {
			delete(h, n)
		}
	}
	for n := range h {
		switch n {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info",
			"Te", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Alt-Svc", "Via", "Persistent-Auth":
			delete(h, n)
		}
	}
}

// upgradeOf is the protocol that a request asks to switch to, "" for none. h2c is never asked for: it would turn the
// connection into one whose requests nobody checks.
func upgradeOf(h http.Header) string {
	if len(h["Upgrade"]) == 0 || !httpguts.HeaderValuesContainsToken(h["Connection"], "upgrade") {
		return ""
	}
	return cleanUpgrade(h.Get("Upgrade"))
}

func cleanUpgrade(protocol string) string {
	if !httpguts.ValidHeaderFieldName(strings.ReplaceAll(protocol, "/", "")) {
		return ""
	}
	if strings.EqualFold(protocol, "h2c") || strings.EqualFold(protocol, "h2") || strings.HasPrefix(strings.ToLower(protocol), "http/") {
		return ""
	}
	return protocol
}

// forbiddenTrailer names fields that must not be in a trailer (RFC 9110 section 6.5.1): framing, routing, credentials
// and what decides how the body is read.
func forbiddenTrailer(name string) bool {
	if ownField(name) || strings.HasPrefix(name, "X-Forwarded-") {
		return true
	}
	switch name {
	case "Authorization", "Cookie", "Set-Cookie", "Www-Authenticate", "Authentication-Info", "Content-Encoding",
		"Content-Type", "Content-Range", "Cache-Control", "Location", "Content-Location", "Max-Forwards", "Range",
		"Age", "Expires", "Date", "Vary", "Retry-After", "Warning", "Pragma", "Link", "Refresh", "Via":
		return true
	}
	return !httpguts.ValidHeaderFieldName(name)
}

// allowedTrailer is a copy of the fields that may be in a trailer; nil if there is none.
func allowedTrailer(h http.Header) http.Header {
	var out http.Header
	for k, vv := range h {
		k = http.CanonicalHeaderKey(k)
		vv = slices.DeleteFunc(slices.Clone(vv), func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) })
		if forbiddenTrailer(k) || len(vv) == 0 {
			continue
		}
		if out == nil {
			out = make(http.Header)
		}
		out[k] = vv
	}
	return out
}

// announcedTrailer reads a Trailer field into a map with the allowed names and no values, as http.Request.Trailer is.
func announcedTrailer(h http.Header) http.Header {
	var out http.Header
	for _, v := range h["Trailer"] {
		for f := range strings.SplitSeq(v, ",") {
			f = http.CanonicalHeaderKey(textproto.TrimString(f))
			if f == "" || forbiddenTrailer(f) {
				continue
			}
			if out == nil {
				out = make(http.Header)
			}
			out[f] = nil
		}
	}
	return out
}

// stripWindows removes Negotiate and NTLM from WWW-Authenticate: beyond the agent nobody can answer them, and a token
// of the upstream's must not leave.
func stripWindows(h http.Header) {
	values := h["Www-Authenticate"]
	if len(values) == 0 {
		return
	}
	var kept []string
	for _, v := range values {
		var own []string
		for _, ch := range splitChallenges(v) {
			if !isWindows(ch) {
				own = append(own, ch)
			}
		}
		if len(own) > 0 {
			kept = append(kept, strings.Join(own, ", "))
		}
	}
	if kept == nil {
		delete(h, "Www-Authenticate")
		return
	}
	h["Www-Authenticate"] = kept
}

// isWindows says that a challenge or an Authorization value is of a scheme that signs on a connection.
func isWindows(v string) bool {
	scheme, _, _ := strings.Cut(textproto.TrimString(v), " ")
	return strings.EqualFold(scheme, "Negotiate") || strings.EqualFold(scheme, "NTLM") || strings.EqualFold(scheme, "Kerberos")
}

// splitChallenges separates the challenges of one WWW-Authenticate value. A comma separates challenges and also the
// parameters of one (RFC 9110 section 11.6.1); a part that begins with "name=" is a parameter.
func splitChallenges(v string) []string {
	var out []string
	for _, part := range splitList(v, ',') {
		part = textproto.TrimString(part)
		if part == "" {
			continue
		}
		word, rest, spaced := strings.Cut(part, " ")
		isParam := strings.Contains(word, "=") || spaced && strings.HasPrefix(textproto.TrimString(rest), "=")
		if isParam && len(out) > 0 {
			out[len(out)-1] += ", " + part
			continue
		}
		out = append(out, part)
	}
	return out
}

// splitList splits at sep outside of quoted strings and angle brackets.
func splitList(v string, sep byte) []string {
	var out []string
	quoted, angle, start := false, false, 0
	for i := 0; i < len(v); i++ {
		switch b := v[i]; {
		case quoted && b == '\\':
			i++
		case b == '"' && !angle:
			quoted = !quoted
		case b == '<' && !quoted:
			angle = true
		case b == '>' && !quoted:
			angle = false
		case b == sep && !quoted && !angle:
			out = append(out, v[start:i])
			start = i + 1
		}
	}
	return append(out, v[start:])
}

// isEventStream says whether an answer is silent by nature and may last for hours.
func isEventStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}
