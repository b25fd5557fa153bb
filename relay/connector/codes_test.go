package connector_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/connector"
)

var update = flag.Bool("update", false, "write docs/errors.md")

const errorsHead = `# Errors

When there is no answer from the API, the caller gets ` + "`application/problem+json`" + ` (RFC 9457):

` + "```json" + `
{
  "type": "urn:sallyport:problem:no-agent",
  "title": "No agent is linked",
  "status": 503,
  "detail": "No agent of this gateway is linked to the relay now. ...",
  "requestId": "T5B74TWD25HDXMEBHLMD32UVUI",
  "origin": "relay",
  "executed": "no",
  "error": {"code": "no-agent", "message": "No agent is linked: ..."}
}
` + "```" + `

- ` + "`error.code`" + ` is stable; branch on it. ` + "`error.message`" + ` is what Power Platform shows.
- ` + "`origin`" + ` says who refused or failed: ` + "`relay`, `agent` or `upstream`" + ` (the API, as the agent saw it).
- ` + "`executed: no`" + ` means that the API has certainly not run the request, so it can be repeated. ` + "`unknown`" + ` means that
  it may have.
- ` + "`requestId`" + ` is also the ` + "`X-Request-Id`" + ` of the answer, and finds the call in the relay's access log and in the agent's
  audit. Nothing internal is in an answer; the cause is in the logs.
- A repetition makes sense after ` + "`Retry-After`" + ` seconds, where that is given.

Answers without such a body come from the API itself, or from the HTTP parser, which refuses broken requests with a bare
400 or 431 before anybody can say more.

When an answer breaks off in the middle, the relay breaks off the connection (HTTP/1.1) or the stream (HTTP/2), so that a
part is never taken for the whole.

## Power Platform

Power Automate repeats 408, 429 and 5xx by itself, POST too. For its calls (` + "`x-ms-workflow-run-id`, or `User-Agent` with" + `
` + "`azure-logic-apps`" + `) a method that is not idempotent and whose outcome is unknown is therefore answered 409
` + "`outcome-unknown`" + `; each connector can choose to always or never have it so. The platform hangs up at 120 s; the relay
answers at 110 s and says so. For work that takes longer have the connector published
with ` + "`--async-after`" + `, or let the API answer 202 with a ` + "`Location`" + `, which the platform polls.

## Codes

| code | status | title | origin | what it means, what to do |
|---|---|---|---|---|
`

// TestErrorsDocument keeps docs/errors.md the same as the table: go test ./relay/connector -run ErrorsDocument -update
func TestErrorsDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString(errorsHead)
	for _, c := range connector.Codes() {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s | %s |\n", c.Name, c.Status, c.Title, c.Origin, c.Means)
	}
	const file = "../../docs/errors.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(got)); diff != "" {
		t.Errorf("docs/errors.md differs from the table (-table +file):\n%s", diff)
	}
}

func TestCodesAreDistinctAndComplete(t *testing.T) {
	var names []string
	for _, c := range connector.Codes() {
		if slices.Contains(names, c.Name) {
			t.Errorf("%s is there twice", c.Name)
		}
		names = append(names, c.Name)
		if c.Status < 400 || c.Status > 599 || c.Title == "" || c.Origin == "" || c.Means == "" {
			t.Errorf("incomplete: %+v", c)
		}
	}
}

// TestAgentCodesAreKnown reads the agent's sources, which this package must not import: each code that an agent says
// must be in the table, so that its status does not depend on the agent and docs/errors.md names it.
func TestAgentCodesAreKnown(t *testing.T) {
	status := map[string]int{}
	for _, c := range connector.Codes() {
		status[c.Name] = c.Status
	}
	said := regexp.MustCompile(`\bCode: "([a-z-]+)"|http\.(Status\w+), "([a-z-]+)",`)
	found := 0
	for _, file := range []string{"../../agent/exchange.go", "../../agent/upstream/problem.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range said.FindAllStringSubmatch(string(text), -1) {
			found++
			code := m[1] + m[3]
			if status[code] == 0 {
				t.Errorf("%s says %q, which is not in the table", file, code)
			} else if want := http.StatusText(status[code]); m[2] != "" && m[2] != "Status"+strings.ReplaceAll(want, " ", "") {
				t.Errorf("%s gives %s %s, the table %d %s", file, code, m[2], status[code], want)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d codes were found in the agent's sources: the pattern no longer fits them", found)
	}
}
