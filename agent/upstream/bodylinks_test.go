package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const publicBase = "https://relay.example/plant1/orders"

func scanner(t testing.TB, api string, paths ...string) func() *linkScanner {
	t.Helper()
	u, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	list, err := parseLinkPaths(paths)
	if err != nil {
		t.Fatal(err)
	}
	return func() *linkScanner { return newLinkScanner(newLinks(u, []string{"cdn.example"}), list, publicBase) }
}

func TestLinksInBodies(t *testing.T) {
	t.Parallel()
	scan := scanner(t, "http://erp.corp.example:8080/api/v2", "/value/*/href", "self", "/a~1b/**/x")
	for _, c := range []struct{ in, want string }{
		{`{"@odata.nextLink": "http://erp.corp.example:8080/api/v2/orders?$skip=2#f"}`, `{"@odata.nextLink": "https://relay.example/plant1/orders/orders?$skip=2#f"}`},
		{` {"nextLink":"HTTP:\/\/ERP.corp.example:8080\/api\/v2\/orders\u003fx=\u00e9"}` + "\r\n", ` {"nextLink":"https:\/\/relay.example\/plant1\/orders\/orders\u003fx=\u00e9"}` + "\r\n"},
		{`{"nextLink":"http:\u002F\u002Ferp.corp.example:8080\u002fapi\u002fv2"}`, `{"nextLink":"https:\/\/relay.example\/plant1\/orders"}`},
		{`{"next\u004cink":"/api/v2/orders"}`, `{"next\u004cink":"https://relay.example/plant1/orders/orders"}`},
		{
			`{"nextLink":"http://erp.corp.example:8080/api/v2/o?u=http%3A%2F%2Ferp.corp.example%3A8080%2Fapi%2Fv2%2Fx%3Fp%3D1&v=http%3a%2f%2ferp.corp.example%3a8080%2fapi%2fv2&w=1"}`,
			`{"nextLink":"https://relay.example/plant1/orders/o?u=https%3A%2F%2Frelay.example%2Fplant1%2Forders%2Fx%3Fp%3D1&v=https%3a%2f%2frelay.example%2fplant1%2forders&w=1"}`,
		},
		{`{"self":"https://login.example/?to=http%3A%2F%2Ferp.corp.example%3A8080%2Fapi%2Fv2%2F"}`, `{"self":"https://login.example/?to=https%3A%2F%2Frelay.example%2Fplant1%2Forders%2F"}`},
		{
			`{"value":[{"href":"/api/v2/1","other":"/api/v2/1"},{"href":["/api/v2/2"]},7],"href":"/api/v2/3"}`,
			`{"value":[{"href":"https://relay.example/plant1/orders/1","other":"/api/v2/1"},{"href":["/api/v2/2"]},7],"href":"/api/v2/3"}`,
		},
		{
			`{"a/b":{"x":"/api/v2/1","c":[{"x":"/api/v2/2"}]},"x":"/api/v2/3"}`,
			`{"a/b":{"x":"https://relay.example/plant1/orders/1","c":[{"x":"https://relay.example/plant1/orders/2"}]},"x":"/api/v2/3"}`,
		},
		{`[{"self":"/api/v2"},{"d":{"self":"//erp.corp.example:8080/api/v2/"}}]`, `[{"self":"https://relay.example/plant1/orders"},{"d":{"self":"https://relay.example/plant1/orders/"}}]`},
		{"\xef\xbb\xbf" + `{"self":"/api/v2/1"}`, "\xef\xbb\xbf" + `{"self":"https://relay.example/plant1/orders/1"}`},
	} {
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			s := scan()
			var out []byte
			for piece := range slices.Chunk([]byte(c.in), size) {
				out = s.feed(out, piece)
			}
			if got := string(s.end(out)); got != c.want {
				t.Errorf("pieces of %d:\n got %s\nwant %s", size, got, c.want)
			}
		}
	}
	for _, same := range []string{
		`{"self":"http://hr.corp.example/api/v2/1"}`, `{"self":"https://cdn.example/x"}`, `{"self":"orders/1"}`, `{"self":"http://erp.corp.example:8080/other"}`,
		`{"self":"/api/v22/1"}`, `{"self":"/api/v2/../x"}`, `{"self":" /api/v2/1"}`, `{"self":null}`, `{"self":"`, `{"self":"/api/v2/1`, `{"self" "/api/v2/1"}`,
		`{"self":"/api/v2/\x"}`, `{"a":01,"self":"/api/v2/1"}`, `{"a":tru,"self":"/api/v2/1"}`, `{a:1,"self":"/api/v2/1"}`, `"/api/v2/1"`, ``, `{"self":"\ud800/api/v2"}`,
		`{"self":"` + strings.Repeat("x", 3*maxLinkText) + `"}`, strings.Repeat("[", 600) + `{"self":"/api/v2/1"}`, "\xef\xbb{}",
		`<a href="/api/v2/1">`, `{"` + strings.Repeat("n", 600) + `":"/api/v2/1"}`,
	} {
		s := scan()
		if got := string(s.end(s.feed(nil, []byte(same)))); got != same {
			t.Errorf("%.80s became %.80s", same, got)
		}
	}
}

func TestLinkPathsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "/", "/value/", "/" + strings.Repeat("a/", 40) + "b"} {
		if _, err := parseLinkPaths([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := parseLinkPaths(make([]string, 40)); err == nil {
		t.Error("forty are taken")
	}
}

// Through a real stream: what is asked for, lengths, encodings, and what is left alone.
func TestLinksThroughTheTunnel(t *testing.T) {
	t.Parallel()
	var srv *httptest.Server
	var accept []string
	page := func() string { return `{"nextLink":"` + srv.URL + `/api/p2","n":1}` }
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		accept = q.Header["Accept-Encoding"]
		h := w.Header()
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("ETag", `"strong"`)
		body := page()
		switch q.URL.Path {
		case "/api/digest":
			h.Set("Content-Digest", "sha-256=:x:")
		case "/api/text":
			h.Set("Content-Type", "text/plain")
		case "/api/gzip":
			h.Set("Content-Encoding", "gzip")
		case "/api/problem":
			h.Set("Content-Type", "application/problem+json")
		case "/api/utf16":
			h.Set("Content-Type", "application/json; charset=utf-16")
		case "/api/part":
			h.Set("Content-Range", "bytes 0-9/20")
			h.Set("Content-Length", strconv.Itoa(len(body)))
			w.WriteHeader(206)
		case "/api/invalid":
			body += "]"
		case "/api/large":
			body = `{"value":[` + strings.Repeat(`{"x":"y"},`, 100_000) + "7]," + body[1:]
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		io.WriteString(w, body)
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL + "/api")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Config{Name: "orders", URL: u, Links: []string{"self"}})
	rewritten := `{"nextLink":"` + publicBase + `/p2","n":1}`
	for path, want := range map[string]string{
		"/one": rewritten, "/problem": rewritten, "/digest": page(), "/text": page(), "/gzip": page(), "/part": page(), "/utf16": page(), "/invalid": page() + "]",
		"/large": `{"value":[` + strings.Repeat(`{"x":"y"},`, 100_000) + "7]," + rewritten[1:],
	} {
		in := head("GET", path)
		in.Header.Set("Accept-Encoding", "gzip, br")
		resp, body, err := r.exchange(t, in, "")
		if err != nil || body != want {
			t.Errorf("%s: %v\n got %.200s\nwant %.200s", path, err, body, want)
			continue
		}
		touched := path == "/one" || path == "/problem" || path == "/invalid" || path == "/large"
		if touched != (resp.ContentLength < 0) || !touched && resp.ContentLength != int64(len(want)) {
			t.Errorf("%s: length %d", path, resp.ContentLength)
		}
		if resp.Header.Get("ETag") != `"strong"` || !slices.Equal(accept, []string{"identity"}) {
			t.Errorf("%s: %v, asked for %q", path, resp.Header, accept)
		}
	}
	resp, _, err := r.exchange(t, head("HEAD", "/one"), "")
	if err != nil || resp.ContentLength >= 0 {
		t.Errorf("HEAD: %v %+v", err, resp)
	}
	plain := newRig(t, Config{Name: "orders", URL: u})
	in := head("GET", "/one")
	in.Header.Set("Accept-Encoding", "br")
	if resp, body, err := plain.exchange(t, in, ""); err != nil || body != page() || resp.ContentLength != int64(len(body)) || accept[0] != "br" {
		t.Errorf("an API that does not ask for it: %v %s %+v %q", err, body, resp, accept)
	}
}

// A body of any size passes in the same memory.
func TestLinksInConstantMemory(t *testing.T) {
	scan := scanner(t, "http://erp/api", "/value/*/href", "self")
	r := &linkReader{src: &longBody{left: 256 << 20, piece: []byte(`{"href":"/api/1","text":"` + strings.Repeat("x", 900) + `"},`)}, scan: scan()}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := io.Copy(io.Discard, struct{ io.Reader }{r})
	runtime.ReadMemStats(&after)
	if err != nil || n < 256<<20 {
		t.Fatal(n, err)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("%d bytes of body have taken %d bytes of memory", n, grown)
	}
}

type longBody struct {
	left  int
	piece []byte
	begun bool
}

func (e *longBody) Read(p []byte) (int, error) {
	if !e.begun {
		e.begun = true
		return copy(p, `{"value":[`), nil
	}
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := 0
	for n+len(e.piece) <= len(p) {
		n += copy(p[n:], e.piece)
	}
	e.left -= n
	return n, nil
}

var jsonString = regexp.MustCompile(`"(\\.|[^"\\])*"`)

// FuzzBodyLinks compares with encoding/json: of valid JSON only the strings at the places change, each as a link of a head
// does, and nothing else by a byte; and it does not matter where the body is cut.
func FuzzBodyLinks(f *testing.F) {
	for _, seed := range []string{
		`{"@odata.nextLink":"http://erp.corp.example/api/x?y=1","value":[{"href":"\/api\/1"}]}`, `{"nextLink":"\u002fapi?u=http%3A%2F%2Ferp.corp.example%2Fapi"}`,
		`[1,-0.5e+7,true,false,null,"\"\\\ud83d\ude00"]`, "\xef\xbb\xbf{}", `{"value":{"a":{"href":"/api"}}}`, `{"a":[{"nextLink":"/api/../x"}],"nextLink":"/api/\u0000"}`,
		`{"nextLink":"\u0000"}`,
	} {
		f.Add([]byte(seed), 3)
	}
	scan := scanner(f, "http://erp.corp.example/api", "/value/*/href")
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		s := scan()
		whole := s.end(s.feed(nil, in))
		s = scan()
		var pieces []byte
		for piece := range slices.Chunk(in, 1+abs(size)%64) {
			pieces = s.feed(pieces, piece)
		}
		if pieces = s.end(pieces); !bytes.Equal(whole, pieces) {
			t.Fatalf("cut into pieces it becomes\n%q, whole\n%q", pieces, whole)
		}
		text := bytes.TrimPrefix(in, byteOrderMark)
		if !json.Valid(text) || deep(text) {
			return
		}
		var want, got any
		if err := json.Unmarshal(text, &want); err != nil {
			return
		}
		if err := json.Unmarshal(bytes.TrimPrefix(whole, byteOrderMark), &got); err != nil {
			t.Fatalf("%q is no JSON any more: %q", in, whole)
		}
		links := scan().links
		if diff := cmp.Diff(oracle(links, want, nil), oracle(links, got, func(s string) string { return s })); diff != "" {
			t.Fatalf("%q became %q: %s", in, whole, diff)
		}
		if a, b := jsonString.ReplaceAll(in, nil), jsonString.ReplaceAll(whole, nil); !bytes.Equal(a, b) {
			t.Fatalf("more than strings changed: %q became %q", in, whole)
		}
	})
}

