package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent/policy"
)

func compile(t testing.TB, rules ...string) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// outcome is a verdict in one word.
func outcome(v policy.Verdict) string {
	switch {
	case v.Allowed:
		return "200"
	case v.Ambiguous:
		return "400"
	default:
		return "403"
	}
}

// Each of these, or a form of it, has gone round the path rules of a published proxy. The rules are the widest there
// are, so whatever is refused here is refused for its form.
func TestAmbiguousTargets(t *testing.T) {
	t.Parallel()
	wide := compile(t, "* /**", "* /a/{id}/**", "* /{x}/{y}", "* /{x}")
	for _, target := range []string{
		// dot segments
		"/a/../b", "/..", "/.", "/./a", "/a/.", "/a/..", "/../a", "/.../a", "/a/..../b",
		"/a/%2e%2e/b", "/a/%2E%2e/b", "/a/.%2e/b", "/a/%2e/b", "/a/%2e.", "/%2e%2e%2fetc",
		"/a/..%20/b", "/a/%20../b", "/a/.%20.", "/a/..%09/b", "/a/%20", "/a/%2e%20%2e", "/a/+", "/a/.+.",
		"/a/.%e2%80%8b.", "/a/%E2%80%8B", "/a/%c2%a0",
		// double encoding
		"/a/%252e%252e/b", "/a/%252E%252e/b", "/a/%25%32%65%25%32%65/b", "/a/%25252e%25252e/b", "/a/.%252e/b", "/a/b%252fc",
		"/a/%252e", "/a/x%2500", "/a/%25u002e%25u002e", "/a/%u002e%u002e/b", "/a/%25U002f",
		// separators
		"/a/..%2fb", "/a%2fb", "/a%2Fb", "/a/..%5cb", "/a%5cb", "/a%5Cb", `/a\b`, `/a/..\b`, `\a`, "/a/%2f", "/%2fa", "/a%2f..%2fb", "/a/x%3fy", "/a/x%23y",
		"//a", "/a//b", "/a//", "//", "///", "//evil.example/a",
		// path parameters
		"/..;/a", "/a/..;/b", "/a/..;x=y/b", "/a;x=y/../b", "/a;x=y", "/a;", "/;", "/a/;/b", "/a%3bx=y", "/a%3Bx", "/a/..%3b/b", "/.;/a",
		// bytes
		"/a\x00b", "/a\rb", "/a\nb", "/a\r\nHost: evil", "/a\tb", "/a\x7fb", "/a b", "/a\x01", "/a%00", "/a%00.html", "/a%0d%0ab", "/a%0A", "/a%09b", "/a%7f", "/a%1f", "/a%c2%85",
		// UTF-8: overlong, broken, surrogates, too large, raw
		"/a/%c0%ae%c0%ae/b", "/a/%c0%af", "/a/%e0%80%af", "/a/%f0%80%80%af", "/a/%ff", "/a/%e9", "/a/%ed%a0%80", "/a/%f4%90%80%80", "/a/%c3", "/a/é", "/a/．．／b", "/a/\xc0\xae",
		// lookalikes
		"/a/%ef%bc%8e%ef%bc%8e/b", "/a/%EF%BC%8E%ef%bc%8e%ef%bc%8fb", "/a%ef%bc%8fb", "/a%ef%bc%bcb", "/a/%e2%80%a5", "/a/%e2%80%a5%2fb", "/a%e2%81%84b", "/a%e2%88%95b", "/a%c2%a5b", "/a%ef%bc%852e",
		// percent signs
		"/a%zz", "/a%", "/a%2", "/a%2/b", "/%", "/a%%41", "/a%-1", "/a%+1", "/a% 1",
		// other forms, and fragments
		"http://other/", "https://other/a", "other:443", "*", "", "a", "?a=b", "/a#b", "/a/#", "/a?b#c", "#", ".", "..",
		// queries
		"/a?\x00", "/a?b=\r\nc", "/a?b c", "/a?b=\tc", "/a?b=%00", "/a?b=%zz", "/a?b=%", "/a?b=%1", "/a?\x7f",
		// size
		"/" + strings.Repeat("a", 64<<10), "/" + strings.Repeat("a/", 300), "/a?" + strings.Repeat("b", 64<<10),
	} {
		if v := wide.Decide("GET", target); outcome(v) != "400" || v.Reason == "" || v.Rule != "" {
			t.Errorf("%.80q: %s by %q (%s), want 400", target, outcome(v), v.Rule, v.Reason)
		}
	}
}

