package hidden

import (
	"context"
	"io"
	"strings"
	"testing"
)

func TestReadsAllOfWhatIsNoTerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if got, err := Read(t.Context(), strings.NewReader("one\ntwo\n"), &out, "Secret: "); err != nil || got != "one\ntwo\n" || out.Len() > 0 {
		t.Errorf("%q, %v, prompt %q", got, err, &out)
	}
	if _, err := Read(t.Context(), strings.NewReader(strings.Repeat("x", limit+1)), &out, ""); err == nil || strings.Contains(err.Error(), "xx") {
		t.Errorf("too much: %v", err)
	}
}

func TestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := io.Pipe()
	defer w.Close()
	if _, err := Read(ctx, r, io.Discard, ""); err == nil || err.Error() != "interrupted" {
		t.Errorf("%v", err)
	}
}
