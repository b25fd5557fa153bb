package policy_test

import (
	"math/rand/v2"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"sallyport/agent/policy"
)

var escaped = regexp.MustCompile(`%[0-9a-fA-F]{2}`)

// decode undoes percent-encoding as a lenient program does: what is no escape stays.
func decode(s string) string {
	return escaped.ReplaceAllStringFunc(s, func(e string) string {
		text, _ := url.PathUnescape(e)
		return text
	})
}

// meaning is what an admin reads a rule's path as, written independently of the package: an expression for cleaned,
// decoded paths.
func meaning(rule string) *regexp.Regexp {
	_, p, _ := strings.Cut(rule, " ")
	p = strings.TrimLeft(p, " ")
	p, rest := strings.CutSuffix(p, "/**")
	var b strings.Builder
	b.WriteString("(?s)^")
	for len(p) > 0 {
		text, after, found := strings.Cut(p, "{")
		b.WriteString(regexp.QuoteMeta(decode(text)))
		if !found {
			break
		}
		var name string
		name, p, _ = strings.Cut(after, "}")
		if strings.HasSuffix(name, ":encoded") {
			b.WriteString(".+")
		} else {
			b.WriteString("[^/]+")
		}
	}
	expr := b.String()
	switch {
	case rest:
		expr += "(/.*)?$"
	case strings.HasSuffix(expr, "/"): // path.Clean takes the final slash off
		expr = strings.TrimSuffix(expr, "/") + "/?$"
	default:
		expr += "$"
	}
	return regexp.MustCompile(expr)
}

