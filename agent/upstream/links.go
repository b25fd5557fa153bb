package upstream

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// links makes what an answer says about the API's own address public. The relay never learns an internal address:
//
//   - A link to the API (absolute, or from the root, below the base path) becomes one to the connector.
//   - A relative link is left alone: connector and API have the same shape.
//   - A link to a host in Config.LinkHosts is left alone.
//   - Any other link is removed: to the API's host outside of the base path, to any other host, or to what cannot be read.
//     Nobody outside could follow one to a host inside, and it would tell where things are; which hosts are inside, only
//     the agent's admin knows. What was removed goes to the agent's log, with the hosts.
//   - A cookie loses its Domain, and its Path becomes one of the connector's.
//
// Bodies are bodylinks.go's matter.
type links struct {
	scheme, host, port string
	base               string // escaped path without a trailing slash
	pass               map[string]bool
}

func newLinks(api *url.URL, pass []string) *links {
	l := &links{
		scheme: strings.ToLower(api.Scheme), host: strings.ToLower(api.Hostname()), port: api.Port(),
		base: strings.TrimRight(api.EscapedPath(), "/"), pass: make(map[string]bool),
	}
	if l.port == "" {
		l.port = defaultPort(l.scheme)
	}
	for _, h := range pass {
		l.pass[strings.ToLower(h)] = true
	}
	return l
}

// linkFields are the fields whose whole value is one link. The later ones are those of asynchronous operations and of
// OData.
var linkFields = [...]string{
	"Location", "Content-Location", "Operation-Location", "Azure-Asyncoperation", "Odata-Entityid", "Dataserviceid",
}

// rewrite makes the links of an answer's head public. It returns the names of the fields in which a link was removed, and
// the hosts that these fields name.
func (l *links) rewrite(h http.Header, public string) (removed, hosts []string) {
	each := func(name string, change func(string) (string, bool)) {
		vv, ok := h[name]
		if !ok {
			return
		}
		kept := vv[:0]
		for _, v := range vv {
			before := v
			v, whole := change(v)
			if !whole {
				removed = append(removed, name)
				hosts = append(hosts, l.otherHosts(before)...)
			}
			if v != "" {
				kept = append(kept, v)
			}
		}
		if h[name] = kept; len(kept) == 0 {
			delete(h, name)
		}
	}
	for _, name := range linkFields {
		each(name, func(v string) (string, bool) { return l.public(v, public) })
	}
	each("Link", func(v string) (string, bool) { return l.linkField(v, public) })
	each("Refresh", func(v string) (string, bool) { return l.refresh(v, public) })
	each("Set-Cookie", func(v string) (string, bool) { return l.cookie(v, public), true })
	return removed, hosts
}

// public is one link as the connector's callers may see it; ok is false if it must not leave.
func (l *links) public(ref, base string) (out string, ok bool) {
	ref = strings.TrimSpace(ref)
	if strings.ContainsAny(ref, "\\\t") {
		return "", false // browsers read a backslash as a slash
	}
	path := ref
	switch scheme, rest, absolute := cutScheme(ref); {
	case absolute || strings.HasPrefix(ref, "//"):
		if !absolute {
			scheme, rest = l.scheme, ref
		}
		host, tail, web := cutAuthority(rest)
		if !web || scheme != "http" && scheme != "https" {
			return "", false
		}
		if l.pass[host] {
			return ref, true
		}
		if !l.isAPI(scheme, host) {
			return "", false
		}
		path = tail
	case !strings.HasPrefix(ref, "/"):
		return ref, true
	}
	below, ok := l.below(path)
	if !ok {
		return "", false
	}
	return base + below, true
}

// maxOtherHosts bounds what one answer can put into a log line.
const maxOtherHosts = 4

