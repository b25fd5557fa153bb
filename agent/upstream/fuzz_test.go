package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// FuzzHead: what the head reader takes, http.ReadResponse takes too and reads the same, whatever pieces it comes in.
func FuzzHead(f *testing.F) {
	for _, tc := range battery {
		if len(tc.answer) < 4096 {
			f.Add([]byte(tc.answer))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req := &http.Request{Method: "GET"}
		read := func(src io.Reader) (*http.Response, string, error) {
			h := headReader{src: src, br: bufio.NewReaderSize(src, 64)}
			resp, _, err := h.read(req)
			if err != nil {
				return nil, "", err
			}
			body, _ := io.ReadAll(resp.Body)
			return resp, string(body), nil
		}
		resp, body, err := read(bytes.NewReader(b))
		again, bodyAgain, errAgain := read(iotest.OneByteReader(bytes.NewReader(b)))
		if (err == nil) != (errAgain == nil) || body != bodyAgain {
			t.Fatalf("whole: %v %q, by bytes: %v %q", err, body, errAgain, bodyAgain)
		}
		if err != nil {
			return
		}
		oracle, oerr := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), req)
		if oerr != nil {
			t.Fatalf("taken, but http.ReadResponse says %v", oerr)
		}
		if oracle.StatusCode != resp.StatusCode || oracle.ContentLength != resp.ContentLength || again.StatusCode != resp.StatusCode {
			t.Errorf("%d %d, http.ReadResponse %d %d", resp.StatusCode, resp.ContentLength, oracle.StatusCode, oracle.ContentLength)
		}
		// The one field whose value is changed on purpose; what becomes of it has a test of its own.
		delete(oracle.Header, "Trailer")
		delete(resp.Header, "Trailer")
		if diff := cmp.Diff(oracle.Header, resp.Header); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzChallenges: no challenge of Negotiate or NTLM survives, and what survives was there.
func FuzzChallenges(f *testing.F) {
	for _, s := range []string{
		"Negotiate", "Negotiate abc==, NTLM", `Basic realm="a, Negotiate", NTLM`, `Digest a="\",", Negotiate x`, "negotiate,,ntlm ,Bearer", `Basic realm="x`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		h := http.Header{"Www-Authenticate": {v}}
		stripWindows(h)
		for _, kept := range h["Www-Authenticate"] {
			for _, ch := range splitChallenges(kept) {
				if isWindows(ch) {
					t.Errorf("%q leaves %q", v, kept)
				}
				if len(ch) > 0 && !strings.Contains(v, ch[:1]) {
					t.Errorf("%q made %q", v, ch)
				}
			}
		}
	})
}
