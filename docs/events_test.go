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
	var table strings.Builder
	table.WriteString("\n| ID | message begins | what it means, what to do |\n|---|---|---|\n")
	fmt.Fprintf(&table, "| %d, %d | any other | A warning, an error without an ID of its own. |\n", eventlog.OtherWarning, eventlog.OtherError)
	for _, e := range agent.Events() {
		fmt.Fprintf(&table, "| %d | `%s` | %s |\n", e.ID, e.Message, strings.ReplaceAll(e.About, "|", `\|`))
	}
	table.WriteString("\n")
	const page = "windows.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := []byte("<!-- events -->\n"), []byte("<!-- end of events -->")
	before, rest, ok1 := bytes.Cut(text, begin)
	got, after, ok2 := bytes.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the events", page)
	}
	if *update {
		whole := bytes.Join([][]byte{before, begin, []byte(table.String()), end, after}, nil)
		if err := os.WriteFile(page, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table.String(), string(got)); diff != "" {
		t.Errorf("the events in %s are not the agent's; run: go test ./docs -run TestEventsDocument -update\n%s", page, diff)
	}
}
