package connector

import (
	"fmt"
	"net/netip"
	"slices"
)

// maxFrom bounds the networks of one key, or of one connector.
const maxFrom = 32

// ParseNetwork reads a network ("10.0.0.0/8") or a single address.
func ParseNetwork(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		return p.Masked(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%.50q is neither a network nor an address; write 10.0.0.0/8", s)
	}
	return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
}

// ParseNetworks reads several.
func ParseNetworks(list []string) (out []netip.Prefix, err error) {
	for _, s := range list {
		p, err := ParseNetwork(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Networks writes them as ParseNetworks reads them.
func Networks(list []netip.Prefix) (out []string) {
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

// checkNetworks refuses what is no list of networks to be called from; whose says of what they are.
func checkNetworks(list []netip.Prefix, whose string, bad *Invalid) {
	if len(list) > maxFrom {
		bad.add("from: %d networks; a %s can have %d", len(list), whose, maxFrom)
	}
	for i, p := range list {
		switch {
		case !p.IsValid() || p != p.Masked() || p.Addr().Is4In6():
			bad.add("from: %s is no network; write 10.0.0.0/8, with zeros after the network's bits", p)
		case p.Bits() == 0:
			bad.add("from: %s is everybody; leave it out", p)
		case slices.Contains(list[:i], p):
			bad.add("from: %s is given twice", p)
		}
	}
}

// within says whether a caller's address is in one of some networks, or there are none.
func within(from []netip.Prefix, remote string) bool {
	if len(from) == 0 {
		return true
	}
	addr, err := netip.ParseAddr(remote)
	return err == nil && slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}
