package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const public = "https://relay.example.com/plant1/orders"

func linksOf(t testing.TB, api string) *links {
	t.Helper()
	u, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	return newLinks(u, []string{"login.example.com"})
}

func TestPublicLink(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ ref, want string }{ // want "": removed
		{"http://erp.corp.example/api/v2/orders/5?x=%2F#f", public + "/orders/5?x=%2F#f"},
		{"HTTP://ERP.corp.example:80/api/v2/orders/5", public + "/orders/5"},
		{"https://erp.corp.example/api/v2", public},
		{"http://erp.corp.example./api/v2/", public + "/"},
		{"http://user:pw@erp.corp.example/api/v2/x", public + "/x"},
		{"//erp.corp.example/api/v2/x", public + "/x"},
		{"/api/v2/orders/5", public + "/orders/5"},
		{"/api/v2?page=2", public + "?page=2"},
		{"orders/5", "orders/5"},
		{"?page=2", "?page=2"},
		{"../x", "../x"},
		{"https://login.example.com/authorize?x=1", "https://login.example.com/authorize?x=1"},
		{"http://erp.corp.example/api/v2orders", ""},
		{"http://erp.corp.example/login", ""},
		{"http://erp.corp.example:8080/api/v2/x", ""},
		{"http://erp.corp.example/api/v2/../admin", ""},
		{"http://erp.corp.example/api/v2/%2E%2e/admin", ""},
		{"/login", ""},
		{"/\\evil.example/", ""},
		{"http://hr.corp.example/api/v2/x", ""},
		{"http://erp.corp.example@evil.example/api/v2/x", ""},
		{"//10.0.0.1/x", ""},
		{"file://erp.corp.example/api/v2/x", ""},
		{"javascript:alert(1)", ""},
		{"http:/api/v2/x", ""},
	} {
		got, ok := linksOf(t, "http://erp.corp.example/api/v2").public(tc.ref, public)
		if ok != (tc.want != "") || got != tc.want {
			t.Errorf("%q became %q %v, want %q", tc.ref, got, ok, tc.want)
		}
	}
}

func TestOtherHosts(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"https://Accounts.example.com/x?y=1":                       "accounts.example.com",
		"//u:p@cdn.example.com:8443?x":                             "cdn.example.com:8443",
		"5; url='http://a.example'":                                "a.example",
		`<http://a.example>; rel="x", <http://b.example/y>; rel=y`: "a.example b.example",
		"https://login.example.com/authorize":                      "", // passed on
		"http://erp.corp.example/elsewhere":                        "", // the API's own
		"/relative":                                                "",
		"//":                                                       "",
		"http:////":                                                "",
		"<//a>, <//b>, <//c>, <//d>, <//e>":                        "a b c d", // a bound
	} {
		if got := strings.Join(linksOf(t, "http://erp.corp.example/api/v2").otherHosts(value), " "); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func TestRewriteHeader(t *testing.T) {
	t.Parallel()
	h := http.Header{
		"Location":       {"http://erp.corp.example/api/v2/a"},
		"Odata-Entityid": {"http://erp.corp.example/api/v2/Orders(5)"},
		"Link": {
			`<http://erp.corp.example/api/v2/o?page=2,3>; rel="next, \"last\"", <http://hr.corp.example/x>; rel=a, <?p=1>; rel=prev`,
			`<http://hr.corp.example/y>`,
		},
		"Refresh": {"5; url='http://erp.corp.example/api/v2/b'"},
		"Set-Cookie": {
			"a=1; Domain=.corp.example; Path=/api/v2/x; Secure; HttpOnly", "b=2; path=/", "c=3", "d=4;Path=/other;SameSite=None",
		},
		"X-Other": {"http://erp.corp.example/api/v2/untouched"},
	}
	removed, hosts := linksOf(t, "http://erp.corp.example/api/v2").rewrite(h, public)
	want := http.Header{
		"Location":       {public + "/a"},
		"Odata-Entityid": {public + "/Orders(5)"},
		"Link":           {`<` + public + `/o?page=2,3>; rel="next, \"last\"", <?p=1>; rel=prev`},
		"Refresh":        {"5; url=" + public + "/b"},
		"Set-Cookie": {
			"a=1; Path=/plant1/orders/x; Secure; HttpOnly", "b=2; Path=/plant1/orders/", "c=3", "d=4; Path=/plant1/orders/;SameSite=None",
		},
		"X-Other": {"http://erp.corp.example/api/v2/untouched"},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"hr.corp.example", "hr.corp.example"}, hosts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"Link", "Link"}, removed); diff != "" {
		t.Error(diff)
	}
}

func TestLinksOfRootAPI(t *testing.T) {
	t.Parallel()
	l := linksOf(t, "https://erp.corp.example:8443")
	for ref, want := range map[string]string{
		"/x": public + "/x", "https://erp.corp.example:8443": public, "https://erp.corp.example:8443/y": public + "/y",
		"https://erp.corp.example/y": "", "/../x": "",
	} {
		if got, _ := l.public(ref, public); got != want {
			t.Errorf("%q became %q, want %q", ref, got, want)
		}
	}
}

// FuzzLinks: no link that comes out names the API's host or any other that was not admitted.
func FuzzLinks(f *testing.F) {
	for _, s := range []string{
		"http://erp.corp.example/api/v2/a", "//erp.corp.example", "<http://erp.corp.example/api/v2>; rel=x, <b", "5; url=/api/v2", "a:b", "/\t/evil",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		l := linksOf(t, "http://erp.corp.example/api/v2")
		h := http.Header{"Location": {v}, "Link": {v}, "Refresh": {v}, "Set-Cookie": {v}}
		l.rewrite(h, public)
		loc := h.Get("Location")
		u, err := url.Parse(loc)
		if err == nil && u.Host != "" && u.Host != "relay.example.com" && !strings.EqualFold(u.Host, "login.example.com") &&
			(u.User == nil || !strings.HasSuffix(u.Host, "login.example.com")) {
			t.Errorf("%q became %q", v, loc)
		}
	})
}
