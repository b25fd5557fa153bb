package connector_test

import (
	"net/netip"

	"sallyport/relay/connector"
)

func prefixes(texts ...string) (t connector.Trusted) {
	for _, s := range texts {
		t = append(t, netip.MustParsePrefix(s))
	}
	return t
}
