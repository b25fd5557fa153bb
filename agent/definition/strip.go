package definition

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// hosts knows which names must not leave: the API's host and those below its domain, the further ones that it was given, and
// whatever can only be an address inside (a private IP address, a name without a dot in a URL).
type hosts struct {
	names  []string // in lower case, with a dot in them: found wherever they stand
	short  []string // without a dot: found where a host stands
	bare   *regexp.Regexp
	labels *regexp.Regexp // nil: no short ones
}

const removed = "(removed)"

var (
	anyURL = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.\-]*:(?://|\\/\\/|%2f%2f)[^\s"'<>()\[\]` + "`" + `|\\,;]+`)
	anyUNC = regexp.MustCompile(`\\\\[A-Za-z0-9][A-Za-z0-9._\-]*\\[^\s"'<>|]*`)
)

func newHosts(u *url.URL, more []string) *hosts {
	h := &hosts{}
	if u != nil {
		h.name(u.Hostname())
		h.domainOf(strings.ToLower(u.Hostname()))
	}
	for _, one := range more {
		h.name(nameOfHost(one))
	}
	slices.Sort(h.names)
	h.names, h.short = slices.Compact(h.names), slices.Compact(slices.Sorted(slices.Values(h.short)))
	if len(h.names) > 0 {
		h.bare = regexp.MustCompile(`(?i)[a-z0-9_.\-]*(?:` + alternatives(h.names) + `)[a-z0-9_.\-]*(?::[0-9]+)?(?:/[^\s"'<>)\]]*)?`)
	}
	if len(h.short) > 0 {
		h.labels = regexp.MustCompile(`(?i)(?:[a-z][a-z0-9+.\-]*:)?(?://|\\/\\/|%2f%2f|@|\\\\)(?:` + alternatives(h.short) + `)(?:[:/?#%\\][^\s"'<>)\]]*|\b)`)
	}
	return h
}

func alternatives(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = regexp.QuoteMeta(s)
	}
	return strings.Join(quoted, "|")
}

func (h *hosts) name(host string) {
	host = strings.Trim(strings.ToLower(host), ".")
	switch {
	case host == "" || strings.ContainsAny(host, "{}"):
	case strings.ContainsAny(host, ".:"):
		h.names = append(h.names, host)
	default:
		h.short = append(h.short, host)
	}
}

// domainOf adds the domain that the API's host is in: its neighbours are as internal as it is. A domain under which anybody
// has names (co.uk) is none of the company's.
func (h *hosts) domainOf(host string) {
	if _, err := netip.ParseAddr(host); err == nil {
		return
	}
	_, domain, _ := strings.Cut(strings.Trim(host, "."), ".")
	first, last, ok := strings.Cut(domain, ".")
	if !ok || len(first) <= 3 && len(last) == 2 {
		return
	}
	h.names = append(h.names, domain)
}

// internal says that a host of a URL is one inside.
func (h *hosts) internal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || strings.ContainsAny(host, "{}$<*") {
		return false // a placeholder
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || slices.Contains(h.names, ip.String())
	}
	for _, n := range h.names {
		if host == n || strings.HasSuffix(host, "."+n) {
			return true
		}
	}
	if !strings.Contains(host, ".") {
		return strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
	}
	switch host[strings.LastIndexByte(host, '.')+1:] {
	case "local", "internal", "intranet", "lan", "corp", "localdomain", "localhost":
		return true
	}
	return false
}

// redact replaces what names a host inside, and says whether there was any.
func (h *hosts) redact(s string) (string, bool) {
	if !strings.ContainsAny(s, ".:%\\@/") {
		return s, false
	}
	was := s
	if strings.Contains(s, ":") {
		s = anyURL.ReplaceAllStringFunc(s, func(u string) string {
			if h.internal(hostIn(u)) {
				return removed
			}
			return u
		})
	}
	if strings.Contains(s, `\\`) {
		s = anyUNC.ReplaceAllLiteralString(s, removed)
	}
	if h.bare != nil && containsFold(s, h.names) {
		s = h.bare.ReplaceAllLiteralString(s, removed)
	}
	if h.labels != nil && containsFold(s, h.short) {
		s = h.labels.ReplaceAllLiteralString(s, removed)
	}
	return s, s != was
}

// hostIn is the host of a URL as anyURL finds it.
func hostIn(u string) string {
	u = strings.NewReplacer(`\/`, "/", "%2f", "/", "%2F", "/", "%3a", ":", "%3A", ":").Replace(u)
	return nameOfHost(hostOf(u))
}

func containsFold(s string, names []string) bool {
	lower := strings.ToLower(s)
	return slices.ContainsFunc(names, func(n string) bool { return strings.Contains(lower, n) })
}

// strip takes every name of a host inside out of a document: out of text it is replaced; a value on which something depends
// goes as a whole.
func (h *hosts) strip(n *node, r *Report) { h.stripAt(n, "", r, false) }

func (h *hosts) stripAt(n *node, at string, r *Report, strict bool) {
	kept := n.kids[:0]
	for i, k := range n.kids {
		where := step(at, n, i)
		if _, found := h.redact(k.key); found {
			shown, _ := h.redact(where)
			r.strip(shown, "its name is that of a host inside")
			continue
		}
		exact := strict || n.kind == isMap && isExact(k.key)
		if k.node.kind != isString {
			h.stripAt(k.node, where, r, exact)
			kept = append(kept, k)
			continue
		}
		text, found := h.redact(k.node.text)
		if found {
			shown, _ := h.redact(where)
			r.strip(shown, "it names a host inside")
			if exact {
				continue
			}
			k.node.text = text
		}
		kept = append(kept, k)
	}
	n.kids = kept
}

// isExact names members whose values are compared or followed, so that a replaced one would be wrong.
func isExact(key string) bool {
	switch key {
	case "enum", "const", "default", "pattern", "format", "$ref", "$id", "$schema", "id", "jsonSchemaDialect", "email", "url", "mapping":
		return true
	}
	return false
}

// leftIn gives a name that is in a document all the same; "" if there is none. It is the last look at what leaves, and it
// does not know what a document looks like.
func (h *hosts) leftIn(body []byte) string {
	lower := strings.ToLower(string(body))
	for _, n := range h.names {
		if strings.Contains(lower, n) {
			return n
		}
	}
	for _, n := range h.short {
		for _, before := range []string{"//", `\/\/`, "%2f%2f"} {
			for rest := lower; ; {
				i := strings.Index(rest, before+n)
				if i < 0 {
					break
				}
				rest = rest[i+len(before)+len(n):]
				if rest == "" || strings.IndexByte("abcdefghijklmnopqrstuvwxyz0123456789-_.", rest[0]) < 0 {
					return n
				}
			}
		}
	}
	return ""
}
