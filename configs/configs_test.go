package configs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/configs"
)

type upper string

func (u *upper) UnmarshalText(text []byte) error {
	if strings.ToLower(string(text)) == string(text) {
		return errors.New("must be in capitals (press shift)")
	}
	*u = upper(text)
	return nil
}

// either is a setting that is one word or a mapping.
type either struct {
	Word string
	Name string `yaml:"name"`
}

func (e *either) UnmarshalText(text []byte) error {
	if string(text) != "none" {
		return errors.New("write none or settings")
	}
	e.Word = string(text)
	return nil
}

type part struct {
	Name string       `yaml:"name,required"`
	Size configs.Size `yaml:"size"`
}

type sample struct {
	Relay   string            `yaml:"relay,required"`
	Level   string            `yaml:"level" enum:"info,debug"`
	On      bool              `yaml:"on"`
	Count   int               `yaml:"count"`
	Small   uint8             `yaml:"small"`
	Ratio   float64           `yaml:"ratio"`
	Wait    time.Duration     `yaml:"wait"`
	Body    configs.Size      `yaml:"body"`
	Parts   []part            `yaml:"parts"`
	Words   []string          `yaml:"words"`
	Labels  map[string]string `yaml:"labels"`
	Part    *part             `yaml:"part"`
	Upper   upper             `yaml:"upper"`
	Either  either            `yaml:"either"`
	Private string
}

