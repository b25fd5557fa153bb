package jsonline_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport/internal/jsonline"
)

// FuzzAppendString compares with encoding/json: what is read back is the same, and the line is printable ASCII.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "a \"b\" \\", "\x00\n\x1b[2J\x7f\u0085\u2028", "é 😀", "bad \xff\xfe", "\ud7ff\ue000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line := jsonline.AppendString(nil, s)
		for _, c := range line {
			if c < ' ' || c >= 0x7f {
				t.Fatalf("byte %#x in %q", c, line)
			}
		}
		var got string
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if want := strings.Map(func(r rune) rune { return r }, s); got != want { // Map turns bad bytes into U+FFFD
			t.Errorf("%q became %q", want, got)
		}
	})
}

func TestMembers(t *testing.T) {
	t.Parallel()
	b := []byte(`{"v":1`)
	b = jsonline.AppendText(b, "path", "/a\"b")
	b = jsonline.AppendInt(b, "status", -3)
	b = append(b, '}')
	if got, want := string(b), `{"v":1,"path":"/a\"b","status":-3}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
