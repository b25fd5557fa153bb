package output

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestWhatCannotBePrintedIsNoSuccess(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if o := To(&b); o.Or(nil) != nil || b.Len() > 0 {
		t.Error("nothing was said")
	}
	r, full := io.Pipe()
	_ = r.CloseWithError(errors.New("no space left"))
	o := To(full)
	_, _ = o.Write([]byte("a key"))
	if err := o.Or(nil); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Or: %v", err)
	}
	if failed := errors.New("refused"); o.Or(failed) != failed {
		t.Error("what went wrong before is hidden")
	}
}
