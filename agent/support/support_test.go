package support

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMask(t *testing.T) {
	t.Parallel()
	const secret = `p"ä ss/w+ord`
	m := NewMask(secret, "abc", "p")
	for in, want := range map[string]string{
		"logged " + secret + " by mistake":                             "logged *** by mistake",
		`{"x":"p\"ä ss/w+ord"}`:                                        `{"x":"***"}`,
		"?q=" + url.QueryEscape(secret):                                "?q=***",
		"Basic2 " + base64.StdEncoding.EncodeToString([]byte(secret)):  "Basic2 ***",
		"abc is too short to be searched for":                          "abc is too short to be searched for",
		"proxy: http://user:pa55@proxy.corp.example:8080":              "proxy: http://***proxy.corp.example:8080",
		"HTTPS_PROXY=http://user:p@ss@w0rd@proxy:8080 (http://x@y)":    "HTTPS_PROXY=http://***proxy:8080 (http://***y)",
		"spjoin1.eyJyZWxheSI6Imh0dHBzOi8v":                             "spjoin1.***",
		"key sp_Ab3dEfGhIjKl was refused":                              "key sp_*** was refused",
		"Authorization: Bearer abcdefgh.ijk":                           "Authorization: ***",
		"sent Negotiate YIIabcdefgh== there":                           "sent Negotiate *** there",
		"token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2ln here":     "token *** here",
		"    password: hunter2 and more\nnext: line":                   "    password: ***\nnext: line",
		`{"api_key": "k-123", "b": 1}`:                                 `{"api_key": ***, "b": 1}`,
		"auth: {basic: {user: u, secret: erp-password}}":               "auth: {basic: {user: u, secret: erp-password}}", // a name
		"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----": "-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----",
		"link up https://relay.example.com/x@y":                        "link up https://relay.example.com/x@y",
	} {
		if diff := cmp.Diff(want, string(m.Bytes([]byte(in)))); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", in, diff)
		}
	}
}

// TestWrite: every part is in the archive and masked, one that could not be had says why, and a long one keeps its end.
func TestWrite(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("an old line\n", maxPart/12+100) + "the last line\n"
	var out bytes.Buffer
	names, err := Write(&out, NewMask("hunter2!"), "srv1", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), []Part{
		{Name: "log.txt", Why: "the log", Text: []byte("said hunter2! once\n")},
		{Name: "status.json", Why: "the status", Err: errors.New("no file for hunter2!")},
		{Name: "long.txt", Text: []byte(long)},
		{Name: "half.txt", Text: []byte(long), Err: errors.New("the rest for hunter2!")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"README.txt", "log.txt", "status.json", "long.txt", "half.txt"}, names); diff != "" {
		t.Error(diff)
	}
	z, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		texts[f.Name] = string(data)
	}
	if texts["log.txt"] != "said *** once\n" || texts["status.json"] != "could not be had: no file for ***\n" {
		t.Errorf("%q, %q", texts["log.txt"], texts["status.json"])
	}
	if l := texts["long.txt"]; len(l) > maxPart+100 || !strings.HasPrefix(l, "(the first ") || !strings.HasSuffix(l, "\nthe last line\n") {
		t.Errorf("a long part: %d bytes, from %.60q", len(l), l)
	}
	if h := texts["half.txt"]; len(h) > maxPart+200 || !strings.HasSuffix(h, "\nthe last line\ncould not be had: the rest for ***\n") {
		t.Errorf("a long part that is not whole: %d bytes, to %q", len(h), h[max(0, len(h)-80):])
	}
	if r := texts["README.txt"]; !strings.Contains(r, "2026-01-02T03:04:05Z on srv1") || !strings.Contains(r, "status.json") {
		t.Errorf("README: %s", r)
	}
}

func FuzzMask(f *testing.F) {
	f.Add("hunter22", "say hunter22 aloud")
	f.Add("a/b+c d", "?x=a%2Fb%2Bc+d")
	f.Fuzz(func(t *testing.T, secret, text string) {
		if len(secret) > 100 || len(text) > 1000 || len(secret) < leastSecret || strings.Contains(stars, secret) || strings.Contains(secret, "*") {
			return
		}
		if got := NewMask(secret).Bytes([]byte(text + secret + text)); bytes.Contains(got, []byte(secret)) {
			t.Errorf("%q is in %q", secret, got)
		}
	})
}