func TestLoad(t *testing.T) {
	t.Parallel()
	const file = "\ufeffrelay: 0x10\r\nlevel: debug\r\non: true\r\ncount: -3\r\nsmall: 255\r\nratio: 1.5\r\nwait: 1m30s\r\nbody: 100MB\r\n" +
		"parts:\r\n  - name: a\r\n    size: 64KiB\r\n  - {name: b, size: 7}\r\nwords: [x, '* y', 007]\r\nlabels:\r\n  k: v\r\n" +
		"part:\r\n  name: p\r\nupper: ABC\r\neither: none\r\n"
	var got sample
	if err := configs.Load("x.yaml", []byte(file), &got, nil); err != nil {
		t.Fatal(err)
	}
	want := sample{
		Relay: "0x10", Level: "debug", On: true, Count: -3, Small: 255, Ratio: 1.5, Wait: 90 * time.Second, Body: 100e6,
		Parts: []part{{"a", 64 << 10}, {"b", 7}}, Words: []string{"x", "* y", "007"}, Labels: map[string]string{"k": "v"},
		Part: &part{Name: "p"}, Upper: "ABC", Either: either{Word: "none"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Everything that is wrong is reported by one run, in the order of the file, each with its place.
func TestLoadErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, file string
		want       []string
	}{
		{"all at once", `levl: info
relay: r
level: loud
on: yes
count: 010
small: 256
wait: 230
body: 1 parsec
parts:
  - size: 5
  - name: [a]
  - nothing
words: x
labels: [a]
relay: again
upper: abc
either: all
part: {name: x, nmae: y, zzz: 1}
`, []string{
			`x.yaml:1:1: unknown key "levl" (did you mean "level"?)`,
			`x.yaml:3:8: "loud" is not known here (write one of: info, debug)`,
			`x.yaml:4:5: "yes" is neither true nor false`,
			`x.yaml:5:8: "010" is not a whole number in reach (write it in decimal digits)`,
			`x.yaml:6:8: "256" is not a whole number from zero up in reach (write it in decimal digits)`,
			`x.yaml:7:7: "230" is not a duration (write a number and its unit, ms, s, m, h or d: 230s)`,
			`x.yaml:8:7: "1 parsec" is not a size (write bytes, kB, MB, GB, or KiB, MiB, GiB: 100MB)`,
			`x.yaml:10:5: name is missing`,
			`x.yaml:11:11: a list stands here instead of one value`,
			`x.yaml:12:5: a single value stands here instead of settings (write one or more of: name, size)`,
			`x.yaml:13:8: a single value stands here instead of a list (write each entry on a line of its own, after "- ")`,
			`x.yaml:14:9: a list stands here instead of names with values (write each as "name: value")`,
			`x.yaml:15:1: "relay" stands here a second time (remove one)`,
			`x.yaml:16:8: must be in capitals (press shift)`,
			`x.yaml:17:9: write none or settings`,
			`x.yaml:18:17: unknown key "nmae" (did you mean "name"?)`,
			`x.yaml:18:26: unknown key "zzz" (known here: name, size)`,
		}},
		{"empty", "", []string{"x.yaml:1:1: relay is missing"}},
		{"comments only", "# nothing\n", []string{"x.yaml:1:1: relay is missing"}},
		{"null", "~\n", []string{"x.yaml:1:1: relay is missing"}},
		{"null scalar", "relay:\n", []string{"x.yaml:1:8: nothing stands here instead of one value"}},
		{"list", "- a\n", []string{"x.yaml:1:1: a list stands here instead of settings (write one or more of: relay, level, on, count, small, ratio, wait, body, parts, words, labels, part, upper, either)"}},
		{"syntax", "relay: [\n", []string{"x.yaml:1:8: not valid YAML: sequence end token ']' not found"}},
		{"tab", "part:\n\tname: x\n", []string{`x.yaml:2:1: not valid YAML: found character '\t' that cannot start any token (a tab cannot indent in YAML: use spaces)`}},
		{"tab first", "\trelay: x\n", []string{"x.yaml:1:6: not valid YAML: tab character cannot use as a map key directly (a tab cannot indent in YAML: use spaces)"}},
		{"two documents", "relay: a\n---\nrelay: b\n", []string{`x.yaml:3:1: a second document begins here (a file holds one: remove the line "---" and what follows)`}},
		{"alias", "words:\n  - * /x\n", []string{`x.yaml:2:5: "*" begins an alias in YAML, and aliases are not read (quote a value that begins with "*": "* /orders")`}},
		{"anchor", "relay: &a b\n", []string{`x.yaml:1:8: "&" begins an anchor in YAML, and anchors are not read (write the value where it is used, or quote it)`}},
		{"tag", "relay: !!binary aGk=\n", []string{`x.yaml:1:8: "!" begins a tag in YAML, and tags are not read (quote a value that begins with "!")`}},
		{"merge", "part:\n  <<: {name: x}\n", []string{`x.yaml:2:3: merge keys are not read (write the values where they are used)`}},
		{"complex key", "? relay\n: x\n", []string{`x.yaml:1:1: "?" begins a complex key in YAML, and these are not read (quote a value that begins with "?")`}},
		{"directive", "%YAML 1.2\n---\nrelay: x\n", []string{`x.yaml:1:1: directives are not read (remove the line, or quote a value that begins with "%")`}},
		{"latin-1", "relay: a\nlevel: \xe9\n", []string{"x.yaml:2:8: not UTF-8 (save the file as UTF-8)"}},
		{"utf-16", "\xff\xfer\x00", []string{"x.yaml:1:1: the file is UTF-16 (save it as UTF-8; in PowerShell: Set-Content -Encoding utf8)"}},
		{"nul", "relay: a\x00b\n", []string{"x.yaml:1:9: control character U+0000 (remove it)"}},
		{"lone cr hides text", "relay: evil\rrelay: good\n", []string{"x.yaml:1:12: control character U+000D (remove it)"}},
		{"bidi", "relay: a\u202eb\n", []string{"x.yaml:1:9: invisible character U+202E (remove it)"}},
		{"deep flow", "words: " + strings.Repeat("[", 40), []string{"x.yaml:1:40: nested deeper than 32 levels"}},
		{"deep block", "words:\n" + strings.Repeat("- ", 40), []string{"x.yaml:2:65: nested deeper than 32 levels"}},
		{"huge", strings.Repeat("#", configs.MaxSize+1), []string{"x.yaml:1:1: the file has 1048577 bytes, more than 1048576 (is it the right file?)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var c sample
			err := configs.Load("x.yaml", []byte(tt.file), &c, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A file of many keys must not cost the parser's quadratic time.
func TestLoadManyKeys(t *testing.T) {
	t.Parallel()
	var c sample
	err := configs.Load("x.yaml", []byte(strings.Repeat("a: b\n", 200_000)), &c, nil)
	if err == nil || !strings.Contains(err.Error(), "x.yaml:10001:2: more than 10000 keys") {
		t.Fatalf("got %v", err)
	}
}

// As many as are allowed must still be quick: the parser looks at all earlier keys for each.
func TestLoadMostKeys(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("relay: r\nlabels:\n")
	for i := range 9_000 {
		fmt.Fprintf(&b, "  key%d: v\n", i)
	}
	var c sample
	if err := configs.Load("x.yaml", []byte(b.String()), &c, nil); err != nil || len(c.Labels) != 9_000 {
		t.Fatalf("%d labels, %v", len(c.Labels), err)
	}
}

func TestLoadCountsWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	var c sample
	err := configs.Load("x.yaml", []byte("relay: r\nparts:\n"+strings.Repeat("  - {}\n", 150)), &c, nil)
	errs, ok := errors.AsType[configs.Errors](err)
	if !ok || len(errs) != 101 || errs[100].Message != "and 50 more errors" {
		t.Fatalf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const file = "relay: r\nparts:\n  - name: a\n    size: big\n  - name: b\n"
	var c sample
	err := configs.Load("x.yaml", []byte(file), &c, func(d *configs.Doc) {
		d.Errorf("$.parts[1].name", "b is taken")
		d.Errorf("parts[0].size", "must not be zero") // dropped: it could not be read
		d.Errorf("parts[1].size", "give a size")      // not in the file: its part is
		d.Errorf("wait", "give a wait")               // not in the file at all
		if !d.Has("parts[0].name") || d.Has("parts[1].size") || d.Has("wait") {
			t.Error("Has does not see what the file has")
		}
		if line, column := d.Position("parts[0].name"); line != 3 || column != 11 {
			t.Errorf("Position is %d:%d", line, column)
		}
	})
	want := []string{
		"x.yaml:1:1: give a wait",
		`x.yaml:4:11: "big" is not a size (write bytes, kB, MB, GB, or KiB, MiB, GiB: 100MB)`,
		"x.yaml:5:5: give a size",
		"x.yaml:5:11: b is taken",
	}
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
	if one, ok := errors.AsType[*configs.Error](err); !ok || one.Line != 1 {
		t.Errorf("errors.AsType gives %v", one)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]configs.Size{
		"0": 0, "1": 1, "7B": 7, "2kB": 2000, "2KB": 2000, "2KiB": 2048, "100MB": 100e6, "3 MiB": 3 << 20, "8GB": 8e9, "1TiB": 1 << 40,
		"9223372036854775807": 1<<63 - 1,
	} {
		got, err := configs.ParseSize(s)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
		if again, err := configs.ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%q prints as %q, which reads as %d, %v", s, got, again, err)
		}
	}
	for _, s := range []string{"", "MB", "-1", "+1", "1.5MB", "1mb", "9223372036854775808", "9223372036854776kB", "0x10", "1_000", "1 M B"} {
		if got, err := configs.ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", s, got)
		}
	}
	if got := configs.Size(100e6).String(); got != "100MB" {
		t.Errorf("100e6 prints as %q", got)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{"0": 0, "230s": 230 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "250ms": 250 * time.Millisecond} {
		if got, err := configs.ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "-1s", "+1s", "1 s", "999999999d", "d", "1.5d", "99999999h"} {
		if got, err := configs.ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", s, got)
		}
	}
}
