package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files []string
		want  string // the closing line
		bad   bool
	}{
		{
			"counts tests, and a test with subtests as these",
			[]string{`{"Action":"run","Package":"a","Test":"T"}
{"Action":"run","Package":"a","Test":"T/one"}
{"Action":"pass","Package":"a","Test":"T/one"}
{"Action":"run","Package":"a","Test":"T/two"}
{"Action":"pass","Package":"a","Test":"T/two"}
{"Action":"pass","Package":"a","Test":"T"}
{"Action":"pass","Package":"a"}`},
			"2 passed, 0 failed, 0 skipped", false,
		},
		{
			"skipped here and run there is run",
			[]string{
				`{"Action":"skip","Package":"a","Test":"TestLab"}` + "\n" + `{"Action":"pass","Package":"a","Test":"U"}`,
				`{"Action":"pass","Package":"a","Test":"TestLab"}`,
			},
			"2 passed, 0 failed, 0 skipped", false,
		},
		{
			"skipped everywhere is told",
			[]string{`{"Action":"skip","Package":"a","Test":"S"}` + "\n" + `{"Action":"pass","Package":"a","Test":"U"}`},
			"1 passed, 0 failed, 1 skipped", false,
		},
		{
			"a failure stays one when a later run passes",
			[]string{`{"Action":"fail","Package":"a","Test":"T"}` + "\n" + `{"Action":"fail","Package":"a"}`, `{"Action":"pass","Package":"a","Test":"T"}`},
			"0 passed, 1 failed, 0 skipped", true,
		},
		{
			"a parent that fails on its own, with good subtests, is a failure",
			[]string{`{"Action":"pass","Package":"a","Test":"T/one"}` + "\n" + `{"Action":"fail","Package":"a","Test":"T"}`},
			"1 passed, 1 failed, 0 skipped", true,
		},
		{
			"a parent that fails by its subtest is one failure",
			[]string{`{"Action":"fail","Package":"a","Test":"T/one"}` + "\n" + `{"Action":"fail","Package":"a","Test":"T"}`},
			"0 passed, 1 failed, 0 skipped", true,
		},
		{
			"a process that dies fails the test it was in",
			[]string{`{"Action":"run","Package":"a","Test":"T"}` + "\n" + `{"Action":"fail","Package":"a"}`},
			"0 passed, 1 failed, 0 skipped", true,
		},
		{
			"a package that does not build is a failure",
			[]string{`{"ImportPath":"a [a.test]","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"a [a.test]","Action":"build-fail"}
{"Action":"fail","Package":"a","FailedBuild":"a [a.test]"}`},
			"0 passed, 1 failed, 0 skipped", true,
		},
		{"a TestMain that fails is a failure", []string{`{"Action":"pass","Package":"a","Test":"T"}` + "\n" + `{"Action":"fail","Package":"a"}`}, "1 passed, 1 failed, 0 skipped", true},
		{"steps count as one each", []string{"STEP pass gofumpt\nSTEP fail go vet\nSTEP skip lab\n"}, "1 passed, 1 failed, 1 skipped", true},
		{"an empty run is no success", []string{""}, "0 passed, 0 failed, 0 skipped", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ta := newTally()
			for _, f := range c.files {
				if err := ta.read(strings.NewReader(f)); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			err := ta.report(&out)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if got := lines[len(lines)-1]; got != c.want {
				t.Errorf("closing line %q, want %q", got, c.want)
			}
			if (err != nil) != c.bad {
				t.Errorf("error %v, want one: %v", err, c.bad)
			}
		})
	}
}
