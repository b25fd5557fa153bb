package docs

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent"
	"sallyport/internal/eventlog"
)

// An admin looks an event up by its ID; the page has what the program has.
func TestEventsDocument(t *testing.T) {
	var logged, recorded strings.Builder
	logged.WriteString("\n| ID | message begins | what it means, what to do |\n|---|---|---|\n")
	fmt.Fprintf(&logged, "| %d, %d | any other | A warning, an error without an ID of its own. |\n", eventlog.OtherWarning, eventlog.OtherError)
	for _, e := range agent.Events() {
		fmt.Fprintf(&logged, "| %d | `%s` | %s |\n", e.ID, e.Message, strings.ReplaceAll(e.About, "|", `\|`))
	}
	recorded.WriteString("\n| ID | line | what it means, what to do |\n|---|---|---|\n")
	for _, e := range agent.RecordEvents() {
		fmt.Fprintf(&recorded, "| %d | %s | %s |\n", e.ID, e.Message, e.About)
	}
	table(t, "events", logged.String()+"\n")
	table(t, "record events", recorded.String()+"\n")
}

// table holds a table against what stands in the page between its marks; -update puts it there.
func table(t *testing.T, name, want string) {
	t.Helper()
	const page = "windows.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := []byte("<!-- "+name+" -->\n"), []byte("<!-- end of "+name+" -->")
	before, rest, ok1 := bytes.Cut(text, begin)
	got, after, ok2 := bytes.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the %s", page, name)
	}
	if *update {
		whole := bytes.Join([][]byte{before, begin, []byte(want), end, after}, nil)
		if err := os.WriteFile(page, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("the %s in %s are not the agent's; run: go test ./docs -run TestEventsDocument -update\n%s", name, page, diff)
	}
}
