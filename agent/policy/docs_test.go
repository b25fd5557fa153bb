package policy_test

import (
	"os"
	"strings"
	"testing"
)

// The tables of docs/policy.md are run, so that the manual cannot go stale.
func TestManual(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, headings := 0, 0
	for line := range strings.Lines(string(data)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "| rule | request | answer |"):
			headings++
			continue
		case !strings.HasPrefix(line, "| `"):
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) < 3 {
			t.Fatalf("cannot read the row %s", line)
		}
		rule, request := strings.Trim(cells[0], " `"), strings.Trim(cells[1], " `")
		method, target, ok := strings.Cut(request, " ")
		if !ok {
			t.Fatalf("no request in the row %s", line)
		}
		rows++
		v := compile(t, rule).Decide(method, target)
		if got := outcome(v); got != strings.TrimSpace(cells[2]) {
			t.Errorf("%s\nis answered %s (%s)", line, got, v.Reason)
		}
		if !v.Allowed && v.Admit != "" && !compile(t, v.Admit).Decide(method, target).Allowed {
			t.Errorf("%s\nthe rule %q does not admit it", line, v.Admit)
		}
	}
	if rows < 60 || headings != 7 {
		t.Errorf("read %d rows below %d headings: the manual has changed its form", rows, headings)
	}
}
