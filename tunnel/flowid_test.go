package tunnel

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFlowIDs(t *testing.T) {
	t.Parallel()
	h := http.Header{
		"X-Ms-Workflow-Run-Id": {"0858"}, "X-Ms-Client-Object-Id": {strings.Repeat("a", 500)}, "X-Ms-Correlation-Id": {"c"},
		"X-Ms-Action-Tracking-Id": {"t"}, "X-Ms-Other": {"x"}, "X-Ms-Client-Twice": {"1", "2"}, "X-Ms-Client-Empty": {""},
		"X-Ms-Client-Bad": {"a\x1b[31m"}, "X-Ms-Client-Quote": {`a"b`}, "X-Ms-Client-Under_score": {"x"},
		"X-Ms-Client-" + strings.Repeat("n", 100): {"x"}, "Authorization": {"Bearer x"},
	}
	want := []FlowID{
		{"action-tracking-id", "t"}, {"client-object-id", strings.Repeat("a", maxFlowValue)}, {"correlation-id", "c"}, {"workflow-run-id", "0858"},
	}
	if diff := cmp.Diff(want, FlowIDs(h)); diff != "" {
		t.Error(diff)
	}
	for i := range 100 {
		h[fmt.Sprintf("X-Ms-Client-%d", i)] = []string{"x"}
	}
	ids := FlowIDs(h)
	if len(ids) > maxFlowIDs+2 || ids[len(ids)-1] != (FlowID{"workflow-run-id", "0858"}) {
		t.Errorf("%d IDs, the last %v: they are not bounded, or the run is lost", len(ids), ids[len(ids)-1])
	}
	if ids := FlowIDs(http.Header{"Accept": {"*/*"}}); ids != nil {
		t.Errorf("a plain request has %v", ids)
	}
}

// Whatever a caller sends, what goes into the records is short, plain text.
func FuzzFlowIDs(f *testing.F) {
	f.Add("X-Ms-Workflow-Run-Id", "0858")
	f.Add("X-Ms-Client-\x1b", "x")
	f.Add("X-Ms-Client-Object-Id", "a\"b\\c\n")
	f.Fuzz(func(t *testing.T, name, value string) {
		for _, id := range FlowIDs(http.Header{name: {value}}) {
			if id.Name == "" || len(id.Name) > maxFlowName || id.Value == "" || len(id.Value) > maxFlowValue ||
				strings.ContainsFunc(id.Name+id.Value, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
				t.Errorf("%q: %q gives %+v", name, value, id)
			}
		}
	})
}