// readings are the paths that programs of different habits could see in a target.
func readings(t *testing.T, target string) []string {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatalf("allowed, but not a request target: %v", err)
	}
	once := u.Path
	twice := decode(once)
	var list []string
	for _, p := range []string{once, twice} {
		list = append(list, p, strings.ReplaceAll(p, `\`, "/"))
	}
	return list
}

// FuzzDecide holds every allowed target against the meaning of the rule that allowed it, as programs of different
// habits would read the target: decoded once or twice, backslashes as slashes, cleaned.
func FuzzDecide(f *testing.F) {
	for _, rule := range []string{
		"GET /orders/**", "GET,PATCH /orders/{id}", "GET /Customers({id})", "* /jobs/{id}:cancel", "GET /files/{path:encoded}", "GET /files/v{path:encoded}.txt/meta",
		"GET /sap/X;v=2/**", "GET /**", "GET /a/", "GET /I(A='{a}',B='{b}')", "GET /{a};{b}", "GET /caf%C3%A9/{p:encoded}2f..",
	} {
		for _, target := range []string{
			"/orders/1", "/orders/%2e%2e/x", "/Customers('A%20B')", "/jobs/7:cancel", "/files/a%2Fb", "/files/v%252f..%252fb.txt/meta",
			"/sap/X;v=2/Set", "/a/?x=%2e", "/I(A='1',B='2')", "/..;/x", "/caf%c3%a9/a%252f..", "/orders/%ef%bc%8e%ef%bc%8e",
		} {
			f.Add(rule, "GET", target)
		}
	}
	f.Fuzz(func(t *testing.T, rule, method, target string) {
		p, err := policy.Compile([]string{rule})
		if err != nil {
			return
		}
		v := p.Decide(method, target)
		if !v.Allowed {
			checkRefusal(t, method, target, v)
			return
		}
		if v.Rule != rule || v.Ambiguous || v.Reason != "" || v.Admit != "" {
			t.Fatalf("verdict %+v", v)
		}
		checkReadings(t, rule, meaning(rule), target)
	})
}

// checkReadings wants every reading of an allowed target inside of its rule.
func checkReadings(t *testing.T, rule string, expr *regexp.Regexp, target string) {
	for _, r := range readings(t, target) {
		if clean := path.Clean(r); !expr.MatchString(clean) && !expr.MatchString(clean+"/") {
			t.Errorf("rule %q admits %q, which can be read as %q: outside %s", rule, target, clean, expr)
		}
		for s := range strings.FieldsFuncSeq(r, func(c rune) bool { return c == '/' || c == ';' || c == '?' || c == '#' }) {
			if s == "." || s == ".." {
				t.Errorf("rule %q admits %q, which has a dot segment as %q", rule, target, r)
			}
		}
		if strings.ContainsFunc(r, unicode.IsControl) {
			t.Errorf("rule %q admits %q, which has a control character as %q", rule, target, r)
		}
	}
}

// TestAllowedStaysInside does what FuzzDecide does with targets put together from what attacks are made of: all short
// ones, and many longer ones.
func TestAllowedStaysInside(t *testing.T) {
	t.Parallel()
	pieces := []string{
		"/", "x", "..", ".", "%2e", "%252e", "%2F", "%252f", "%5c", "%255C", ";", "%3b", "%25", "2e", "2f", "%20", "%00", "(", ")", "%ef%bc%8e", "%ef%bc%8f", "%3f", "%78",
	}
	rules := []string{
		"GET /x/**", "GET /x/{a}", "GET /x/{a}/x", "GET /x({a})", "GET /x/{p:encoded}", "GET /x/({p:encoded})", "GET /x/{p:encoded}2e", "GET /{p:encoded}/x",
		"GET /x;x/{a}", "GET /{a};{b}", "GET /x/{a}x{b}", "GET /x/",
	}
	policies, exprs := make([]*policy.Policy, len(rules)), make([]*regexp.Regexp, len(rules))
	for i, rule := range rules {
		policies[i], exprs[i] = compile(t, rule), meaning(rule)
	}
	allowed := make([]int, len(rules))
	try := func(target string) {
		for i, p := range policies {
			if p.Decide("GET", target).Allowed {
				allowed[i]++
				checkReadings(t, rules[i], exprs[i], target)
			}
		}
	}
	beginnings := []string{"/", "/x/", "/x", "/x(", "/x/(", "/x;x/"}
	for _, begin := range beginnings {
		for _, a := range pieces {
			for _, b := range pieces {
				try(begin + a + b)
				for _, c := range pieces {
					try(begin + a + b + c)
				}
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		target := beginnings[random.IntN(len(beginnings))]
		for range 4 + random.IntN(5) {
			target += pieces[random.IntN(len(pieces))]
		}
		try(target)
	}
	for i, n := range allowed {
		if n == 0 {
			t.Errorf("rule %q admitted nothing: the test shows nothing of it", rules[i])
		}
	}
}

func checkRefusal(t *testing.T, method, target string, v policy.Verdict) {
	if v.Reason == "" || v.Rule != "" {
		t.Fatalf("verdict %+v", v)
	}
	if v.Admit == "" {
		return
	}
	p, err := policy.Compile([]string{v.Admit})
	if err != nil {
		t.Fatalf("%s %q: the proposed rule is none: %v", method, target, err)
	}
	if !p.Decide(method, target).Allowed {
		t.Errorf("the proposed rule %q does not admit %s %q", v.Admit, method, target)
	}
}

// FuzzCompile wants an error with a place in the rule, or a policy that can decide.
func FuzzCompile(f *testing.F) {
	for _, rule := range []string{"GET /a/{id}", "* /**", "GET,POST /x;y/{p:encoded}", "GET /{a}-{b}", "GET /%zz", "", "GET /a{", "get /", "GET /é/*"} {
		f.Add(rule)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		p, err := policy.Compile([]string{rule})
		if err != nil {
			errs, ok := err.(policy.Errors)
			if !ok || len(errs) != 1 || errs[0].Message == "" || errs[0].Column < 1 || errs[0].Column > len(rule)+1 {
				t.Fatalf("%q: %v", rule, err)
			}
			return
		}
		p.Decide("GET", "/a/b")
		if len(p.Rules()) != 1 || p.Rules()[0] != rule || p.Hash() == (&policy.Policy{}).Hash() {
			t.Errorf("%q: rules %q", rule, p.Rules())
		}
	})
}