// What is strange and yet has one reading goes through.
func TestUnambiguousTargets(t *testing.T) {
	t.Parallel()
	wide := compile(t, "* /**")
	for _, target := range []string{
		"/", "/a", "/a/", "/a/b", "/a/b/", "/..a", "/a..", "/a..b", "/a.b", "/.well-known/x", "/...a", "/a:b", "/a@b", "/~a", "/a,b", "/a!b", "/$metadata",
		"/Customers('ALFKI')", "/Customers(%27ALFKI%27)", "/%61", "/a%20b", "/a+b", "/100%25", "/50%25off", "/%E2%82%AC", "/caf%C3%A9", "/%F0%9F%9A%80", "/a%2eb", "/%2ea",
		"/a?", "/a??", "/a?b?c", "/a?b=c/../d", "/a?b=//", "/a?b;c", "/a?b=%2e%2e%2f", "/a?b=%252e", "/a?b=%5c", "/a?b=%ff", "/a?a=1&a=2", `/a?b=\`, "/a?é", "/a?b=%0d%0a", "/?a",
		"/a?" + strings.Repeat("p=1&", 8000) + "p", "/a|b", "/a^b", `/a"b`, "/a`b", "/a<b>", "/a{b}", "/[a]", "/%E2%80%A6%E2%80%A6a", "/%ef%bc%9f",
	} {
		if v := wide.Decide("GET", target); !v.Allowed || v.Rule != "* /**" || v.Reason != "" || v.Admit != "" {
			t.Errorf("%.80q: %s (%s), want 200", target, outcome(v), v.Reason)
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rules  string // one a line
		method string
		target string
		want   string
		rule   string
	}{
		// methods
		{"GET /a", "GET", "/a", "200", "GET /a"},
		{"GET /a", "HEAD", "/a", "403", ""},
		{"GET /a", "get", "/a", "403", ""},
		{"GET /a", "OPTIONS", "/a", "403", ""},
		{"GET,PATCH /a", "PATCH", "/a", "200", "GET,PATCH /a"},
		{"* /a", "PURGE", "/a", "200", "* /a"},
		{"* /a", "VERSION-CONTROL", "/a", "200", "* /a"},
		{"* /a", "TRACE", "/a", "403", ""},
		{"* /a", "TRACK", "/a", "403", ""},
		{"* /a", "CONNECT", "/a", "403", ""},
		{"* /a", "", "/a", "400", ""},
		{"* /a", "GE T", "/a", "400", ""},
		{"* /a", "GET\r\n", "/a", "400", ""},
		{"* /a", "GÉT", "/a", "400", ""},
		{"* /a", strings.Repeat("A", 33), "/a", "400", ""},
		// whole segments
		{"GET /api", "GET", "/api", "200", "GET /api"},
		{"GET /api", "GET", "/apiX", "403", ""},
		{"GET /api", "GET", "/ap", "403", ""},
		{"GET /api", "GET", "/API", "403", ""},
		{"GET /api", "GET", "/api..", "403", ""},
		{"GET /api", "GET", "/api/", "403", ""},
		{"GET /api/", "GET", "/api/", "200", "GET /api/"},
		{"GET /api/", "GET", "/api", "403", ""},
		{"GET /api", "GET", "/api/x", "403", ""},
		{"GET /api", "GET", "/x/api", "403", ""},
		{"GET /api", "GET", "/api?x=/y", "200", "GET /api"},
		{"GET /", "GET", "/", "200", "GET /"},
		{"GET /", "GET", "/a", "403", ""},
		{"GET /**", "GET", "/", "200", "GET /**"},
		{"GET /**", "GET", "/a/b/", "200", "GET /**"},
		{"GET /x/**", "GET", "/x", "200", "GET /x/**"},
		{"GET /x/**", "GET", "/x/", "200", "GET /x/**"},
		{"GET /x/**", "GET", "/x/a/b/", "200", "GET /x/**"},
		{"GET /x/**", "GET", "/xa", "403", ""},
		{"GET /x/**", "GET", "/api../x", "403", ""},
		// percent-encoding of what needs none
		{"GET /orders", "GET", "/%6frders", "200", "GET /orders"},
		{"GET /%6frders", "GET", "/orders", "200", "GET /%6frders"},
		{"GET /$metadata", "GET", "/%24metadata", "200", "GET /$metadata"},
		{"GET /café", "GET", "/caf%c3%a9", "200", "GET /café"},
		{"GET /a%20b", "GET", "/a%20b", "200", "GET /a%20b"},
		{"GET /a%20b", "GET", "/a+b", "403", ""},
		{"GET /%7Bx%7D", "GET", "/{x}", "200", "GET /%7Bx%7D"},
		// placeholders
		{"GET /a/{id}", "GET", "/a/1", "200", "GET /a/{id}"},
		{"GET /a/{id}", "GET", "/a/", "403", ""},
		{"GET /a/{id}", "GET", "/a", "403", ""},
		{"GET /a/{id}", "GET", "/a/1/", "403", ""},
		{"GET /a/{id}", "GET", "/a/1/b", "403", ""},
		{"GET /a/{id}", "GET", "/a/1%2fb", "400", ""},
		{"GET /a/{id}/b", "GET", "/a/1/b", "200", "GET /a/{id}/b"},
		{"GET /a/{id}/**", "GET", "/a/1", "200", "GET /a/{id}/**"},
		{"GET /a/{id}/**", "GET", "/a", "403", ""},
		{"GET /Customers({id})", "GET", "/Customers('A')", "200", "GET /Customers({id})"},
		{"GET /Customers({id})", "GET", "/Customers%28%27A%27%29", "200", "GET /Customers({id})"},
		{"GET /Customers({id})", "GET", "/Customers()", "403", ""},
		{"GET /Customers({id})", "GET", "/Customers(1", "403", ""},
		{"GET /Customers({id})", "GET", "/Customers(1)/x", "403", ""},
		{"POST /jobs/{id}:cancel", "POST", "/jobs/7:cancel", "200", "POST /jobs/{id}:cancel"},
		{"POST /jobs/{id}:cancel", "POST", "/jobs/7%3Acancel", "200", "POST /jobs/{id}:cancel"},
		{"POST /jobs/{id}:cancel", "POST", "/jobs/7", "403", ""},
		{"POST /jobs/{id}:cancel", "POST", "/jobs/:cancel", "403", ""},
		{"POST /jobs/{id}", "POST", "/jobs/7:cancel", "200", "POST /jobs/{id}"},
		{"GET /I(A='{a}',B='{b}')", "GET", "/I(A='1',B='2')", "200", "GET /I(A='{a}',B='{b}')"},
		{"GET /I(A='{a}',B='{b}')", "GET", "/I(A='1',B='')", "403", ""},
		{"GET /I(A='{a}',B='{b}')", "GET", "/I(A='',B='2')", "403", ""},
		{"GET /I(A='{a}',B='{b}')", "GET", "/I(A='1')", "403", ""},
		{"GET /{a}-{b}-{c}", "GET", "/1-2-3", "200", "GET /{a}-{b}-{c}"},
		{"GET /{a}-{b}-{c}", "GET", "/---2-3", "200", "GET /{a}-{b}-{c}"},
		{"GET /{a}-{b}-{c}", "GET", "/1-2-", "403", ""},
		{"GET /{a}-{b}-{c}", "GET", "/1--3", "403", ""},
		{"GET /{a}x{b}", "GET", "/x", "403", ""},
		// path parameters
		{"GET /odata/X;v=2/**", "GET", "/odata/X;v=2/Set", "200", "GET /odata/X;v=2/**"},
		{"GET /odata/X;v=2/**", "GET", "/odata/X;v=2", "200", "GET /odata/X;v=2/**"},
		{"GET /odata/X;v=2/**", "GET", "/odata/X;v=3/Set", "400", ""},
		{"GET /odata/X;v=2/**", "GET", "/odata/X%3bv=2/Set", "400", ""},
		{"GET /odata/X;v=2/**", "GET", "/odata/X;v=2/Set;a", "400", ""},
		{"GET /odata/X;v=2/**", "GET", "/odata/X;v=2/..;/Set", "400", ""},
		{"GET /odata/X;v=2/**", "GET", "/odata/X/Set", "403", ""},
		{"GET /X;v={v}", "GET", "/X;v=7", "200", "GET /X;v={v}"},
		{"GET /X;v={v}", "GET", "/X;v=7;w", "400", ""},
		{"GET /{a};v", "GET", "/..;v", "400", ""},
		{"GET /{a};{b}", "GET", "/x;y", "200", "GET /{a};{b}"},
		{"GET /{a};{b}", "GET", "/x;y;z", "400", ""},
		// encoded separators
		{"GET /f/{p:encoded}", "GET", "/f/a%2Fb", "200", "GET /f/{p:encoded}"},
		{"GET /f/{p:encoded}", "GET", "/f/%252Fa%2520b%252Fc.txt", "200", "GET /f/{p:encoded}"},
		{"GET /f/{p:encoded}", "GET", "/f/C:%5Cdir%5Cx", "200", "GET /f/{p:encoded}"},
		{"GET /f/{p:encoded}", "GET", "/f/a%3Bb%3Fc%23d", "200", "GET /f/{p:encoded}"},
		{"GET /f/{p:encoded}", "GET", "/f/a", "200", "GET /f/{p:encoded}"},
		{"GET /f/{p:encoded}", "GET", "/f/a%2F", "200", "GET /f/{p:encoded}"},
		{"GET /f/{p:encoded}", "GET", "/f/%EF%BC%8Fa", "200", "GET /f/{p:encoded}"},
		{"GET /f/{p:encoded}", "GET", "/f/100%2525", "200", "GET /f/{p:encoded}"},
		{"GET /f/{p:encoded}", "GET", "/f/", "403", ""},
		{"GET /f/{p:encoded}", "GET", "/f/%2F", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/%252F", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a/b", "403", ""},
		{"GET /f/{p:encoded}", "GET", "/f/..%2Fb", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%2F..%2Fb", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%5C..%5Cb", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%2F%2e%2e", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%2F..%3Bx%2Fb", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%252F..%252Fb", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/%252e%252e%252Fb", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%252F%2e%252e", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%EF%BC%8F%EF%BC%8E%EF%BC%8E", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%25252Fb", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%2500", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%250d%250a", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%25c0%25ae", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%25u002f", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f/a%00", "400", ""},
		{"GET /f/{p:encoded}", "GET", "/f%2Fa", "400", ""},
		{"GET /f/{p:encoded}/c", "GET", "/f/a%2Fb/c", "200", "GET /f/{p:encoded}/c"},
		{"GET /f/{p:encoded}/**", "GET", "/f/a%2Fb/c%2Fd", "400", ""},
		{"GET /f('{p:encoded}')", "GET", "/f('a%2Fb')", "200", "GET /f('{p:encoded}')"},
		{"GET /f('{p:encoded}')", "GET", "/f('%2F')", "400", ""},
		{"GET /f/..{p:encoded}", "GET", "/f/..%2Fb", "400", ""},
		{"GET /f/{p:encoded}..", "GET", "/f/a%2F..", "400", ""},
		{"GET /f/{p:encoded}2e2e", "GET", "/f/a%2Fb2e2e", "200", "GET /f/{p:encoded}2e2e"},
		{"GET /f/{p:encoded}2e2e", "GET", "/f/a%2F%252e2e", "400", ""},
		{"GET /f/x{p:encoded}", "GET", "/f/x%252Fa", "200", "GET /f/x{p:encoded}"},
		{"GET /f/x{p:encoded}", "GET", "/f/x%252F", "400", ""},
		{"GET /f/{p:encoded}2f..", "GET", "/f/a%252f..", "400", ""},
		// the most literal rule is named, and others are still tried when it leads nowhere
		{"GET /**\nGET /a/{id}\nGET /a/b", "GET", "/a/b", "200", "GET /a/b"},
		{"GET /**\nGET /a/{id}\nGET /a/b", "GET", "/a/c", "200", "GET /a/{id}"},
		{"GET /**\nGET /a/{id}\nGET /a/b", "GET", "/a/c/d", "200", "GET /**"},
		{"GET /a/b/c\nPOST /a/{x}/c", "POST", "/a/b/c", "200", "POST /a/{x}/c"},
		{"GET /a/b/c\nGET /{x}/b/d", "GET", "/a/b/d", "200", "GET /{x}/b/d"},
		{"GET /a/{x}\nPOST /a/{y}", "POST", "/a/1", "200", "POST /a/{y}"},
		{"GET /a/v{x}\nGET /a/v{x}:go/z", "GET", "/a/v1:go/z", "200", "GET /a/v{x}:go/z"},
		{"", "GET", "/", "403", ""},
	} {
		var rules []string
		if tt.rules != "" {
			rules = strings.Split(tt.rules, "\n")
		}
		v := compile(t, rules...).Decide(tt.method, tt.target)
		if outcome(v) != tt.want || v.Rule != tt.rule || v.Allowed != (v.Reason == "") {
			t.Errorf("%q: %s %s: %s by %q (%s), want %s by %q", rules, tt.method, tt.target, outcome(v), v.Rule, v.Reason, tt.want, tt.rule)
		}
	}
}

// A proposed rule must admit the request, and what is refused for good must come without a proposal.
func TestAdmit(t *testing.T) {
	t.Parallel()
	other := compile(t, "GET /nothing")
	for _, tt := range []struct{ method, target, want string }{
		{"GET", "/", "GET /"},
		{"GET", "/orders", "GET /orders"},
		{"GET", "/orders/", "GET /orders/"},
		{"DELETE", "/orders/4711?x=y", "DELETE /orders/{id}"},
		{"GET", "/o/6F9619FF-8B86-D011-B42D-00CF4FC964FF/x", "GET /o/{id}/x"},
		{"GET", "/a%20b/{x}/%2A", "GET /a%20b/%7Bx%7D/%2A"},
		{"GET", "/100%25", "GET /100%25"},
		{"GET", "/caf%c3%a9", "GET /caf%C3%A9"},
		{"GET", "/X;v=2/Set", "GET /X;v=2/Set"},
		{"GET", "/f/a%2Fb", "GET /f/{value:encoded}"},
		{"GET", "/f/a%2F..", ""},
		{"GET", "/a/../b", ""},
		{"TRACE", "/a", ""},
		{"get", "/a", ""},
		{"GET", "/" + strings.Repeat("a", 400), ""},
	} {
		v := other.Decide(tt.method, tt.target)
		if v.Allowed || v.Admit != tt.want {
			t.Errorf("%s %.60s: proposes %q, want %q", tt.method, tt.target, v.Admit, tt.want)
		}
		if v.Admit != "" && !compile(t, v.Admit).Decide(tt.method, tt.target).Allowed {
			t.Errorf("%s %s: the proposed rule %q does not admit it", tt.method, tt.target, v.Admit)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rule   string
		column int
		want   string // part of the message
	}{
		{"", 1, "a method and a path"},
		{"/orders", 1, "a method and a path"},
		{"GET", 1, "a method and a path"},
		{"GET ", 1, "a method and a path"},
		{"GET orders", 5, `must begin with "/"`},
		{"GET *", 5, `must begin with "/"`},
		{"GET http://x/y", 5, `must begin with "/"`},
		{"get /orders", 1, "in capitals"},
		{"GET,post /orders", 5, "in capitals"},
		{"GET, POST /orders", 5, "without spaces"},
		{"GET,* /orders", 5, "not a method"},
		{"GET,TRACE /orders", 5, "TRACE cannot be allowed"},
		{"CONNECT /orders", 1, "CONNECT cannot be allowed"},
		{"GET /a /b", 7, "%20"},
		{"GET /a?b=c", 7, "the query is free"},
		{"GET /a#b", 7, "never reaches"},
		{`GET /a\b`, 7, "always refused"},
		{"GET //a", 6, "always refused"},
		{"GET /a//", 8, "always refused"},
		{"GET /a/../b", 8, "dot segment"},
		{"GET /a/%2e", 8, "dot segment"},
		{"GET /a/..;x/b", 8, "dot segment"},
		{"GET /a/%20", 8, "blank"},
		{"GET /é/*", 8, "/** at the end"},
		{"GET /**/a", 6, "/** at the end"},
		{"GET /a**", 7, "/** at the end"},
		{"GET /a/{id", 8, `"{" without "}"`},
		{"GET /a/id}", 10, `"}" without "{"`},
		{"GET /a/{}", 8, "not a placeholder"},
		{"GET /a/{a b}", 10, "%20"},
		{"GET /a/{a:int}", 8, "not a placeholder"},
		{"GET /a/{{a}}", 8, "not a placeholder"},
		{"GET /a/{a}{b}", 11, "side by side"},
		{"GET /a/{a:encoded}-{b}", 8, "only placeholder"},
		{"GET /a/{a}-{b:encoded}", 8, "only placeholder"},
		{"GET /a%2fb", 6, "{name:encoded}"},
		{"GET /a%3bb", 6, "{name:encoded}"},
		{"GET /a%252fb", 6, "{name:encoded}"},
		{"GET /a%zz", 7, "two hex digits"},
		{"GET /a%", 7, "two hex digits"},
		{"GET /a%00", 6, "control character"},
		{"GET /a%c0%ae", 6, "not UTF-8"},
		{"GET /a\x00", 7, "control character"},
		{"GET /\xff", 6, "not UTF-8"},
		{"GET /" + strings.Repeat("a/", 257), 5, "256 segments"},
		{"GET /" + strings.Repeat("a", 3000), 1, "longer than 2048 bytes"},
	} {
		_, err := policy.Compile([]string{"GET /fine", tt.rule})
		errs, ok := err.(policy.Errors)
		if !ok || len(errs) != 1 || errs[0].Index != 1 || errs[0].Column != tt.column || !strings.Contains(errs[0].Message, tt.want) {
			t.Errorf("%.60q: %v; want column %d: ...%s...", tt.rule, err, tt.column, tt.want)
		}
	}
	_, err := policy.Compile([]string{"GET a", "GET /", "PUT b"})
	want := "rule 1 (GET a), column 5: the path must begin with \"/\" (it follows the API's url)\n" +
		"rule 3 (PUT b), column 5: the path must begin with \"/\" (it follows the API's url)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	base := compile(t, "GET,PUT /a/{id}", "* /b/**").Hash()
	for _, same := range [][]string{
		{"* /b/**", "PUT,GET /a/{x}"},
		{"PUT,GET,GET /%61/{id}", "*  /b/**", "* /b/**"},
	} {
		if got := compile(t, same...).Hash(); got != base {
			t.Errorf("%q hashes differently", same)
		}
	}
	for _, other := range [][]string{
		{"GET /a/{id}", "* /b/**"},
		{"GET,PUT /a/{id}/", "* /b/**"},
		{"GET,PUT /a/{id:encoded}", "* /b/**"},
		{"GET,PUT /a/%7B_%7D", "* /b/**"},
		{"GET,PUT /a/{id}", "* /b"},
		nil,
	} {
		if got := compile(t, other...).Hash(); got == base {
			t.Errorf("%q hashes the same", other)
		}
	}
	if !strings.HasPrefix(base, "sha256:") || len(base) != 71 {
		t.Errorf("hash is %q", base)
	}
}

func TestNothing(t *testing.T) {
	t.Parallel()
	for _, p := range []*policy.Policy{nil, {}, compile(t)} {
		if v := p.Decide("GET", "/"); v.Allowed || v.Ambiguous {
			t.Errorf("a policy without rules says %s", outcome(v))
		}
		if p.Hash() != compile(t).Hash() || p.Rules() != nil && len(p.Rules()) != 0 || p.Writes() || p.Batches() != nil {
			t.Error("a policy without rules has properties of rules")
		}
	}
}

func TestWritesAndBatches(t *testing.T) {
	t.Parallel()
	for rule, want := range map[string][2]bool{
		"GET /**":             {false, false},
		"GET,HEAD,OPTIONS /":  {false, false},
		"* /a":                {true, false},
		"POST /a":             {true, false},
		"POST /a/{id}":        {true, false},
		"* /a/**":             {true, true},
		"POST /**":            {true, true},
		"PUT /**":             {true, false},
		"POST /{set}":         {true, true},
		"POST /{set:encoded}": {true, true},
		"POST /${x}":          {true, true},
		"POST /x{set}":        {true, false},
		"POST /a/$batch":      {true, true},
		"POST /a/%24batch":    {true, true},
	} {
		p := compile(t, rule)
		got := [2]bool{p.Writes(), len(p.Batches()) == 1 && p.Batches()[0] == rule}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: writes, batches: %s", rule, diff)
		}
	}
}

// What is too long, or has no method, is told apart from what is ambiguous.
func TestFaultsOfTheForm(t *testing.T) {
	t.Parallel()
	p := compile(t, "* /**")
	for _, c := range []struct{ method, target, fault string }{
		{"GET", "/" + strings.Repeat("a", policy.MaxTarget), policy.FaultTooLong},
		{strings.Repeat("G", 3000), "/a", policy.FaultMethod},
		{"G T", "/a", policy.FaultMethod},
		{"GET", "/a//b", ""},
	} {
		if v := p.Decide(c.method, c.target); v.Allowed || !v.Ambiguous || v.Fault != c.fault || v.Reason == "" {
			t.Errorf("%.10s %.10s: %+v", c.method, c.target, v)
		}
	}
}

// Rules that share beginnings and patterns must not make the search grow with their product.
func TestDecideIsBounded(t *testing.T) {
	t.Parallel()
	var rules []string
	for i := range 64 {
		var b strings.Builder
		for bit := range 6 {
			if i>>bit&1 == 0 {
				b.WriteString("/{x}")
			} else {
				b.WriteString("/a{x}")
			}
		}
		rules = append(rules, "GET "+b.String()+"/end")
	}
	p := compile(t, rules...)
	if v := p.Decide("GET", "/ab/ab/ab/ab/ab/ab/no"); v.Allowed {
		t.Error("allowed")
	}
	long := compile(t, "GET /"+strings.Repeat("{x}a", 200)+"b")
	if v := long.Decide("GET", "/"+strings.Repeat("a", 20_000)); v.Allowed {
		t.Error("allowed")
	}
}

// What is allowed costs no allocation, unless something has to be decoded.
func TestDecideAllocates(t *testing.T) {
	p := benchmarkPolicy(t)
	n := testing.AllocsPerRun(100, func() {
		if !p.Decide("PATCH", "/api/v2/area137/orders/4711/lines/3?expand=all").Allowed {
			t.Error("refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func benchmarkPolicy(t testing.TB) *policy.Policy {
	var rules []string
	for i := range 50 {
		area := fmt.Sprintf("/api/v2/area%d/orders", 100+i)
		rules = append(rules, "GET "+area, "GET,PATCH "+area+"/{id}", "POST "+area+"/{id}:cancel", "* "+area+"/{id}/lines/**")
	}
	return compile(t, rules...)
}

func BenchmarkDecide(b *testing.B) {
	p := benchmarkPolicy(b)
	for name, target := range map[string]string{
		"literal": "/api/v2/area137/orders?$top=50", "below": "/api/v2/area137/orders/4711/lines/3", "encoded": "/api/v2/area137/orders/a%20b",
		"refused": "/api/v2/area137/secrets",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Decide("GET", target)
			}
		})
	}
}
