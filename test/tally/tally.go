package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// An event is one line of go test -json (see go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
}

// A result is what became of a test; of several runs the worst failure wins, then a pass.
type result int

const (
	unfinished result = iota // started, and its process ended before it did
	skipped
	passed
	failed
)

type key struct{ pkg, test string }

// maxOutput bounds what is kept, and shown, of one test's output: its end says most.
const maxOutput = 32 << 10

type tally struct {
	results map[key]result
	output  map[key]string
	current map[key]bool // started in the file being read and not finished yet
}

func newTally() *tally {
	return &tally{results: map[key]result{}, output: map[key]string{}}
}

// read merges one file.
func (t *tally) read(r io.Reader) error {
	t.current = map[key]bool{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "STEP "); ok {
			verdict, name, _ := strings.Cut(name, " ")
			t.settle(key{name, ""}, map[string]result{"pass": passed, "fail": failed, "skip": skipped}[verdict])
			continue
		}
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			continue // what a build or a tool printed in between
		}
		t.event(e)
	}
	for k := range t.current { // the process died in the middle of these
		t.settle(k, failed)
	}
	return lines.Err()
}

func (t *tally) event(e event) {
	if e.ImportPath != "" && e.Package == "" { // output of a build
		e.Package, _, _ = strings.Cut(e.ImportPath, " ")
	}
	k := key{e.Package, e.Test}
	switch e.Action {
	case "run":
		t.current[k] = true
	case "output", "build-output":
		if text := t.output[k] + e.Output; len(text) > maxOutput {
			t.output[k] = text[len(text)-maxOutput:]
		} else {
			t.output[k] = text
		}
	case "pass", "skip":
		delete(t.current, k)
		if e.Test != "" { // a package that passes is its tests, one that is skipped has none
			t.settle(k, map[string]result{"pass": passed, "skip": skipped}[e.Action])
		}
	case "fail":
		delete(t.current, k)
		if e.Test != "" || e.FailedBuild != "" || !t.failedIn(e.Package) {
			t.settle(k, failed)
		}
	}
}

// failedIn says whether a test of the package has failed or was cut short, so that the package's own failure is no news.
func (t *tally) failedIn(pkg string) bool {
	for k := range t.current {
		if k.pkg == pkg && k.test != "" {
			return true
		}
	}
	for k, r := range t.results {
		if k.pkg == pkg && k.test != "" && r == failed {
			return true
		}
	}
	return false
}

func (t *tally) settle(k key, r result) {
	t.results[k] = max(t.results[k], r)
}

// counted says whether k is a line of its own: not a test whose subtests are, unless it failed and none of them did.
func (t *tally) counted(k key, parents map[key]result) bool {
	worst, isParent := parents[k]
	return !isParent || (t.results[k] == failed && worst != failed)
}

// parents gives each test that has subtests, with the worst result among those.
func (t *tally) parents() map[key]result {
	worst := map[key]result{}
	for k, r := range t.results {
		for test := k.test; ; {
			i := strings.LastIndexByte(test, '/')
			if i < 0 {
				break
			}
			test = test[:i]
			p := key{k.pkg, test}
			worst[p] = max(worst[p], r)
		}
	}
	return worst
}

// report prints the failed tests with their output, the skipped ones, and the closing line.
func (t *tally) report(out io.Writer) error {
	parents := t.parents()
	count := map[result]int{}
	var names []key
	for k, r := range t.results {
		if t.counted(k, parents) {
			count[r]++
			names = append(names, k)
		}
	}
	slices.SortFunc(names, func(a, b key) int { return strings.Compare(a.pkg+" "+a.test, b.pkg+" "+b.test) })
	for _, k := range names {
		switch t.results[k] {
		case skipped:
			fmt.Fprintf(out, "SKIPPED %s %s\n%s", k.pkg, k.test, indent(t.output[k]))
		case failed:
			fmt.Fprintf(out, "FAILED  %s %s\n%s", k.pkg, k.test, indent(t.output[k]))
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", count[passed], count[failed], count[skipped])
	if count[failed] > 0 {
		return fmt.Errorf("%d tests failed", count[failed])
	}
	if count[passed] == 0 {
		return errors.New("nothing was tested")
	}
	return nil
}

// indent shifts the lines of a test's output, without go test's own marks.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if s := strings.TrimSpace(line); s == "" || strings.HasPrefix(s, "=== ") {
			continue
		}
		b.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}
