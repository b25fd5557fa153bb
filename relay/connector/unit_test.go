package connector

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCutQuery(t *testing.T) {
	for _, c := range []struct {
		target, rest string
		values       []string
	}{
		{"/x", "/x", nil},
		{"/x?a=1", "/x?a=1", nil},
		{"/x?code=K", "/x", []string{"K"}},
		{"/x?code", "/x", []string{""}},
		{"/x?a=1&code=K&b=%zz;c", "/x?a=1&b=%zz;c", []string{"K"}},
		{"/x?&code=K&&", "/x?&&", []string{"K"}},
		{"/x?code=K&code=L", "/x", []string{"K", "L"}},
		{"/x?%63ode=%4B+", "/x", []string{"K "}},
		{"/x?CODE=K&xcode=1&code2=2", "/x?CODE=K&xcode=1&code2=2", nil},
		{"/x?a=code=K", "/x?a=code=K", nil},
		{"/code=K?code=K?code=L", "/code=K", []string{"K?code=L"}},
		{"/x?%zzcode=1&code=K", "/x?%zzcode=1", []string{"K"}},
	} {
		rest, values := cutQuery(c.target, "code")
		if rest != c.rest || !cmp.Equal(values, c.values) {
			t.Errorf("%s: %q %q, want %q %q", c.target, rest, values, c.rest, c.values)
		}
	}
}

func FuzzCutQuery(f *testing.F) {
	for _, target := range []string{"/x?a=1&code=K&b", "/x?%63ode=K", "/?", "/x?&&code", "/x?c+ode=1&code=%zz", "/x?code=K#code=L"} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		rest, values := cutQuery(target, "code")
		if again, more := cutQuery(rest, "code"); again != rest || more != nil {
			t.Errorf("%q still holds the parameter: %q", rest, more)
		}
		if len(values) == 0 && rest != target {
			t.Errorf("nothing was found in %q, and yet it became %q", target, rest)
		}
		path, query, _ := strings.Cut(target, "?")
		if !strings.HasPrefix(rest, path) {
			t.Errorf("the path of %q changed: %q", target, rest)
		}
		_, left, _ := strings.Cut(rest, "?")
		parts := strings.Split(query, "&")
		for part := range strings.SplitSeq(left, "&") {
			for len(parts) > 0 && parts[0] != part {
				parts = parts[1:]
			}
			if len(parts) == 0 && part != "" {
				t.Errorf("%q has a part that is not in %q, or not in its order", rest, target)
				break
			}
		}
	})
}

func TestCopyResponseDropsWhatIsNoHTTP(t *testing.T) {
	dst := http.Header{}
	copyResponse(dst, http.Header{
		"X-Bad": {"a\r\nX-Evil: 1", "good", "nul\x00"}, "X Space": {"1"}, "": {"1"}, "x-lower": {"1"}, "content-length": {"7"},
		"Connection": {"x-lower2", ""}, "X-Lower2": {"1"},
	}, "")
	want := http.Header{"X-Bad": {"good"}, "X-Lower": {"1"}, "Content-Type": nil}
	if diff := cmp.Diff(want, dst); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutWindows(t *testing.T) {
	for line, want := range map[string]string{
		"Negotiate":                              "",
		"negotiate YIIabc==":                     "",
		"NTLM, Negotiate":                        "",
		`Basic realm="x"`:                        `Basic realm="x"`,
		`NTLM, Basic realm="x", charset="UTF-8"`: `Basic realm="x", charset="UTF-8"`,
		`Digest realm="a, NTLM", nonce = "b", Negotiate, Bearer`: `Digest realm="a, NTLM", nonce = "b", Bearer`,
		`Kerberos abc, foo=bar, Custom`:                          `Custom`,
		`Basic realm="un\"closed, NTLM`:                          `Basic realm="un\"closed, NTLM`,
		", ,":                                                    "",
	} {
		got := strings.Join(withoutWindows([]string{line}), "|")
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// Whatever an upstream sends, no challenge for Windows authentication is left that a caller would take for one.
func FuzzWithoutWindows(f *testing.F) {
	for _, line := range []string{"NTLM", `Basic realm="a, NTLM", Negotiate abc=`, `a b="\",NTLM`, ", NTLM"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, left := range withoutWindows([]string{line}) {
			for _, item := range splitList(left) {
				if scheme, begins := beginsChallenge(item); begins && windowsScheme(scheme) {
					t.Errorf("%q became %q", line, left)
				}
			}
		}
	})
}

func TestConfineCookies(t *testing.T) {
	for cookie, want := range map[string]string{
		"a=1":                          "a=1; Path=/g/c/",
		"a=1; Domain=.corp.example":    "a=1; Path=/g/c/",
		"a=1;domain = x;path=/;Secure": "a=1;Secure; Path=/g/c/",
		"path=1; Path=/x":              "path=1; Path=/g/c/",
		"a=domain=x; SameSite=Lax":     "a=domain=x; SameSite=Lax; Path=/g/c/",
	} {
		if got := confineCookies([]string{cookie}, "/g/c/"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", cookie, got, want)
		}
	}
}

func TestNearestIsNeverTheCallersOwnClaim(t *testing.T) {
	trusted := Trusted{}
	for _, s := range []string{"10.0.0.0/8"} {
		trusted = append(trusted, mustPrefix(t, s))
	}
	for chain, want := range map[string]string{
		"203.0.113.7":                   "203.0.113.7",
		"1.1.1.1, 203.0.113.7":          "203.0.113.7",
		"203.0.113.7, 10.0.0.9":         "203.0.113.7",
		"203.0.113.7:80, [::1]:99":      "::1",
		"evil, 10.0.0.9":                "10.0.0.9",
		"evil":                          "10.9.9.9",
		"":                              "10.9.9.9",
		"10.0.0.1, 10.0.0.2":            "10.0.0.1",
		"::ffff:10.0.0.1, fe80::1%eth0": "fe80::1",
	} {
		if got := trusted.nearest(chain, "10.9.9.9"); got != want {
			t.Errorf("%q: %s, want %s", chain, got, want)
		}
	}
}

func mustPrefix(t *testing.T, s string) netip.Prefix {
	t.Helper()
	p, err := netip.ParsePrefix(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
