package connector

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"sallyport/relay/gateway"
)

const (
	maxHosts   = 32
	maxOrigins = 64
	maxBody    = 1 << 40
	maxTimeout = time.Hour
)

// Invalid says everything that is wrong with a connector.
type Invalid struct{ Problems []string }

func (e *Invalid) Error() string { return strings.Join(e.Problems, "; ") }

func (e *Invalid) add(format string, v ...any) {
	e.Problems = append(e.Problems, fmt.Sprintf(format, v...))
}

// normal fills in defaults and brings names to the form in which they are compared, or says what is wrong.
func (c Connector) normal() (Connector, error) {
	bad := &Invalid{}
	if c.API == "" {
		c.API = c.Name
	}
	for what, name := range map[string]string{"gateway": c.Gateway, "connector": c.Name, "API": c.API} {
		if err := gateway.CheckName(name); err != nil {
			bad.add("%s: %v", what, err)
		}
	}
	c.Auth = slices.Clone(c.Auth)
	c.checkAuth(bad)
	if c.KeyHeader != "" {
		c.KeyHeader = http.CanonicalHeaderKey(c.KeyHeader)
	}
	checkNetworks(c.From, "connector", bad)
	c.Hosts = c.normalHosts(bad)
	c.CORSOrigins = c.normalOrigins(bad)
	if c.BodyLimit < 0 || c.BodyLimit > maxBody {
		bad.add("body limit: %d bytes is out of bounds (0 to 1 TiB)", c.BodyLimit)
	}
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		bad.add("timeout: %s is out of bounds (0 to %s)", c.Timeout, maxTimeout)
	}
	if c.OutcomeUnknown == "" {
		c.OutcomeUnknown = OutcomeAuto
	}
	if !slices.Contains([]string{OutcomeAuto, OutcomeConflict, OutcomePlain}, c.OutcomeUnknown) {
		bad.add("outcome-unknown: %q is not one of auto, 409, 504", c.OutcomeUnknown)
	}
	c.checkOutlive(bad)
	if len(bad.Problems) > 0 {
		slices.Sort(bad.Problems)
		return c, bad
	}
	return c, nil
}

func (c *Connector) checkAuth(bad *Invalid) {
	if len(c.Auth) == 0 {
		bad.add("auth: say who may call: key (an API key), oauth2 (access tokens), basic (user name and password), windows (the caller's Windows logon, judged inside), or none (anybody who knows the URL)")
	}
	for i, a := range c.Auth {
		c.Auth[i] = normalWay(a, bad)
		if slices.Contains(c.Auth[:i], c.Auth[i]) {
			bad.add("auth: %s is given twice", a)
		}
	}
	if slices.Contains(c.Auth, AuthNone) && len(c.Auth) > 1 {
		bad.add("auth: none and the other ways exclude each other: with none, a caller who shows nothing gets in, so the rest protects nothing")
	}
	for _, a := range c.Auth {
		if first, _, joined := strings.Cut(a, "+"); joined && slices.ContainsFunc(strings.Split(a, "+"), func(part string) bool {
			return slices.Contains(c.Auth, part)
		}) {
			bad.add("auth: %s demands nothing where %s or another part of it is enough by itself", a, first)
		}
	}
	if !c.Takes(AuthKey) && (c.KeyHeader != "" || c.KeyQuery != "") {
		bad.add("auth: a header or query parameter for the key makes sense with key only")
	}
	c.checkOAuth2(bad)
	c.checkWindows(bad)
	if c.Concurrent < 0 {
		bad.add("concurrent: %d is negative; leave it out for the relay's own bound", c.Concurrent)
	}
	if c.KeyHeader != "" {
		if reason := badKeyHeader(c.KeyHeader); reason != "" {
			bad.add("header: %q cannot carry the key: %s", c.KeyHeader, reason)
		}
	}
	if c.KeyQuery != "" && (len(c.KeyQuery) > 64 || !httpguts.ValidHeaderFieldName(c.KeyQuery) || strings.ContainsAny(c.KeyQuery, "&+%#'")) {
		bad.add("query: %.80q cannot be the name of the key's parameter: use letters, digits, - and _", c.KeyQuery)
	}
}

// checkOAuth2 brings the rule for tokens to its normal form, if the connector takes any.
func (c *Connector) checkOAuth2(bad *Invalid) {
	if !c.Takes(AuthOAuth2) {
		if !reflect.ValueOf(c.OAuth2).IsZero() {
			bad.add("auth: issuer, entra-tenant, audience and the other settings for tokens make sense with oauth2 only")
		}
		return
	}
	rule, problems := c.OAuth2.Normal()
	c.OAuth2 = rule
	bad.Problems = append(bad.Problems, problems...)
}

