package tunnel

import (
	"net/http"
	"slices"
	"strings"
)

// A FlowID is one of the IDs that Power Platform gives its requests, in fields such as x-ms-workflow-run-id. Name is the
// field's, in lower case and without "x-ms-".
type FlowID struct{ Name, Value string }

// Bounds of what FlowIDs takes from a request. An environment's ID is a path of about 100 bytes; a platform sends about
// 15 of these fields.
const (
	maxFlowIDs   = 24
	maxFlowName  = 48
	maxFlowValue = 160
)

// FlowIDs are the IDs by which a person finds the flow's run behind a request, by name: x-ms-workflow-*, x-ms-client-*,
// x-ms-correlation-id and x-ms-action-tracking-id. Both sides write them into their records. They are what the caller
// says, proved by nothing. What is no plain text is left out, what is too long is cut.
func FlowIDs(h http.Header) []FlowID {
	var ids []FlowID
	for name, values := range h {
		rest, found := strings.CutPrefix(name, "X-Ms-")
		if !found || len(values) != 1 || len(rest) > maxFlowName || !isFlowID(rest) || !plainName(rest) {
			continue
		}
		if v := plainValue(values[0]); v != "" {
			ids = append(ids, FlowID{strings.ToLower(rest), v})
		}
	}
	slices.SortFunc(ids, func(a, b FlowID) int { return strings.Compare(a.Name, b.Name) })
	if len(ids) <= maxFlowIDs {
		return ids
	}
	// What a caller adds must not push out the two that name the run and the action.
	keep := make([]FlowID, 0, maxFlowIDs+2)
	for i, id := range ids {
		if i < maxFlowIDs || id.Name == "workflow-run-id" || id.Name == "workflow-name" {
			keep = append(keep, id)
		}
	}
	return keep
}

func isFlowID(rest string) bool {
	return strings.HasPrefix(rest, "Workflow-") || strings.HasPrefix(rest, "Client-") ||
		rest == "Correlation-Id" || rest == "Action-Tracking-Id"
}

func plainName(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	})
}

// plainValue is s, cut to its bound; "" if it has anything but printable ASCII in it, or what would need an escape.
func plainValue(s string) string {
	s = s[:min(len(s), maxFlowValue)]
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return ""
		}
	}
	return s
}
