package connector_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sallyport/relay/connector"
)

func TestParseNetwork(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "192.0.2.7": "192.0.2.7/32", "2001:db8::/32": "2001:db8::/32",
		"2001:db8::1": "2001:db8::1/128", "::ffff:192.0.2.7": "192.0.2.7/32",
	} {
		if got, err := connector.ParseNetwork(text); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "10.0.0.0/33", "10.0.0", "fe80::1%eth0", "::ffff:10.0.0.0/104", "10.0.0.0/8,192.0.2.0/24", strings.Repeat("1", 5000)} {
		if got, err := connector.ParseNetwork(text); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.20q: %v, %v", text, got, err)
		}
	}
}

// TestConnectorFrom: a connector that is bound to networks is closed to everybody else, whatever they show.
func TestConnectorFrom(t *testing.T) {
	t.Parallel()
	bound := func(to string) func(*connector.Connector) {
		return func(c *connector.Connector) { c.From = []netip.Prefix{netip.MustParsePrefix(to)} }
	}
	for _, ways := range [][]string{{"key"}, {"none"}} {
		away := withAuth(t, respond(200, ""), bound("203.0.113.0/24"), ways...)
		for _, path := range []string{"/x", "/_/ping", "/_/unknown"} {
			wantProblem(t, away.do(t, http.DefaultClient, "GET", "/plant1/orders"+path, nil, "X-Api-Key", away.key), 403, "address-refused", "relay", "no")
		}
		here := withAuth(t, respond(200, ""), bound("127.0.0.0/8"), ways...)
		if resp := here.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, "X-Api-Key", here.key); resp.StatusCode != 200 {
			t.Errorf("%v: %d", ways, resp.StatusCode)
		}
		// Who is not before a trusted balancer cannot say that it is somebody else.
		resp := away.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, "X-Api-Key", away.key, "X-Forwarded-For", "203.0.113.9")
		wantProblem(t, resp, 403, "address-refused", "relay", "no")
	}
	four := netip.MustParsePrefix("10.0.0.0/8")
	for _, c := range []struct {
		from []netip.Prefix
		says string
	}{
		{[]netip.Prefix{four, four}, "twice"},
		{[]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, "everybody"},
		{[]netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}, "zeros after"},
		{[]netip.Prefix{{}}, "no network"},
		{slices.Repeat([]netip.Prefix{four}, 33), "33 networks"},
	} {
		err := connector.Check(connector.Connector{Gateway: "plant1", Name: "orders", API: "orders", Auth: []string{"key"}, From: c.from})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v", c.from, err)
		}
	}
}
