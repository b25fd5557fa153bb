package connector

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"
)

func TestTakePreference(t *testing.T) {
	t.Parallel()
	for line, c := range map[string]struct {
		wait  time.Duration
		async bool
		rest  string
	}{
		"respond-async":          {0, true, ""},
		"Respond-Async, wait=10": {10 * time.Second, true, ""},
		"wait=5, return=minimal; foo=\"a, respond-async\"": {0, false, "wait=5, return=minimal; foo=\"a, respond-async\""},
		"return=minimal, respond-async;x=1,wait=\"7\"":     {0, false, "return=minimal, respond-async;x=1,wait=\"7\""},
		"return=minimal,respond-async,wait=\"7\"":          {7 * time.Second, true, "return=minimal"},
		"respond-async, wait=99999999999":                  {maxTimeout, true, ""},
		"respond-async, wait=1000000":                      {maxTimeout, true, ""},
		"respond-async, wait=-1":                           {0, true, ""},
		"":                                                 {0, false, ""},
	} {
		h := http.Header{"Prefer": {line}}
		wait, async := takePreference(h)
		if wait != c.wait || async != c.async || h.Get("Prefer") != c.rest {
			t.Errorf("%q: %s %v, and %q goes on; want %s %v %q", line, wait, async, h.Get("Prefer"), c.wait, c.async, c.rest)
		}
	}
}

// Whatever a caller prefers, what is left for the API is no preference for an asynchronous answer, and valid.
func FuzzTakePreference(f *testing.F) {
	for _, line := range []string{"respond-async, wait=10", "return=minimal, respond-async", "respond-async,,;=\"", "a=\"respond-async, b", "respond-async, respond-async", "\"00,respond-AsYnC"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if !httpguts.ValidHeaderFieldValue(line) {
			return // net/http lets none in
		}
		h := http.Header{"Prefer": {line}}
		wait, async := takePreference(h)
		if wait < 0 || wait > maxTimeout {
			t.Errorf("%q: wait %s", line, wait)
		}
		if !async && h.Get("Prefer") != line {
			t.Errorf("%q was not taken, and became %q", line, h.Get("Prefer"))
		}
		if again := (http.Header{"Prefer": {h.Get("Prefer")}}); async {
			if _, left := takePreference(again); left || !httpguts.ValidHeaderFieldValue(h.Get("Prefer")) {
				t.Errorf("%q became %q", line, h.Get("Prefer"))
			}
		}
	})
}

// Whatever an API answers as Location, what is signed is a request target below the connector, and not the relay's own.
func FuzzHookTarget(f *testing.F) {
	const base = "https://relay.example.com/plant1/orders"
	for _, location := range []string{base + "/hooks/7", "hooks/7?x#y", base + "/_/ping", base + "//x", "", "?", base + "/\r\n", base + "/é"} {
		f.Add(location, "/v1/hooks?a=/b")
	}
	f.Add("0", "/#/")
	f.Fuzz(func(t *testing.T, location, request string) {
		if !strings.HasPrefix(request, "/") {
			return // no request target has another form here
		}
		target, ok := hookTarget(location, base, request)
		if !ok {
			return
		}
		if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "/_/") || len(target) > maxHookTarget || strings.ContainsAny(target, " \r\n\t#") {
			t.Errorf("%q for %q gives %q", location, request, target)
		}
	})
}