// otherHosts are the hosts in a field's value that are neither the API's nor passed on, for the log: Config.LinkHosts
// would let them through.
func (l *links) otherHosts(value string) (hosts []string) {
	for len(hosts) < maxOtherHosts {
		at := strings.Index(value, "//")
		if at < 0 {
			break
		}
		value = value[at:]
		if end := strings.IndexAny(value[2:], ">\"', ;\\"); end >= 0 {
			value = value[:end+2] + "/" + value[end+2:]
		}
		host, tail, ok := cutAuthority(value)
		if value = tail; ok && !l.pass[host] && !l.isAPI("http", host) && !l.isAPI("https", host) && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// cutScheme splits "http://x" at the colon, if ref begins with a scheme (RFC 3986 section 3.1).
func cutScheme(ref string) (scheme, rest string, ok bool) {
	i := strings.IndexAny(ref, ":/?#")
	if i <= 0 || ref[i] != ':' {
		return "", ref, false
	}
	return strings.ToLower(ref[:i]), ref[i+1:], true
}

// cutAuthority splits "//user@host:port/path" into host:port and what follows.
func cutAuthority(s string) (host, tail string, ok bool) {
	s, ok = strings.CutPrefix(s, "//")
	if !ok {
		return "", "", false
	}
	end := strings.IndexAny(s, "/?#")
	if end < 0 {
		end = len(s)
	}
	host, tail = s[:end], s[end:]
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	return strings.ToLower(host), tail, host != ""
}

// isAPI compares a link's host with the API's. A port that is the scheme's matches the other scheme's too: behind a
// balancer that ends TLS, an API writes http links for its https address.
func (l *links) isAPI(scheme, hostport string) bool {
	u := url.URL{Host: hostport}
	host, port := strings.TrimSuffix(u.Hostname(), "."), u.Port()
	if host != strings.TrimSuffix(l.host, ".") {
		return false
	}
	if port == "" {
		port = defaultPort(scheme)
	}
	return port == l.port || port == defaultPort(scheme) && l.port == defaultPort(l.scheme)
}

// below cuts the API's base path off a path, at a segment's end.
func (l *links) below(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, l.base)
	if !ok || rest != "" && !strings.ContainsRune("/?#", rune(rest[0])) || climbs(rest) {
		return "", false
	}
	return rest, true
}

// climbs says that a path has a dot segment: resolved below another base it would lead elsewhere.
func climbs(path string) bool {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	plain := strings.NewReplacer("%2e", ".", "%2E", ".").Replace(path)
	for seg := range strings.SplitSeq(plain, "/") {
		if seg == ".." {
			return true
		}
	}
	return false
}

// linkField rewrites a Link field (RFC 8288 section 3): links in angle brackets, each with parameters. One that must
// not leave goes with its parameters.
func (l *links) linkField(v, base string) (out string, whole bool) {
	whole = true
	var kept []string
	for _, entry := range splitList(v, ',') {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		end := strings.IndexByte(entry, '>')
		if entry[0] != '<' || end < 0 {
			whole = false
			continue
		}
		target, ok := l.public(entry[1:end], base)
		params, ok2 := l.linkParams(entry[end+1:], base)
		if !ok || !ok2 {
			whole = false
			continue
		}
		kept = append(kept, "<"+target+">"+params)
	}
	return strings.Join(kept, ", "), whole
}

// linkParams rewrites the anchor among a link's parameters; the others are names and titles.
func (l *links) linkParams(params, base string) (string, bool) {
	parts := splitList(params, ';')
	for i, p := range parts {
		name, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "anchor") {
			continue
		}
		anchor, ok := l.public(strings.Trim(strings.TrimSpace(value), `"`), base)
		if !ok {
			return "", false
		}
		parts[i] = name + `="` + anchor + `"`
	}
	return strings.Join(parts, ";"), true
}

// refresh rewrites "5; url=http://...".
func (l *links) refresh(v, base string) (out string, whole bool) {
	seconds, rest, ok := strings.Cut(v, ";")
	if !ok {
		if seconds, rest, ok = strings.Cut(v, ","); !ok {
			return v, true
		}
	}
	name, ref, ok := strings.Cut(rest, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "url") {
		return "", false
	}
	ref, ok = l.public(strings.Trim(strings.TrimSpace(ref), `"'`), base)
	if !ok {
		return "", false
	}
	return seconds + "; url=" + ref, true
}

// cookie takes Domain out of a Set-Cookie value and moves Path below the connector.
func (l *links) cookie(v, base string) string {
	public := "/"
	if u, err := url.Parse(base); err == nil && u.Path != "" {
		public = u.EscapedPath()
	}
	parts := strings.Split(v, ";")
	kept := parts[:1]
	for _, p := range parts[1:] {
		name, value, _ := strings.Cut(p, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "domain":
			continue
		case "path":
			p = " Path=" + l.cookiePath(strings.TrimSpace(value), public)
		}
		kept = append(kept, p)
	}
	return strings.Join(kept, ";")
}

func (l *links) cookiePath(path, public string) string {
	below, ok := l.below(path)
	if !ok || strings.ContainsAny(below, "?#") {
		below = "/" // for a wider path than the API's own: the whole connector
	}
	if strings.HasSuffix(public, "/") {
		return public + strings.TrimPrefix(below, "/")
	}
	return public + below
}