func abs(n int) int { return max(n, -(n + 1)) }

func deep(text []byte) bool {
	return bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) > 400
}

// oracle gives each string of a document by its place, links changed by change; nil: as the head's are.
func oracle(l *links, doc any, change func(string) string) map[string]string {
	if change == nil {
		change = func(s string) string {
			if s != strings.TrimSpace(s) || len(s) > maxLinkText/6 {
				return s
			}
			out := s
			if p, ok := l.public(s, publicBase); ok {
				out = p
			}
			return out
		}
	}
	out := map[string]string{}
	var walk func(v any, at []string)
	walk = func(v any, at []string) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				walk(x, append(at[:len(at):len(at)], k))
			}
		case []any:
			for i, x := range v {
				walk(x, append(at[:len(at):len(at)], fmt.Sprint(i)))
			}
		case string:
			last := ""
			if len(at) > 0 {
				last = at[len(at)-1]
			}
			isLink := last == "nextLink" || last == "@odata.nextLink" || last == "@odata.deltaLink" || len(at) == 3 && at[0] == "value" && last == "href"
			if isLink {
				if v = change(v); strings.Contains(strings.ToLower(v), "%3a%2f%2f") { // in a query: TestLinksInBodies
					return
				}
			}
			out[strings.Join(at, "\x00")] = v
		}
	}
	walk(doc, nil)
	return out
}
