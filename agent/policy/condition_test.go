package policy_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/agent/policy"
)

func entries(t *testing.T, list ...policy.Entry) *policy.Policy {
	t.Helper()
	p, err := policy.CompileEntries(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestWindows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		window, when string
		want         bool
	}{
		{"Mon-Fri 07:00-19:00 Europe/Berlin", "2026-11-23T06:00:00Z", true}, // Monday, 7:00 in winter
		{"Mon-Fri 07:00-19:00 Europe/Berlin", "2026-11-23T05:59:59Z", false},
		{"Mon-Fri 07:00-19:00 Europe/Berlin", "2026-11-23T17:59:59Z", true},
		{"Mon-Fri 07:00-19:00 Europe/Berlin", "2026-11-23T18:00:00Z", false},
		{"Mon-Fri 07:00-19:00 Europe/Berlin", "2026-07-06T05:00:00Z", true}, // 7:00 in summer
		{"Mon-Fri 07:00-19:00 Europe/Berlin", "2026-11-22T12:00:00Z", false},
		{"Sat,Sun 00:00-24:00 UTC", "2026-11-22T23:59:59Z", true},
		{"Sat,Sun 00:00-24:00 UTC", "2026-11-23T00:00:00Z", false},
		{"Fri-Mon 10:00-11:00 UTC", "2026-11-22T10:30:00Z", true},
		{"Fri-Mon 10:00-11:00 UTC", "2026-11-24T10:30:00Z", false},
		{"22:00-06:00 UTC", "2026-11-24T05:59:00Z", true},
		{"22:00-06:00 UTC", "2026-11-24T06:00:00Z", false},
		{"Fri 22:00-06:00 UTC", "2026-11-28T05:00:00Z", true}, // Saturday morning, begun on Friday
		{"Fri 22:00-06:00 UTC", "2026-11-27T05:00:00Z", false},
		{"Sat 22:00-06:00 UTC", "2026-11-29T05:00:00Z", true},        // over the end of the week
		{"02:00-03:00 Europe/Berlin", "2026-03-29T01:00:00Z", false}, // not shown: it is 3:00
		{"02:00-03:00 Europe/Berlin", "2026-10-25T00:30:00Z", true},  // shown twice
		{"02:00-03:00 Europe/Berlin", "2026-10-25T01:30:00Z", true},
	} {
		p := entries(t, policy.Entry{Rule: "GET /x", Body: policy.NoBound, Between: []string{c.window}})
		v := p.Judge(&policy.Request{Method: "GET", Target: "/x", Now: at(t, c.when)})
		if v.Allowed != c.want {
			t.Errorf("%s at %s: %+v", c.window, c.when, v)
		}
	}
}

