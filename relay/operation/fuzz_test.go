package operation

import (
	"bytes"
	"io"
	"net/http"
	"testing"
)

// Whatever stands in the store, reading it ends, and nothing is read that was not written under the token.
func FuzzOpenRecord(f *testing.F) {
	var good bytes.Buffer
	s, err := newSealer(&good, "token", "name", &Record{State: Answered, Status: 200, Header: http.Header{"A": {"b"}}})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := s.Write([]byte("body")); err != nil {
		f.Fatal(err)
	}
	if err := s.close(); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(good.Bytes()[:30])
	f.Add([]byte("sop10123456789abcdef\x00\x00\x00\x10"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rec, body, err := openRecord(io.NopCloser(bytes.NewReader(text)), "token", "name")
		if err != nil {
			return
		}
		b, err := io.ReadAll(body)
		if err == nil && (rec.Status != 200 || string(b) != "body") {
			t.Errorf("read %+v %q", rec, b)
		}
	})
}

// A token from a caller finds a target only if it is one that was made.
func FuzzTokens(f *testing.F) {
	l := &Ledger{c: Config{Secret: bytes.Repeat([]byte{7}, 32)}}
	made := l.Hook("c1", "/hooks/7")
	for _, token := range []string{made, made[1:], l.NewToken(), "r" + made[:43], "", "d\x00"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if target, ok := l.CheckHook("c1", token); ok && token != made {
			t.Errorf("%q stands for %q", token, target)
		}
		if name, ok := nameOf("c1", token); ok {
			if connector, kind, ok := splitName(name); !ok || connector != "c1" || kind != token[:1] {
				t.Errorf("%q has the name %q", token, name)
			}
		}
	})
}
