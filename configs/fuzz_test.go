package configs_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"sallyport/configs"
)

// FuzzLoad wants either a struct or errors, each with a place inside of the file, and the same again the second time.
func FuzzLoad(f *testing.F) {
	for _, file := range []string{
		"", "~", "relay: r\n", "relay: r\nparts:\n  - {name: a, size: 1KiB}\n  - name: b\n", "relay: [", "\ufeffrelay: r\r\nlevel: debug\r\n", "labels: {a: b, a: c}\n",
		"relay: |\n  a\n  b\n", "words:\n  - * /x\n", "relay: &a b\nlevel: *a\n", "? a\n: b\n", "- - - -\n", "relay: r\n---\nrelay: s\n", "\xff\xfea", "wait: 1d\nbody: 5\n",
		"part:\nparts:\n  -\n", "a: b: c\n", "relay: \"\\u0000\"\n", "{relay: r, either: none}\n", "%TAG\n", "on: True\ncount: 0x1\nratio: .inf\n",
	} {
		f.Add([]byte(file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c, again sample
		checked := false
		err := configs.Load("x.yaml", data, &c, func(d *configs.Doc) {
			checked = true
			d.Has("parts[0].name")
			d.Position("parts[3].size")
		})
		if err == nil {
			if !checked || c.Relay == "" && !strings.Contains(string(data), "relay") {
				t.Fatalf("no error, and yet %+v", c)
			}
			if err := configs.Load("x.yaml", data, &again, nil); err != nil || !reflect.DeepEqual(c, again) {
				t.Fatalf("the second time: %v %+v", err, again)
			}
			return
		}
		errs, ok := errors.AsType[configs.Errors](err)
		if !ok || len(errs) == 0 {
			t.Fatalf("%T: %v", err, err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, e := range errs {
			if e.Line < 1 || e.Line > lines+1 || e.Column < 1 || e.Message == "" {
				t.Errorf("no place in the file: %v", e)
			}
		}
	})
}