func TestQueries(t *testing.T) {
	t.Parallel()
	closed := &policy.Values{Required: map[string][]string{"plant": {"P1", "Q*"}}, Allowed: map[string][]string{"$top": {"*"}, "note": {"a b", "a+b"}, "n": {"a b"}}}
	open := &policy.Values{Required: closed.Required, Others: true}
	for query, want := range map[string][2]bool{ // closed, open
		"plant=P1":              {true, true},
		"plant=Q":               {true, true},
		"plant=Q%20x":           {true, true},
		"plant=%501":            {true, true},
		"%70lant=P1":            {true, true},
		"plant=P1&":             {true, true},
		"plant=P1&$top=5":       {true, true},
		"plant=P1&%24top=5":     {true, true},
		"plant=P1&note=a+b":     {true, true},
		"plant=P1&n=a+b":        {false, true}, // "a b" to some, "a+b" to others
		"plant=P1&n=a%20b":      {true, true},
		"":                      {false, false},
		"plant":                 {false, false},
		"plant=P2":              {false, false},
		"plant=p1":              {false, false},
		"plant=P1%00":           {false, false},
		"plant=P1&plant=P1":     {false, false},
		"plant=P1&plant=P2":     {false, false},
		"plant=P1&Plant=P2":     {false, false},
		"plant=P1&%50LANT=P2":   {false, false},
		"plant=P1&plant[]=P2":   {false, false},
		"plant=P1&plant[0]=P2":  {false, false},
		"plant=P1&+plant=P2":    {false, false},
		"plant=P1&plant%00=P2":  {false, false},
		"plant=P1;plant=P2":     {false, false},
		"plant=P1&%2570lant=P2": {false, false},
		"plant=P1&%FF=P2":       {false, false},
		"plant=P1&x=1":          {false, true},
		"plant=P1&x=1&$top[]=2": {false, true},
	} {
		for i, values := range []*policy.Values{closed, open} {
			p := entries(t, policy.Entry{Rule: "GET /x", Body: policy.NoBound, Query: values})
			if v := p.Judge(&policy.Request{Method: "GET", Target: "/x?" + query}); v.Allowed != want[i] && !v.Ambiguous {
				t.Errorf("%q (others: %v): %+v", query, values.Others, v)
			} else if v.Allowed && v.Ambiguous || v.Ambiguous && want[i] {
				t.Errorf("%q: %+v", query, v)
			}
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	p := entries(t, policy.Entry{Rule: "GET /x", Body: policy.NoBound, Headers: &policy.Values{
		Required: map[string][]string{"X-Plant": {"P1"}}, Allowed: map[string][]string{"X-Mode": {"read*"}}, Others: true,
	}})
	for name, c := range map[string]struct {
		h    http.Header
		want bool
	}{
		"there":                    {http.Header{"X-Plant": {"P1"}, "X-Other": {"a", "b"}}, true},
		"both":                     {http.Header{"X-Plant": {"P1"}, "X-Mode": {"readonly"}}, true},
		"missing":                  {http.Header{}, false},
		"other value":              {http.Header{"X-Plant": {"P2"}}, false},
		"other mode":               {http.Header{"X-Plant": {"P1"}, "X-Mode": {"write"}}, false},
		"twice":                    {http.Header{"X-Plant": {"P1", "P1"}}, false},
		"in two spellings":         {http.Header{"X-Plant": {"P1"}, "x-plant": {"P1"}}, false},
		"with an underscore":       {http.Header{"X-Plant": {"P1"}, "X_plant": {"P2"}}, false},
		"a list":                   {http.Header{"X-Plant": {"P1, P2"}}, false},
		"removed on the way":       {http.Header{"X-Plant": {"P1"}, "Connection": {"close, x-plant"}}, false},
		"in lower-case Connection": {http.Header{"X-Plant": {"P1"}, "connection": {"X_Plant"}}, false},
	} {
		if v := p.Judge(&policy.Request{Method: "GET", Target: "/x", Header: c.h}); v.Allowed != c.want {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	p := entries(t, policy.Entry{Rule: "POST /x", Body: 100, ContentType: []string{"application/json", "image/*"}})
	for name, c := range map[string]struct {
		r     policy.Request
		fault string
		want  bool
	}{
		"json":           {policy.Request{Length: 100, Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}}, "", true},
		"of a kind":      {policy.Request{Length: 1, Header: http.Header{"Content-Type": {"Image/PNG"}}}, "", true},
		"none":           {policy.Request{}, "", true},
		"unknown length": {policy.Request{Length: -1, Header: http.Header{"Content-Type": {"application/json"}}}, "", true},
		"too long":       {policy.Request{Length: 101, Header: http.Header{"Content-Type": {"application/json"}}}, policy.FaultBody, false},
		"another type":   {policy.Request{Length: 1, Header: http.Header{"Content-Type": {"text/json"}}}, "", false},
		"no type":        {policy.Request{Length: 1}, "", false},
		"two types":      {policy.Request{Length: 1, Header: http.Header{"Content-Type": {"application/json", "text/html"}}}, "", false},
		"two spellings":  {policy.Request{Length: 1, Header: http.Header{"Content-Type": {"application/json"}, "Content_Type": {"text/html"}}}, "", false},
		"broken type":    {policy.Request{Length: 1, Header: http.Header{"Content-Type": {"application/json, text/html"}}}, "", false},
		"upgrade":        {policy.Request{Upgrade: true}, "", false},
	} {
		c.r.Method, c.r.Target = "POST", "/x"
		if v := p.Judge(&c.r); v.Allowed != c.want || v.Fault != c.fault || c.want && v.Body != 100 {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

type principal []string

func (p principal) Is(kind, value string) bool {
	for _, one := range p {
		if one == kind+"="+value {
			return true
		}
	}
	return false
}

func TestWho(t *testing.T) {
	t.Parallel()
	p := entries(t,
		policy.Entry{Rule: "GET /x/{id}", Body: policy.NoBound, Who: []string{"upn=Anna@corp.example", "role=Buyer"}},
		policy.Entry{Rule: "GET /x/1", Body: policy.NoBound, Who: []string{"person"}, Between: []string{"Mon 00:00-24:00 UTC"}},
		policy.Entry{Rule: "GET /open", Body: policy.NoBound},
	)
	monday, tuesday := at(t, "2026-11-23T12:00:00Z"), at(t, "2026-11-24T12:00:00Z")
	asked := 0
	judge := func(target string, now time.Time, who ...string) policy.Verdict {
		return p.Judge(&policy.Request{Method: "GET", Target: target, Now: now, Principal: func() (policy.Principal, error) {
			asked++
			if who == nil {
				return nil, policy.ErrNobody
			}
			return principal(who), nil
		}})
	}
	if v := judge("/open", monday); !v.Allowed || asked != 0 {
		t.Errorf("a rule without who asked who calls: %+v", v)
	}
	if v := judge("/x/1", monday, "person="); !v.Allowed || v.Rule != "GET /x/1" || asked != 1 {
		t.Errorf("%+v, asked %d times", v, asked)
	}
	if v := judge("/x/1", tuesday, "person="); v.Allowed || v.Identity != nil {
		t.Errorf("%+v", v)
	}
	if v := judge("/x/1", tuesday, "role=Buyer"); !v.Allowed || v.Rule != "GET /x/{id}" {
		t.Errorf("the other rule does not admit: %+v", v)
	}
	if v := judge("/x/7", monday, "upn=anna@corp.example"); !v.Allowed {
		t.Errorf("%+v", v)
	}
	asked = 0
	if v := judge("/x/1", monday); v.Allowed || v.Identity == nil || asked != 1 {
		t.Errorf("%+v, asked %d times", v, asked)
	}
	if v := p.Judge(&policy.Request{Method: "GET", Target: "/x/1", Now: monday}); v.Allowed || v.Identity == nil {
		t.Errorf("without any way to prove: %+v", v)
	}
}

func TestWrongConditions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		e    policy.Entry
		says string
	}{
		"who":          {policy.Entry{Who: []string{"anna"}}, "who[0]"},
		"who pattern":  {policy.Entry{Who: []string{"upn=*@corp.example"}}, "no patterns"},
		"who email":    {policy.Entry{Who: []string{"email:anna@corp.example"}}, "no principal"},
		"zone":         {policy.Entry{Between: []string{"07:00-19:00 Europe/Bielefeld"}}, "no time zone"},
		"no zone":      {policy.Entry{Between: []string{"Mon-Fri 07:00-19:00"}}, "no span"},
		"local zone":   {policy.Entry{Between: []string{"07:00-19:00 Local"}}, "no time zone"},
		"days":         {policy.Entry{Between: []string{"Mo-Fr 07:00-19:00 UTC"}}, "no days"},
		"empty span":   {policy.Entry{Between: []string{"07:00-07:00 UTC"}}, "no span"},
		"25 o'clock":   {policy.Entry{Between: []string{"07:00-25:00 UTC"}}, "no span"},
		"type":         {policy.Entry{ContentType: []string{"json"}}, "media type"},
		"two names":    {policy.Entry{Query: &policy.Values{Allowed: map[string][]string{"a": {"*"}, "A": {"*"}}}}, "one name"},
		"no values":    {policy.Entry{Query: &policy.Values{Allowed: map[string][]string{"a": nil}}}, "no values"},
		"encoded name": {policy.Entry{Query: &policy.Values{Allowed: map[string][]string{"%41": {"*"}}}}, "decoded"},
		"field":        {policy.Entry{Headers: &policy.Values{Required: map[string][]string{"Authorization": {"*"}}}}, "cannot be judged"},
		"rule":         {policy.Entry{Rule: "GET"}, "a rule is"},
	} {
		if c.e.Rule == "" {
			c.e.Rule = "GET /x"
		}
		c.e.Body = policy.NoBound
		if _, err := policy.CompileEntries([]policy.Entry{c.e}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHashOfConditions: what decides differently has another hash, what only reads differently has not.
func TestHashOfConditions(t *testing.T) {
	t.Parallel()
	base := policy.Entry{Rule: "GET /x", Body: policy.NoBound, Who: []string{"role=A", "role=B"}}
	same, other, open := base, base, base
	same.Who = []string{"role=B", "role=A"}
	other.Who = []string{"role=A"}
	open.Who = nil
	hash := func(e policy.Entry) string { return entries(t, e).Hash() }
	if hash(base) != hash(same) || hash(base) == hash(other) || hash(base) == hash(open) || hash(open) != compile(t, "GET /x").Hash() {
		t.Error("hashes do not tell policies apart by what they decide")
	}
}

func TestWider(t *testing.T) {
	t.Parallel()
	p := entries(t,
		policy.Entry{Rule: "GET /x/{id}", Body: policy.NoBound, Who: []string{"person"}},
		policy.Entry{Rule: "GET,POST /y/{id}", Body: policy.NoBound, Who: []string{"person"}},
		policy.Entry{Rule: "GET /**", Body: policy.NoBound},
	)
	if got := p.Wider(0) + "|" + p.Wider(1) + "|" + p.Wider(2); got != "GET /**||" {
		t.Errorf("%q", got)
	}
}

// FuzzConditions: forms that compile decide without a fault, and a parameter that a rule binds never gets by with another
// value as any common reading of the query has it.
func FuzzConditions(f *testing.F) {
	f.Add("Mon-Fri 07:00-19:00 Europe/Berlin", "role=Buyer", "plant=P1", int64(1795000000))
	f.Add("Sat 22:00-06:00 UTC", "upn=a@b", "plant=P1&plant=P2", int64(0))
	f.Add("24:00-24:00 Local", "person", "Plant=%50%31;plant", int64(-1))
	f.Add("Sun,Mon-Tue 00:00-24:00 Asia/Kathmandu", "oid=", "plant[]=P2&plant=P1", int64(1<<40))
	f.Fuzz(func(t *testing.T, window, who, query string, now int64) {
		p, err := policy.CompileEntries([]policy.Entry{{Rule: "GET /x", Body: policy.NoBound, Between: []string{window}, Who: []string{who}}})
		if err == nil {
			p.Judge(&policy.Request{Method: "GET", Target: "/x", Now: time.Unix(now, 0), Principal: func() (policy.Principal, error) { return principal{who}, nil }})
		}
		q := entries(t, policy.Entry{Rule: "GET /x", Body: policy.NoBound, Query: &policy.Values{Required: map[string][]string{"plant": {"P1"}}, Others: true}})
		if !q.Judge(&policy.Request{Method: "GET", Target: "/x?" + query}).Allowed {
			return
		}
		r, err := http.NewRequest(http.MethodGet, "http://h/x?"+query, nil)
		if err != nil {
			t.Fatalf("%q is admitted and no URL: %v", query, err)
		}
		seen := 0
		for name, values := range r.URL.Query() {
			if strings.EqualFold(name, "plant") {
				seen += len(values)
				if values[0] != "P1" {
					t.Errorf("%q is admitted with %q", query, values)
				}
			}
		}
		if seen != 1 {
			t.Errorf("%q is admitted, and has the parameter %d times", query, seen)
		}
	})
}