// normalWay brings one way to call ("basic+key" is "key+basic") to the form in which ways are compared.
func normalWay(way string, bad *Invalid) string {
	parts := strings.Split(way, "+")
	order := []string{AuthNone, AuthKey, AuthOAuth2, AuthBasic, AuthWindows} // a key is cheap to check, a password is not
	slices.SortStableFunc(parts, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	for i, part := range parts {
		switch {
		case !slices.Contains(order, part):
			bad.add("auth: %q is not known; use key, oauth2, basic, windows, two joined such as key+oauth2 (both), or none", part)
		case i > 0 && part == parts[i-1]:
			bad.add("auth: %s is joined with itself", part)
		case part == AuthNone && len(parts) > 1:
			bad.add("auth: none cannot be joined with anything")
		case part == AuthWindows && (slices.Contains(parts, AuthOAuth2) || slices.Contains(parts, AuthBasic)):
			bad.add("auth: windows cannot be joined with oauth2 or basic: all are sent in the one field Authorization")
		case part == AuthBasic && slices.Contains(parts, AuthOAuth2):
			bad.add("auth: oauth2 and basic cannot be joined: both are sent in the one field Authorization")
		}
	}
	return strings.Join(parts, "+")
}

// badKeyHeader says why a header cannot carry a key: it has a meaning of its own on the way, so that it would be changed,
// removed, or read by somebody else.
func badKeyHeader(name string) string {
	if len(name) > 64 || !httpguts.ValidHeaderFieldName(name) || strings.Contains(name, "_") {
		return "use letters, digits and hyphens"
	}
	canonical := http.CanonicalHeaderKey(name)
	switch canonical {
	case "Authorization":
		return "it belongs to Basic and bearer credentials; take X-API-Key or a name of your own"
	case "Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Date",
		"Expect", "Forwarded", "Host", "Keep-Alive", "Max-Forwards", "Origin", "Proxy-Authorization", "Proxy-Connection",
		"Range", "Referer", "Set-Cookie", "Te", "Trailer", "Traceparent", "Tracestate", "Transfer-Encoding", "Upgrade",
		"User-Agent", "Via", "X-Request-Id", "X-Real-Ip":
		return "HTTP gives it a meaning of its own"
	}
	for _, prefix := range []string{"X-Forwarded-", "Access-Control-", "Sec-", "If-", "X-Ms-Workflow-"} {
		if strings.HasPrefix(canonical, prefix) {
			return "HTTP gives it a meaning of its own"
		}
	}
	return ""
}

func (c *Connector) normalHosts(bad *Invalid) []string {
	if len(c.Hosts) > maxHosts {
		bad.add("host: %d host names; a connector can have %d", len(c.Hosts), maxHosts)
		return nil
	}
	var out []string
	for _, h := range c.Hosts {
		lower := strings.ToLower(strings.TrimSpace(h))
		switch {
		case !validHost(lower):
			bad.add("host: %.100q is not a host name such as orders.example.com (no scheme, port, path or wildcard)", h)
		case slices.Contains(out, lower):
			bad.add("host: %s is given twice", lower)
		default:
			out = append(out, lower)
		}
	}
	return out
}

// validHost accepts names of two labels or more (RFC 1123 section 2.1) that are not addresses.
func validHost(h string) bool {
	labels := strings.Split(h, ".")
	if len(h) > 253 || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if gateway.CheckName(l) != nil {
			return false
		}
	}
	return strings.ContainsFunc(labels[len(labels)-1], func(r rune) bool { return r >= 'a' && r <= 'z' })
}

func (c *Connector) normalOrigins(bad *Invalid) []string {
	if len(c.CORSOrigins) > maxOrigins {
		bad.add("cors-origin: %d origins; a connector can have %d", len(c.CORSOrigins), maxOrigins)
		return nil
	}
	var out []string
	for _, o := range c.CORSOrigins {
		if o == "*" {
			if len(c.CORSOrigins) > 1 {
				bad.add("cors-origin: * means any origin; give no other beside it")
			}
			return []string{"*"}
		}
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(o, "*?#") {
			bad.add("cors-origin: %.100q is not an origin such as https://app.example.com", o)
			continue
		}
		out = append(out, strings.ToLower(u.Scheme+"://"+u.Host))
	}
	return out
}
