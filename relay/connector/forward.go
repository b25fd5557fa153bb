package connector

import (
	"net/http"
	"net/netip"
	"strings"
)

// Trusted holds the networks of the proxies in front of the relay whose X-Forwarded-* fields it believes.
type Trusted []netip.Prefix

// contains says whether addr belongs to such a proxy.
func (t Trusted) contains(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, p := range t {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// forwarded is what the relay tells the upstream about the caller's side.
type forwarded struct {
	remote string // the caller's address: the nearest that is no trusted proxy
	chain  string // X-Forwarded-For
	proto  string // X-Forwarded-Proto, "" if the balancer said nothing
	host   string // X-Forwarded-Host, the same
}

// forwardedOf reads them. What a caller itself claims is believed only if the connection comes from a trusted proxy.
func (t Trusted) forwardedOf(r *http.Request) forwarded {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return forwarded{remote: r.RemoteAddr, chain: r.RemoteAddr}
	}
	addr := peer.Addr().Unmap().WithZone("")
	f := forwarded{remote: addr.String()}
	f.chain = f.remote
	if len(t) == 0 || !t.contains(addr) {
		return f
	}
	if prior := r.Header["X-Forwarded-For"]; len(prior) > 0 {
		claimed := strings.Join(prior, ", ")
		f.remote = t.nearest(claimed, f.remote)
		f.chain = claimed + ", " + f.chain
	}
	if proto := single(r.Header["X-Forwarded-Proto"]); proto == "http" || proto == "https" {
		f.proto = proto
	}
	f.host = sanePart(single(r.Header["X-Forwarded-Host"]))
	return f
}

// Remote is the caller's address: the connection's, or what a trusted proxy says.
func (t Trusted) Remote(r *http.Request) string { return t.forwardedOf(r).remote }

// Host is the host that the caller asked for: the balancer's word where it is believed, else the request's own.
func (t Trusted) Host(r *http.Request) string {
	if len(t) > 0 && len(r.Header["X-Forwarded-Host"]) > 0 {
		if f := t.forwardedOf(r); f.host != "" {
			return f.host
		}
	}
	return r.Host
}

// Secure reports whether the caller's side speaks TLS: with the relay itself, or with a trusted proxy, which says so.
func (t Trusted) Secure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(t.forwardedOf(r).proto, "https")
}

// nearest walks the chain from its end to the first address that is not one of ours. Everything before that one is the
// caller's own claim.
func (t Trusted) nearest(chain, peer string) string {
	hops := strings.Split(chain, ",")
	for i := len(hops) - 1; i >= 0; i-- {
		addr, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			return peer
		}
		if peer = addr.String(); !t.contains(addr) {
			return peer
		}
	}
	return peer
}

// parseHop reads an address, with or without a port: Azure's Application Gateway writes one.
func parseHop(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap().WithZone(""), err
}

// single is the value of a field that occurs once and holds one item, else "".
func single(values []string) string {
	if len(values) != 1 || strings.ContainsAny(values[0], ", \t") {
		return ""
	}
	return values[0]
}

// sanePart lets pass what can be a host with a port, else "".
func sanePart(host string) string {
	if len(host) > 255 {
		return ""
	}
	for i := range len(host) {
		c := host[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(".-:[]", c) >= 0) {
			return ""
		}
	}
	return host
}
